"""JSON with every integer that JSON can hold.

orjson refuses to write integers beyond 64 bits and reads them as the nearest float. So Python's own
module does it where they may stand; it is several times slower.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

# The shortest integers that don't fit have nineteen digits.
_MAY_BE_LARGE: Final = re.compile(rb"\d{19}")


def encode(value: Any) -> bytes:
    """Returns a value's JSON.

    Raises:
        TypeError: it holds something that JSON has no word for.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as exc:
        if "64-bit" not in str(exc):
            raise
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def decode(text: bytes) -> Any:
    """Returns the value of a JSON text.

    Raises:
        ValueError: the text is not JSON.
    """
    return json.loads(text) if _MAY_BE_LARGE.search(text) else orjson.loads(text)
