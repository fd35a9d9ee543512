"""Pausing a lane: when nearly everything in it fails for good, the rest is better kept waiting.

A deploy with the wrong key, or a model that was deleted, would otherwise turn a whole backlog
into dead letters before anyone wakes up. While a lane is paused one of its commands is let
through from time to time, the probe; the first that succeeds resumes the lane.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from schemas.enums import Priority
from worker.queue.ledger.stored_values import moment_of, number_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

# A lane without any end for so long begins anew, whatever the settings say.
QUIET_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Pause:
    """A lane's pause: why, and when the next probe is let through (ms since the epoch).

    Attributes:
        code: of the error that the last command failed with; empty where nobody told.
    """

    lane: Priority
    reason: str
    next_probe_ms: int
    code: str = ""


class Lanes:
    """The pauses of a namespace."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def pause(
        self, lane: Priority, reason: str, probe_seconds: float, code: str = ""
    ) -> None:
        """Pauses a lane; a probe follows every `probe_seconds`."""
        seconds, microseconds = await self._redis.time()
        now = seconds * 1000 + microseconds // 1000
        probe_ms = int(probe_seconds * 1000)
        await self._redis.hset(
            self._keys.paused(lane),
            mapping={
                "reason": reason,
                "until": now + probe_ms,
                "probe_ms": probe_ms,
                "code": code,
            },
        )

    async def resume(self, lane: Priority) -> bool:
        """Resumes a lane; returns whether it was paused."""
        return bool(await self._redis.delete(self._keys.paused(lane)))

    async def paused(self) -> list[Pause]:
        """Returns the pauses."""
        found = []
        for lane in Priority:
            fields = cast("dict[bytes, bytes]", await self._redis.hgetall(self._keys.paused(lane)))
            # As those who claim read it: without a time it is none, one that is no number is over.
            if b"until" in fields:
                reason, code = (text_of(fields.get(name, b"")) for name in (b"reason", b"code"))
                probe_ms = moment_of(number_of(fields[b"until"]))
                found.append(Pause(lane, reason, probe_ms, code))
        return found


@dataclass(slots=True)
class _Ends:
    since: float
    last: float
    failed: int = 0
    succeeded: int = 0

    @property
    def total(self) -> int:
        return self.failed + self.succeeded


class FailureRateMonitor:
    """Watches which share of a lane's commands fails for good, and for how long.

    Both a number and a time are asked for: a batch of bad commands fails fast and is over, a
    deploy that fails everything goes on.

    Args:
        commands: fewer ends never pause a lane.
        seconds: a shorter time never pauses a lane.
        share: 0 to 1, of the ends that failed.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        *,
        commands: int,
        seconds: float,
        share: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._commands = commands
        self._seconds = seconds
        self._share = share
        self._clock = clock
        self._ends: dict[Priority, _Ends] = {}

    def count(self, lane: Priority, *, failed: bool) -> bool:
        """Counts an end; returns whether the lane should be paused now."""
        now = self._clock()
        ends = self._ends.get(lane)
        if ends is None or now - ends.last > max(self._seconds, QUIET_SECONDS):
            # What failed long before tells nothing of what fails now.
            ends = self._ends[lane] = _Ends(now, now)
        ends.last = now
        if failed:
            ends.failed += 1
        else:
            ends.succeeded += 1
        if ends.failed < self._share * ends.total:
            # Enough succeeds: whatever failed before this moment counts no more. The time begins
            # with the next end, or a batch that fails fast after a quiet hour would look long.
            del self._ends[lane]
            return False
        if ends.total < self._commands or now - ends.since < self._seconds:
            return False
        del self._ends[lane]
        return True
