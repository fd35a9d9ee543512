"""How an endpoint does: a circuit breaker whose probes are the events that wait.

That of the queue (`worker.queue.circuit_breaker`) asks its API for something harmless. An endpoint
can be asked for nothing: it only takes events.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.sinks.delivery_policy import DeliveryPolicy


class EndpointHealth:
    """Whether an endpoint is down, when it is probed next, and how long it wants to be left alone.

    Args:
        policy: how many failures in a row make it count as down, and the pauses between probes.
        clock: seconds that only go forward.
    """

    def __init__(self, policy: DeliveryPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forgets all: the endpoint counts as up."""
        self._failures = self._probes = 0
        self._probe_at = self._rest_until = 0.0

    @property
    def is_down(self) -> bool:
        """Whether nothing but probes is sent."""
        return bool(self._probe_at)

    @property
    def probe_seconds(self) -> float:
        """Until the next probe of an endpoint that is down; not above 0 once it is due."""
        return self._probe_at - self._clock()

    @property
    def rest_seconds(self) -> float:
        """For which it still wants to be left alone; not above 0 where it does not."""
        return self._rest_until - self._clock()

    def succeeded(self) -> bool:
        """Notes a delivery; returns whether the endpoint was down until then."""
        was_down = self.is_down
        self._failures = self._probes = 0
        self._probe_at = 0.0
        return was_down

    def failed(self, retry_after_seconds: float = 0.0) -> bool:
        """Notes a failure; returns whether it is the one after which an endpoint counts as down."""
        self._failures += 1
        if retry_after_seconds:
            self._rest_until = max(self._rest_until, self._clock() + retry_after_seconds)
        return self._failures >= self._policy.down_after and not self.is_down

    def probe_later(self) -> None:
        """Has the endpoint count as down until a delivery; the next probe comes after a pause."""
        self._probe_at = self._clock() + self._policy.probe_pause(self._probes)
        self._probes += 1
