"""Whether what comes from outside is text."""

from __future__ import annotations


def is_utf8(value: str) -> bool:
    """Tells whether an argument or a variable is UTF-8; bytes that are not become surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
