"""Redis' clock, which may go back: what was stored before would be due too late by as much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.queue.ledger.lua import load_script

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

# A server's clock that is set by NTP goes back by less; nothing is late by more for it.
CLOCK_SLACK_MS: Final = 2_000
# The latest time is recorded no more often; each record costs a write.
CLOCK_RECORD_MS: Final = 5_000
# Rows that one script moves: more would hold Redis for milliseconds.
PAGE: Final = 500


class RedisClock:
    """The clock of one namespace's server.

    Args:
        lease_seconds: leases end that long after they were moved at the latest.
    """

    def __init__(self, redis: Redis, keys: Keys, *, lease_seconds: float) -> None:
        self._keys = keys
        self._lease_ms = int(lease_seconds * 1000)
        self._mind_clock = load_script(redis, "mind_clock")
        self._move_back = load_script(redis, "move_back")

    async def mind(self, moved_ms: int = 0) -> tuple[int, int]:
        """Returns Redis' time (ms), and by how much it went back since somebody asked (ms).

        Args:
            moved_ms: by how much `move_back` has moved everything since.
        """
        now, back = await self._mind_clock(
            keys=[self._keys.clock], args=[CLOCK_SLACK_MS, CLOCK_RECORD_MS, moved_ms]
        )
        return now, back

    async def move_back(self, milliseconds: int) -> int:
        """Moves due times that were stored before the clock went back; returns how many."""
        keys = self._keys
        # The latest time seen may not be the latest that there was: sooner does no harm.
        milliseconds += CLOCK_RECORD_MS
        total = 0
        for due in (keys.due_interactive, keys.due_bulk, keys.due_suspect):
            start, skipped = "0", 0
            while start:
                following, skipped, moved = await self._move_back(
                    keys=[due],
                    args=[keys.prefix, milliseconds, self._lease_ms, start, skipped, PAGE],
                )
                start = following.decode()
                total += moved
        return total
