"""JSON with every integer that JSON can hold, not only those of 64 bits.

The API's `lossLog` is passed on as it came, and numbers of any length are valid JSON. orjson
refuses to write integers beyond 64 bits and reads them as the nearest float, so others stand in:
for writing only where it refuses, for it is several times faster.
"""

from __future__ import annotations

from typing import Any, Final

import jiter
import orjson
from pydantic_core import to_json


class RawJson:
    """A value that is JSON already; it may stand anywhere in what is encoded."""

    # No dataclass: orjson would take one apart.
    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


def encode_json(value: Any, *, pretty: bool = False) -> bytes:
    """Returns a value's JSON; what is no finite number becomes null.

    Args:
        value: JSON values, encoded ones too; UUIDs and datetimes are written as strings.
        pretty: over several lines, for people.

    Raises:
        TypeError: the value holds something that JSON has no word for.
    """
    try:
        return orjson.dumps(value, _fragment, orjson.OPT_INDENT_2 if pretty else None)
    except orjson.JSONEncodeError as exc:
        if "64-bit" not in str(exc):
            raise
    return to_json(
        value, indent=2 if pretty else None, inf_nan_mode="null", fallback=_value_of_encoded
    )


# No command has as many. pydantic takes up to two kilobytes for each, be it empty: 500 MB for a
# megabyte of nothing else.
MOST_CONTAINERS: Final = 20_000


def has_too_many_containers(text: bytes) -> bool:
    """Tells, without reading it, whether a JSON text may hold more lists and objects than that."""
    if len(text) <= 2 * MOST_CONTAINERS:
        return False
    return text.count(b"[") + text.count(b"{") > MOST_CONTAINERS


def most_values(text: bytes) -> int:
    """Returns how many values a JSON text has at most, without reading it.

    Each costs up to a hundred bytes once it is read, whatever it takes in the text.
    """
    return 1 + text.count(b",") + text.count(b"[") + text.count(b"{")


def decode_json(text: bytes) -> Any:
    """Returns the value of a JSON text, integers whole.

    Raises:
        ValueError: the text is not JSON.
    """
    return jiter.from_json(text, allow_inf_nan=False)


def _fragment(value: object) -> orjson.Fragment:
    if isinstance(value, RawJson):
        return orjson.Fragment(value.text)
    raise TypeError


def _value_of_encoded(value: object) -> Any:
    if isinstance(value, RawJson):
        return decode_json(value.text)
    raise TypeError(f"{type(value).__name__} has no JSON")
