"""How long the phases of an exchange may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Final

# Shorter than the idle timeouts of usual servers and load balancers, so that it is we who close.
KEEP_ALIVE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each phase of a request may take, in seconds.

    Attributes:
        connect: Until the connection stands, TLS included.
        read: Between two pieces of the reply; a long poll adds its own wait.
        write: Between two pieces of the request that the server takes.
        pool: For a free connection, and for opening it.
        body: For the body of the reply, once its head is there; what has not come then breaks off.
        total: For all of it, from the wait for a connection on.
        shortest: Of the phases in which the server is waited for.
    """

    connect: float = 5.0
    read: float = 120.0
    write: float = 60.0
    pool: float = 10.0
    body: float = inf
    total: float = inf
    shortest: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shortest", min(self.read, self.write, self.body))
