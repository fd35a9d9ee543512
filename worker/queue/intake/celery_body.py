"""The body of a Celery message: unpacked within a bound, and with the types of kombu's JSON."""

from __future__ import annotations

import base64
import binascii
import bz2
import lzma
import math
import zlib
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from schemas.parsing import MAX_COMMAND_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

# A command of 1 MiB may come with every character escaped, and with what Celery puts around it.
MOST_BODY_BYTES: Final = 8 * MAX_COMMAND_BYTES
# Such a body in base64, and what stands around it.
MOST_MESSAGE_BYTES: Final = MOST_BODY_BYTES * 4 // 3 + MAX_COMMAND_BYTES


# Python writes no number of more than 4,300 digits.
_MOST_DIGITS: Final = 1_000


class BodyError(ValueError):
    """A body that can't be read; says why, and what to set."""


def decoded_body(body: str, encoding: object, compression: object) -> bytes:
    """Returns the bytes of a body.

    Raises:
        BodyError: it is no base64, is not packed as it says, or is too large.
    """
    raw = body.encode("utf-8", "surrogatepass")
    if encoding == "base64":
        try:
            raw = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise BodyError("must be base64") from exc
    if compression is None:
        return raw
    unpack = _UNPACKERS.get(compression) if isinstance(compression, str) else None
    if unpack is None:
        known = "gzip, bzip2, lzma, zstd" if _zstd else "gzip, bzip2, lzma"
        later = "" if _zstd else "; zstd needs a worker on Python 3.14"
        raise BodyError(
            f"is packed by {str(compression)[:40]}: set the compression to {known}, or none{later}"
        )
    try:
        unpacked = unpack(raw)
    except _PACKING_ERRORS as exc:
        raise BodyError(f"is not packed by {compression}, as its headers say") from exc
    if len(unpacked) > MOST_BODY_BYTES:
        raise BodyError(f"has more than {MOST_BODY_BYTES} bytes once it is unpacked")
    return unpacked


def _zlib(raw: bytes) -> bytes:
    # 32 more than the window's 15 bits: the head tells whether it is zlib's or gzip's.
    return zlib.decompressobj(47).decompress(raw, MOST_BODY_BYTES + 1)


def _find_zstd() -> ModuleType | None:
    try:
        return import_module("compression.zstd")
    except ImportError:
        return None


_zstd: Final = _find_zstd()
_PACKING_ERRORS: Final[tuple[type[Exception], ...]] = (
    ValueError,
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    *((_zstd.ZstdError,) if _zstd else ()),
)
_UNPACKERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "application/x-gzip": _zlib,
    "application/x-bz2": lambda raw: bz2.BZ2Decompressor().decompress(raw, MOST_BODY_BYTES + 1),
    "application/x-lzma": lambda raw: lzma.LZMADecompressor().decompress(raw, MOST_BODY_BYTES + 1),
}
if _zstd is not None:
    _Unpacker = _zstd.ZstdDecompressor
    _UNPACKERS["application/zstd"] = lambda raw: _Unpacker().decompress(raw, MOST_BODY_BYTES + 1)


def of_python(value: object) -> Any:
    """Returns the JSON of a value that kombu has read: what `plain` makes of the same mark."""
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return _number(str(value))
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return base64.b64encode(value).decode()
        case _:
            return str(value)


def plain(value: Any) -> Any:
    """Returns a value in which kombu's marks for types of Python are the JSON that they mean.

    Source: kombu.utils.json, `{"__type__": "uuid", "__value__": {"hex": "…"}}` and so on.
    """
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"__type__", "__value__"}:
        return _unmarked(value)
    return {name: plain(each) for name, each in value.items()}


def _unmarked(marked: dict[str, Any]) -> Any:
    match marked:
        case {"__type__": "uuid", "__value__": {"hex": str(digits)}} if len(digits) == 32:
            parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
            return "-".join(parts)
        case {
            "__type__": "datetime" | "date" | "time" | "bytes" | "base64",
            "__value__": str(text),
        }:
            return text
        case {"__type__": "decimal", "__value__": str(text)}:
            return _number(text)
        case _:
            return marked


def _number(text: str) -> Any:
    if len(text) > _MOST_DIGITS:
        return text
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    if not number.is_finite():
        return text
    if "." not in text and "e" not in text.lower():
        return int(number)
    # JSON has no word for what no float can be.
    return found if math.isfinite(found := float(number)) else text
