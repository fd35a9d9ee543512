"""What the values of a source's row mean as parameters of an item.

Tables say numbers as text, pandas says whole numbers as `0.0` and nothing as NaN, Parquet has types
that JSON lacks. What can be meant in one way only is taken so; all else is the row's problem.
"""

from __future__ import annotations

import base64
import math
import re
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

_INTEGER: Final = re.compile(r"([+-]?\d{1,18})(?:\.0*)?")
WHOLE_NUMBERS: Final = frozenset({"frame_range_from", "frame_range_to"})
NUMBERS: Final = frozenset({"conf_thresh", "iou_thresh", "rdp_thresh"})
BOOLEAN: Final = "allocation_enabled"
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "1", "1.0", "yes"), True),
    **dict.fromkeys(("false", "0", "0.0", "no"), False),
}
# How tables write that there is no value.
_NOTHING: Final = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})
_UUID_BYTES: Final = 16
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/\s]*={0,2}\s*")


def meant(name: str, value: Any, *, is_text: bool) -> Any:
    """Returns a parameter of an item as JSON has it; None where there is no value.

    Args:
        name: of the parameter.
        value: as the source has it.
        is_text: whether it is text of a table, and the parameter may be something else.

    Raises:
        ValueError: it is no such value; the message follows the parameter's name.
    """
    if name in WHOLE_NUMBERS or name in NUMBERS or name == BOOLEAN:
        return _of_number(name, value, is_text=is_text)
    if isinstance(value, str):
        text = value.strip() if is_text else value
        # A file may have such a name, no item of the project has such a UUID.
        is_nothing = text.strip().lower() in _NOTHING if name == "data_uuid" else not text
        return None if is_nothing else text
    return _of_text(name, value)


def _of_number(name: str, value: Any, *, is_text: bool) -> Any:
    if isinstance(value, str):
        if value.strip().lower() in _NOTHING:
            return None
        return _from_text(name, value.strip()) if is_text else value
    if isinstance(value, Decimal):
        # No remainder: of one with more than 28 digits Decimal tells none.
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if math.isinf(value):
            raise ValueError("must be a finite number")
        if name in WHOLE_NUMBERS and value.is_integer():
            return int(value)
    if name == BOOLEAN and isinstance(value, int | float) and value in {0, 1}:
        return bool(value)
    if isinstance(value, bool | int | float):
        return value
    raise _no_type(value, "a number" if name != BOOLEAN else "true or false")


def _of_text(name: str, value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return _from_bytes(name, value)
    if value is None or isinstance(value, bool | int | float):
        # What is wrong with it is told in the schema's words.
        return value
    raise _no_type(value, "text")


def _from_bytes(name: str, value: bytes) -> str:
    if name == "data_uuid" and len(value) == _UUID_BYTES:
        return str(UUID(bytes=value))
    if name == "data_base64" and not _BASE64.fullmatch(value):
        return base64.b64encode(value).decode("ascii")
    try:
        # A column of a fixed width is filled up with zeros.
        return value.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise ValueError("must be text in UTF-8, and is bytes") from None


def _from_text(name: str, text: str) -> Any:
    if name in WHOLE_NUMBERS:
        found = _INTEGER.fullmatch(text)
        if found is None:
            raise ValueError(f"must be a whole number, not {text[:40]!r}")
        return int(found[1])
    if name in NUMBERS:
        try:
            # Python reads 0_1 as 1.
            number = float(text.replace("_", "?"))
        except ValueError:
            raise ValueError(f"must be a number, not {text[:40]!r}") from None
        if not math.isfinite(number):
            raise ValueError(f"must be a finite number, not {text[:40]!r}")
        return number
    if text.lower() not in _BOOLEANS:
        raise ValueError(f"must be true or false, not {text[:40]!r}")
    return _BOOLEANS[text.lower()]


def _no_type(value: object, wanted: str) -> ValueError:
    kind = type(value).__name__
    called = {"dict": "a structure", "list": "a list", "bytes": "bytes"}.get(kind, f"a {kind}")
    return ValueError(f"must be {wanted}, and is {called}")
