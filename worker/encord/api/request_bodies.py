"""Bodies of requests, byte for byte as the SDK's.

They have its order of keys and its JSON encoding; a key whose value is None is left out.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

# With blanks after separators and everything but ASCII escaped, as the SDK's requests are.
_encode = json.JSONEncoder(allow_nan=False).encode


def request_body(**parameters: object) -> bytes:
    """Returns a JSON object of the parameters that are not None, in their order.

    Args:
        parameters: what JSON can hold; bytes are a text in base64.

    Raises:
        ValueError: a number is not finite.
    """
    parts: list[bytes] = []
    for name, value in parameters.items():
        if value is None:
            continue
        parts += (b", " if parts else b"{", b'"%s": ' % name.encode())
        # Base64 that is bytes already is as large as a picture: it is copied into the body only.
        parts += (b'"', value, b'"') if isinstance(value, bytes) else (_value(value),)
    return b"".join((*parts, b"}")) if parts else b"{}"


def text_of(value: object) -> str | None:
    """Returns a value as text; None stays None."""
    return None if value is None else str(value)


def texts_of(values: Iterable[object] | None) -> list[str] | None:
    """Returns values as texts; None stays None."""
    return None if values is None else [str(value) for value in values]


def _value(value: object) -> bytes:
    """The encoder's bytes, for a prediction's parameters several times as fast as it is."""
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, str) and value.isascii() and "\x7f" not in value:
        return orjson.dumps(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value).encode()
    return _encode(value).encode()
