"""JSON with every integer that JSON can hold.

orjson refuses to write integers beyond 64 bits and reads them as the nearest float. So Python's own
module does it where they may stand; it is several times slower.
"""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

# The shortest integers that don't fit have nineteen digits. With all digits made the same these are
# found ten times as fast as by a regular expression.
_SAME_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
_MAY_BE_LARGE: Final = b"0" * 19


def encode(value: Any) -> bytes:
    """Returns a value's JSON.

    Raises:
        TypeError: it holds something that JSON has no word for.
        ValueError: it holds a number that is none, or infinite.
    """
    try:
        text = orjson.dumps(value)
    except orjson.JSONEncodeError as exc:
        if "64-bit" not in str(exc):
            raise
        text = json.dumps(
            value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
    else:
        if b"null" in text:
            # orjson writes NaN as null, which says that there is no value.
            json.dumps(value, default=_plain, allow_nan=False)
    return text


def decode(text: bytes) -> Any:
    """Returns the value of a JSON text.

    Raises:
        ValueError: the text is not JSON.
    """
    if _MAY_BE_LARGE not in text.translate(_SAME_DIGITS):
        return orjson.loads(text)
    # Python's module takes what orjson does not, and what could not be written again.
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError as exc:
        raise ValueError("the text is nested too deeply") from exc
    if b"\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _plain(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
