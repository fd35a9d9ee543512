"""What a check of `doctor` finds: one line, with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from redis.exceptions import NoPermissionError

if TYPE_CHECKING:
    from collections.abc import Awaitable


# A few seconds shorten a deadline by just that; more makes signatures look old or not yet valid.
_CLOCK_WARN_SECONDS: Final = 2.0
_CLOCK_FAIL_SECONDS: Final = 60.0


class Level(StrEnum):
    """How bad it is: `fail` keeps a worker from working, `warn` may do so later."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: a stable name, like `redis.policy`.
        advice: what to do about it; empty where there is nothing to do.
    """

    check: str
    level: Level
    message: str
    advice: str = ""


def judge_clock(check: str, ahead_seconds: float, uncertain_seconds: float, who: str) -> Finding:
    """Returns whether another clock agrees with ours.

    Args:
        check: the name of the finding.
        ahead_seconds: how far the other clock is ahead of ours.
        uncertain_seconds: how wrong that may be: half the time of the request, and rounding.
        who: whose clock it is.
    """
    apart = max(abs(ahead_seconds) - uncertain_seconds, 0.0)
    side = "ahead of" if ahead_seconds > 0 else "behind"
    if apart <= _CLOCK_WARN_SECONDS:
        return Finding(check, Level.OK, f"{who} agrees within {_CLOCK_WARN_SECONDS:g} s")
    level = Level.WARN if apart <= _CLOCK_FAIL_SECONDS else Level.FAIL
    return Finding(
        check,
        level,
        f"{who} is about {abs(ahead_seconds):.0f} s {side} this machine's",
        "set both clocks by NTP: signatures carry our time, deadlines are judged by Redis' clock",
    )


async def permitted(check: str, look: Awaitable[list[Finding]]) -> list[Finding]:
    """Returns what a check finds, or that this Redis user may not look."""
    try:
        return await look
    except NoPermissionError as exc:
        advice = "a Redis user with more rights can check it: trainmaster doctor --redis-url URL"
        return [Finding(check, Level.WARN, f"not checked: {exc}", advice)]
