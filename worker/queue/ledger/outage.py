"""One voice for Redis' trouble: a dozen loops miss it at once, and one line is enough."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from worker.queue.log_listener import LOGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.queue.telemetry import Listener

STILL_LOST_SECONDS: Final = 10.0
# A part that is silent for so long tries no more, or sleeps. Longer than the longest pause between
# two tries of a loop, or an outage would end while one still fails.
_SILENT_SECONDS: Final = 8.0
# The part of those who don't try again: any other's success ends it.
ONCE: Final = ""


class Outage:
    """Tells when Redis goes, every 10 s that it is still gone, and when it is back.

    Every part that talks to Redis says what became of its calls. Redis counts as back once every
    part that missed it has got through again. Not for more than one thread.

    Args:
        lost: the event that the first line has.
        telemetry: whoever is told.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        lost: str = "redis.lost",
        clock: Callable[[], float] = time.monotonic,
        telemetry: Listener = LOGS,
    ) -> None:
        self._lost = lost
        self._telemetry = telemetry
        self._clock = clock
        self._failing: dict[str, float] = {}
        self._since = 0.0
        self._tell_at = 0.0

    @property
    def lasts(self) -> bool:
        """Whether Redis counts as lost."""
        return bool(self._failing)

    def failed(self, part: str, exc: BaseException) -> None:
        """A call failed, with trouble that passes."""
        now = self._clock()
        first = not self._failing
        self._failing[part] = now
        if first:
            self._since = now
        elif now < self._tell_at:
            return
        self._tell_at = now + STILL_LOST_SECONDS
        error, kind = " ".join(str(exc).split()), type(exc).__name__
        if first:
            self._telemetry.redis_lost(self._lost, part, error, kind)
        else:
            parts = sorted(self._failing.keys() - {ONCE})
            self._telemetry.redis_still_lost(parts, error, kind, now - self._since)

    def worked(self, part: str) -> None:
        """A call of a part that failed before got through; free of cost where none did."""
        if not self._failing:
            return
        now = self._clock()
        self._failing = {
            name: at
            for name, at in self._failing.items()
            if name not in {part, ONCE} and now - at < _SILENT_SECONDS
        }
        if not self._failing:
            self._telemetry.redis_back(now - self._since)
