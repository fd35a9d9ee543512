"""Reads what commands were sent with; what was rejected may be anything, of any size."""

from __future__ import annotations

from typing import Any, Final

from schemas.json_text import decode_json

# No command is as large; a message that was rejected for its size may be.
MOST_BYTES: Final = 16_777_216


def read_message(raw: bytes | None) -> dict[str, Any] | None:
    """Returns the JSON object that a message is; None where it is none, or too large to be read."""
    try:
        found = decode_json(raw) if raw is not None and len(raw) <= MOST_BYTES else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
