"""What `doctor` finds: one line each, with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
        return Finding(check, Level.OK, f"{who} agrees to {_CLOCK_WARN_SECONDS:g} s")
    level = Level.WARN if apart <= _CLOCK_FAIL_SECONDS else Level.FAIL
    return Finding(
        check,
        level,
        f"{who} is about {abs(ahead_seconds):.0f} s {side} this machine's",
        "set both clocks by NTP: signatures carry our time, deadlines are judged by Redis' clock",
    )


# A few seconds shorten a deadline by just that; more makes signatures look old or not yet valid.
_CLOCK_WARN_SECONDS = 2.0
_CLOCK_FAIL_SECONDS = 60.0
