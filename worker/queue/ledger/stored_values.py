"""Values that Redis holds, as far as they can be read: others may have written over them."""

from __future__ import annotations

from typing import Any, Final, TypeGuard, TypeVar

from schemas.json_text import decode_json

T = TypeVar("T")

# The last day of the year 9999: calendars end there.
_LAST_MOMENT_MS: Final = 253_402_214_400_000


def is_error(value: object) -> TypeGuard[dict[str, Any]]:
    """Tells whether something that was kept in Redis is an error that can be told."""
    if not isinstance(value, dict):
        return False
    problems = value.get("problems") or []
    return (
        isinstance(value.get("code"), str)
        and "message" in value
        and isinstance(problems, list)
        and all(isinstance(each, dict) and {"path", "message"} <= each.keys() for each in problems)
    )


def text_of(value: bytes) -> str:
    """Returns the text of what Redis holds, whatever it is."""
    return value.decode("utf-8", "replace")


def number_of(value: bytes | None) -> int:
    """Returns the number of what Redis holds, 0 where it is none."""
    try:
        return int(value or 0)
    except ValueError:
        return 0


def moment_of(milliseconds: float) -> int:
    """Returns a time that can be shown, whatever stands there."""
    return int(min(max(milliseconds, 0), _LAST_MOMENT_MS))


def json_of(value: bytes | None, kind: type[T]) -> T | None:
    """Returns the JSON value of what Redis holds, None where it is of no such kind."""
    try:
        found = None if value is None else decode_json(value)
    except ValueError:
        return None
    return found if isinstance(found, kind) else None
