"""The lead of a follower, as its process knows it: a lease that may end while nobody can tell."""

from __future__ import annotations

import asyncio
import time


class LeadLostError(Exception):
    """Another process leads the follower now, or Redis holds another position."""


class NotHandledError(Exception):
    """A handler did nothing, for its follower is to stop: the event is for the next leader."""


class Lead:
    """The lead of a follower, as long as it lasts.

    Attributes:
        token: higher than that of every leader before; scripts compare it with the one in the
            follower's hash.
        ending: set when the follower is to stop. A handler that waits for something else then
            raises `NotHandledError`.
    """

    def __init__(self, token: int, until: float) -> None:
        self.token = token
        self._until = until
        self._lost = False
        self.ending = asyncio.Event()
        self._kept = asyncio.Event()
        self._kept.set()

    @property
    def holds(self) -> bool:
        """Whether nobody else can lead at this moment."""
        return not self._lost and time.monotonic() < self._until

    def keep(self, until: float) -> None:
        """Notes that it lasts until then, by `time.monotonic`."""
        self._until = until
        self._kept.set()

    def lose(self) -> None:
        """Notes that it is over."""
        self._lost = True

    async def wait(self) -> None:
        """Returns once nobody else can lead: at once, unless Redis has been away for seconds."""
        while not self.holds:
            self._kept.clear()
            await self._kept.wait()
