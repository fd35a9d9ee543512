"""Text of headers and addresses that names commands.

Two names must never become one, so no byte is replaced by a character that stands for any: what is
percent-encoded is UTF-8, or refused; a header's bytes are UTF-8, or else Latin-1.

Sources: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
and https://www.rfc-editor.org/rfc/rfc8941#name-strings
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from worker.gateway.problems import ProblemError

if TYPE_CHECKING:
    from fastapi import Request

_CE: Final = b"ce-"
_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)


def cloud_event_attributes(request: Request) -> dict[str, str]:
    """Returns the attributes of a CloudEvent in binary mode.

    Raises:
        ProblemError: one is there twice, or is percent-encoded and not UTF-8.
    """
    found: dict[str, str] = {}
    for name, value in request.headers.raw:
        if not name.startswith(_CE):
            continue
        attribute = name.removeprefix(_CE).decode("ascii", "replace")
        if attribute in found:
            # Whoever stands before us may have looked at the other one.
            told = f"The header ce-{attribute} stands there twice."
            raise ProblemError(400, "doubled_header", told)
        quoted = _QUOTED.fullmatch(value)
        plain = value if quoted is None else _unescaped(quoted)
        try:
            found[attribute] = unquote(_text(plain), errors="strict")
        except UnicodeDecodeError:
            raise ProblemError(
                400, "invalid_header", f"The header ce-{attribute} is not UTF-8, percent-encoded."
            ) from None
    return found


def idempotency_key(request: Request) -> str | None:
    """Returns the header's value: a string of structured fields, or the bare word.

    Raises:
        ProblemError: it begins like such a string and is none.
    """
    said = next((value for name, value in request.headers.raw if name == b"idempotency-key"), None)
    if said is None:
        return None
    said = said.strip()
    if said.startswith(b'"'):
        quoted = _QUOTED.match(said)
        # What may follow are parameters, of which the header has none that mean anything.
        if quoted is None or said[quoted.end() :].lstrip()[:1] not in {b"", b";"}:
            raise ProblemError(
                400,
                "invalid_header",
                'The header Idempotency-Key begins with " and is no string: write "key", with a '
                '\\ before each " and \\ in it.',
            )
        said = _unescaped(quoted)
    return _text(said)


def name_in_address(segment: str) -> str:
    """Returns what a segment of an address names, percent-encoded there.

    Raises:
        ProblemError: it is not UTF-8.
    """
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise ProblemError(
            400, "invalid_address", "The address holds bytes that are not UTF-8, percent-encoded."
        ) from None


def _unescaped(quoted: re.Match[bytes]) -> bytes:
    return _ESCAPED.sub(rb"\1", quoted[1])


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        # What headers were made for; Node sends them so.
        return value.decode("latin-1")
