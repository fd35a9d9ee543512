"""The API's clock, as its `Date` shows it, and the time that signatures carry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from worker.clock import NOTABLE_SECONDS
from worker.encord.api.error_responses import read_date

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = structlog.get_logger(__name__)

# Reading a date costs microseconds; clocks drift by less than that matters meanwhile.
LOOK_SECONDS: Final = 60.0
# A `Date` is cut to the second: on average it is half a second old.
_CUT_SECONDS: Final = 0.5


class ApiClock:
    """Seconds since 1970 for signatures: this machine's clock, unless the API refuses that.

    A signature says when it was made, and the API refuses one that looks old or not yet valid. A
    401 whose `Date` is far from our time is taken for that: from then on we follow the API's clock.

    Args:
        wall: this machine's clock, in seconds since 1970.
        steady: seconds that never go back.

    Attributes:
        ahead_seconds: by how much the API's clock is ahead of this machine's; 0 until it is known.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._look_at = float("-inf")
        self._correction = 0.0
        self.ahead_seconds = 0.0

    def now(self) -> float:
        """Returns the time for a signature that is made now."""
        return self._wall() + self._correction

    def is_due(self, status: int) -> bool:
        """Tells whether `see` would look at a reply: at each refusal, else now and then."""
        return status == 401 or self._steady() >= self._look_at

    def see(self, status: int, headers: Mapping[str, str]) -> None:
        """Looks at a reply that has just come, if that is due."""
        if not self.is_due(status):
            return
        refused = status == 401
        self._look_at = self._steady() + LOOK_SECONDS
        date = read_date(headers.get("date", ""))
        if date is None:
            return
        self.ahead_seconds = date + _CUT_SECONDS - self._wall()
        if refused and abs(self.ahead_seconds - self._correction) > NOTABLE_SECONDS:
            self._correction = self.ahead_seconds
            log.warning("api.clock_followed", ahead_seconds=round(self._correction, 1))
