"""What the queue asks of the service that its commands are carried out against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class CredentialsCheck(Protocol):
    """Whether the service takes this worker's credentials: while not, nothing is claimed."""

    is_refused: bool

    async def enter(self, stopping: Callable[[], bool]) -> bool:
        """Returns once the credentials are taken or can't be asked for; False if told to stop."""
        ...

    async def examine(self) -> bool:
        """Asks after a refusal; returns whether it is the credentials that are refused."""
        ...

    async def aclose(self) -> None:
        """Asks no more."""
        ...
