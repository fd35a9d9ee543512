"""How a sink stands, as its leader knows it: what it counts, and whether somebody has paused it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS

if TYPE_CHECKING:
    from worker.sinks.deferred import SinkState, SinkStore

ERROR_CHARACTERS: Final = 500


class Standing:
    """What is told to Redis now and then, and what others have told there meanwhile.

    Args:
        store: of the sink.

    Attributes:
        paused: why nothing is sent; empty while something is.
        resumed_at_ms: when it was resumed last; tries count from then.
        delivered_at_ms: when something was taken last.
    """

    def __init__(self, store: SinkStore) -> None:
        self._store = store
        self._counts: dict[str, int] = {}
        self._fields: dict[str, str | int] = {}
        self._generation = -1
        self.paused = ""
        self.resumed_at_ms = 0
        self.delivered_at_ms = 0

    async def load(self) -> None:
        """Reads how the sink stood under the leader before.

        Raises:
            RedisError: Redis is away.
        """
        state = await self._store.state()
        self.paused, self.resumed_at_ms = state.paused, state.resumed_at_ms
        self.delivered_at_ms = state.last_delivered_at_ms
        self._generation = state.generation

    def delivered(self) -> None:
        """Counts an event that was taken."""
        self._count("delivered")
        self.delivered_at_ms = self._fields["last_delivered_at"] = now_ms()

    def failed(self, error: str) -> None:
        """Counts an attempt that failed."""
        self._count("failed")
        self._fields |= {"last_error": error[:ERROR_CHARACTERS], "last_error_at": now_ms()}

    def pause(self, reason: str) -> None:
        """Pauses the sink: at once here, and with the next report for all."""
        # As it is read back; another text would be somebody else's pause.
        self.paused = reason[:ERROR_CHARACTERS]
        self._fields |= {"paused": self.paused, "paused_at": now_ms()}

    async def report(self) -> SinkState:
        """Tells Redis what was counted since the last report; returns how the sink stands there.

        Raises:
            RedisError: Redis is away; the next report tells all of it.
        """
        counts, fields = self._counts, self._fields
        self._counts, self._fields = {}, {}
        try:
            return await self._store.report(counts, fields)
        except RETRYABLE_REDIS_ERRORS:
            for name, more in self._counts.items():
                counts[name] = counts.get(name, 0) + more
            self._counts, self._fields = counts, fields | self._fields
            raise

    def take_pause(self, state: SinkState) -> bool:
        """Takes over what somebody else did about a pause; returns whether anybody did."""
        # A pause of our own that is not told yet is newer than what was read.
        if "paused" in self._fields or state.paused == self.paused:
            return False
        self.paused = state.paused
        if not self.paused:
            self.resumed_at_ms = state.resumed_at_ms
        return True

    def take_generation(self, state: SinkState) -> bool:
        """Notes which events wait; returns whether some wait again that could not be sent."""
        has_changed = state.generation != self._generation
        self._generation = state.generation
        return has_changed

    def _count(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1


def now_ms() -> int:
    """Returns the time in ms since the epoch."""
    return int(time.time() * 1000)
