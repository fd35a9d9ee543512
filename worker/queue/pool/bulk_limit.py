"""How many bulk commands may run while interactive ones come.

A busy core is not made faster by more runs at once: each waits for its turn on the loop, and
interactive commands wait with them, 0.3 s beside 512 runs where 0.08 are enough. So while they come
bulk commands get as many slots as let the loop come round in time; where the API is what is slow,
that is all of them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

# By how much the loop may be late on average, by its own work. A command goes through it about ten
# times. At 3 ms bulk commands lose a tenth more, at 6 interactive ones take a fifth longer.
LAG_SECONDS: Final = 0.004
# So long after the last interactive command bulk ones get all slots again.
QUIET_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.01
# Of one look in the average.
_WEIGHT: Final = 0.1
# Down fast, up slowly: what comes too late has waited already.
_LESS: Final = 0.95
_STEPS_UP: Final = 1024


class BulkLimit:
    """Additive increase, multiplicative decrease, by how late the loop comes round.

    It looks at the loop only where bulk commands run while interactive ones come: a hundred looks a
    second take a hundredth of a core.

    Args:
        slots: of the process, and the limit while no interactive command comes.
        least: the limit falls no lower, for the loop may be late for other reasons.
        quiet_seconds: without an interactive command, after which there is no limit.
    """

    def __init__(self, slots: int, least: int, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._slots = slots
        self._least = least
        self._quiet_seconds = quiet_seconds
        self._limit = float(slots)
        self._lag_seconds = 0.0
        self._ends_at = 0.0
        self._bulk_running = 0
        self._look: asyncio.TimerHandle | None = None

    @property
    def value(self) -> int:
        """How many bulk commands may run."""
        return int(self._limit) if self._is_on else self._slots

    @property
    def is_looking(self) -> bool:
        """Whether a timer looks at the loop."""
        return self._look is not None

    @property
    def _is_on(self) -> bool:
        return time.monotonic() < self._ends_at

    def saw_interactive(self) -> None:
        """Notes that an interactive command begins to run, on the loop that is looked at."""
        self._ends_at = time.monotonic() + self._quiet_seconds
        self._begin_to_look()

    def saw_bulk(self, running: int) -> None:
        """Notes how many bulk commands run now."""
        self._bulk_running = running
        self._begin_to_look()

    def observe(self, lag_seconds: float) -> None:
        """Takes by how much one look at the loop was late."""
        self._lag_seconds += _WEIGHT * (lag_seconds - self._lag_seconds)
        if self._lag_seconds > LAG_SECONDS:
            self._limit = max(self._least, self._limit * _LESS)
        else:
            self._limit = min(self._slots, self._limit + self._slots / _STEPS_UP)

    def _begin_to_look(self) -> None:
        if self._look is None and self._bulk_running and self._is_on:
            self._lag_seconds = 0.0
            self._look_later()

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(
            _LOOK_SECONDS, self._look_now, time.monotonic(), time.thread_time()
        )

    def _look_now(self, begun: float, worked: float) -> None:
        now = time.monotonic()
        took = now - begun
        # Where others have the core, fewer runs of ours would not help: only our own work counts.
        own_share = min(1.0, (time.thread_time() - worked) / took)
        self.observe(max(0.0, took - _LOOK_SECONDS) * own_share)
        if self._bulk_running and self._is_on:
            self._look_later()
        else:
            self._look = None
