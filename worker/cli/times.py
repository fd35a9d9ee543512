"""Times on the command line: spans like `1h30m`, moments like `2026-01-31T12:00:00Z`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click
from pydantic import TypeAdapter, ValidationError

from schemas import attributes

if TYPE_CHECKING:
    from click import Context, Parameter

_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_SPAN: Final = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+", re.ASCII)
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([dhms])", re.ASCII)
_SECONDS: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_TIMESTAMP: Final = TypeAdapter[datetime](attributes.Timestamp)


class Duration(click.ParamType[timedelta]):
    """A length of time: `90`, `90s`, `1h30m`, `7d`."""

    name = "span"

    def convert(
        self, value: str | timedelta, param: Parameter | None, ctx: Context | None
    ) -> timedelta:
        """Returns the span; anything else is wrong usage."""
        if isinstance(value, timedelta):
            return value
        span = parse_span(value)
        if span is None:
            self.fail(f"{value!r} is no span of time like 90s, 1h30m or 7d", param, ctx)
        return span


class Timestamp(click.ParamType[datetime]):
    """A moment: RFC 3339, or a span before or after now.

    Args:
        sign: -1 for a span that lies in the past, 1 for one that lies ahead.
    """

    name = "time"

    def __init__(self, sign: int) -> None:
        self._sign = sign

    def convert(
        self, value: str | datetime, param: Parameter | None, ctx: Context | None
    ) -> datetime:
        """Returns the moment; anything else is wrong usage."""
        if isinstance(value, datetime):
            return value
        span = parse_span(value)
        try:
            if span is not None:
                return datetime.now(UTC) + self._sign * span
            return _TIMESTAMP.validate_python(value)
        except (ValidationError, OverflowError):
            self.fail(
                f"{value!r} is no time like 2026-01-31T12:00:00Z, and no span like 10m", param, ctx
            )


SPAN: Final = Duration()
PAST: Final = Timestamp(-1)
AHEAD: Final = Timestamp(1)


def parse_span(text: str) -> timedelta | None:
    """Returns the span that a text names, None where it names none."""
    try:
        if _SECONDS.fullmatch(text):
            return timedelta(seconds=float(text))
        if not _SPAN.fullmatch(text):
            return None
        parts = _PART.findall(text)
        return sum(
            (timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta()
        )
    except OverflowError:
        return None


def milliseconds(moment: datetime) -> int:
    """Returns a moment as Redis' streams count it."""
    return int(moment.timestamp() * 1000)


def show_span(seconds: float) -> str:
    """Returns a span for people, to about two digits: `0.4s`, `12s`, `3m05s`, `2h10m`, `6d4h`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600}h"


def show_moment(at_ms: int) -> str:
    """Returns milliseconds since 1970 as a time in UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
