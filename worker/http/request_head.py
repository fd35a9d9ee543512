"""The head of a request, exactly as it was signed."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def write_head(lines: Sequence[str]) -> bytes:
    """Returns a head of these lines: the request line, and one for each header.

    Raises:
        httpx.LocalProtocolError: a line holds what would make two of it, NUL, or no ASCII.
    """
    head = "\r\n".join(lines)
    breaks = len(lines) - 1
    # Counted in all of it at once, for this is done for each request.
    if head.count("\n") != breaks or head.count("\r") != breaks:
        raise httpx.LocalProtocolError("a header holds a line break")
    if "\0" in head or not head.isascii():
        raise httpx.LocalProtocolError("a header holds NUL, or is not ASCII")
    return head.encode("ascii") + b"\r\n\r\n"


def header_lines(headers: Iterable[tuple[str, str]]) -> list[str]:
    """Returns a line for each header."""
    return [f"{name}: {value}" for name, value in headers]


def basic_login(name: str, url: httpx.URL) -> list[tuple[str, str]]:
    """Returns the header of this name for the user and the password in a URL; none without."""
    if not url.userinfo:
        return []
    pair = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
    return [(name, f"Basic {pair}")]


def check_target(target: str) -> None:
    """Looks at the target of a request, which goes out as it stands, neither quoted nor folded.

    Raises:
        httpx.LocalProtocolError: it holds what can't stand in a request line.
    """
    if not target or " " in target or not target.isascii() or not target.isprintable():
        raise httpx.LocalProtocolError(
            "the target is empty, or holds a blank or what is not printable ASCII"
        )
