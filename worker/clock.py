"""The time by which everything is judged: Redis' clock, as far as this process knows it.

A machine whose own clock is an hour fast would fail every deadline. So a process learns by how much
Redis' clock differs from a clock of its own that never jumps, and reads only that one between two
looks. Nothing is asked for a single command.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# More shortens deadlines noticeably and may make signatures look old.
NOTABLE_SECONDS: Final = 3.0


class Clock:
    """Seconds since 1970 by Redis' clock; until it is known, by this machine's.

    Args:
        wall: this machine's clock, in seconds since 1970.
        steady: seconds that never go back.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()

    def now(self) -> float:
        """Returns the time."""
        return self._steady() + self._offset

    def steady(self) -> float:
        """Returns the time of the clock that never goes back, for `learn`."""
        return self._steady()

    def learn(self, told: float, begun: float, ended: float) -> None:
        """Learns what Redis' clock is.

        Args:
            told: what it showed between the two.
            begun: `steady` before it was asked.
            ended: `steady` after it had answered.
        """
        offset = told - (begun + ended) / 2
        # Within what the way takes, the offset that is known is as good as any.
        if abs(offset - self._offset) > (ended - begun) / 2:
            self._offset = offset

    @property
    def ahead_seconds(self) -> float:
        """By how much Redis' clock is ahead of this machine's."""
        return self.now() - self._wall()


class ClockAlarm:
    """Tells when another clock is noted to differ: at once, then now and then while it does.

    Args:
        steady: seconds that never go back.
        again_seconds: between two tellings of the same.
    """

    def __init__(
        self, steady: Callable[[], float] = time.monotonic, again_seconds: float = 600.0
    ) -> None:
        self._steady = steady
        self._again_seconds = again_seconds
        self._told: dict[str, tuple[float, float]] = {}

    def is_due(self, whose: str, ahead_seconds: float) -> bool:
        """Returns whether to tell of the difference now, and counts that as done."""
        if abs(ahead_seconds) <= NOTABLE_SECONDS:
            self._told.pop(whose, None)
            return False
        now = self._steady()
        at, ahead = self._told.get(whose, (float("-inf"), 0.0))
        if now - at < self._again_seconds and abs(ahead - ahead_seconds) <= NOTABLE_SECONDS:
            return False
        self._told[whose] = (now, ahead_seconds)
        return True
