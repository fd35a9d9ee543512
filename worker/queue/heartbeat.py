"""The sign of life of something that goes round and round."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Heartbeat:
    """When a loop came round last; any thread may ask.

    The clock goes on while a process is stopped, so what it shows then is as old as it is.

    Args:
        name: of what beats.
        limit_seconds: silent for longer it counts as dead.
        clock: seconds that never go back.
    """

    def __init__(
        self, name: str, limit_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.limit_seconds = limit_seconds
        self._clock = clock
        self._at: float | None = None
        self._is_retired = False

    def beat(self) -> None:
        """Shows that it lives, and is watched from now on."""
        if not self._is_retired:
            self._at = self._clock()

    def retire(self) -> None:
        """Ends the watch for good: what beats is about to end."""
        self._is_retired = True
        self._at = None

    def rest(self) -> None:
        """Ends the watch: it has not begun, or has ended on purpose."""
        self._at = None

    @property
    def age_seconds(self) -> float | None:
        """How long ago it beat; None while nobody expects it to."""
        at = self._at
        return None if at is None else self._clock() - at

    @property
    def is_late(self) -> bool:
        """Whether it counts as dead."""
        age = self.age_seconds
        return age is not None and age > self.limit_seconds
