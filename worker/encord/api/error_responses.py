"""Which error a status of the API is, and what it says."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import jiter

from schemas.events import ErrorCode, Problem
from worker.errors import (
    BadResponseError,
    MisconfiguredError,
    RateLimitedError,
    RequestRefusedError,
    ServerFailedError,
    TrainmasterError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

# A longer wait is a mistake of whoever sent it: one answer would hold everything for so long. When
# it is over, the API can say so again.
LONGEST_RETRY_AFTER_SECONDS = 300.0

_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)

_MAX_MESSAGE_CHARACTERS = 1000
_MAX_PROBLEMS = 20

_REFUSALS = {
    400: (ErrorCode.INVALID_ARGUMENTS, "the API finds the arguments invalid"),
    403: (ErrorCode.NOT_AUTHORISED, "the credentials do not allow this"),
    404: (ErrorCode.NOT_FOUND, "the API does not know what the command names"),
    405: (ErrorCode.NOT_ALLOWED, "the API does not allow the method"),
    409: (ErrorCode.ALREADY_EXISTS, "what was to be created exists already"),
    413: (ErrorCode.PAYLOAD_TOO_LARGE, "the request is larger than the API takes"),
    422: (ErrorCode.INVALID_ARGUMENTS, "the API finds the arguments invalid"),
}


# What these mean by their standards (RFC 9110, 6585, 4918, 7725) is that the request was not
# carried out. No other status proves it, not even an unassigned one of the 400s.
_PROVE_NOTHING_HAPPENED = frozenset(_REFUSALS) | {
    *(402, 406, 407, 410, 411, 412, 414, 415, 416, 417, 418),
    *(421, 423, 424, 425, 426, 428, 431, 451),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the API answered with a status that is no success.

    Attributes:
        status: Any but 200 and 204.
        headers: Found by name in any case.
        body: As far as it came.
        domain: Whom we asked.
        longest_wait_seconds: A `Retry-After` that asks for more is cut to this.
        change: Whether the request changes something, so that it matters what was carried out.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    domain: str
    longest_wait_seconds: float = LONGEST_RETRY_AFTER_SECONDS
    change: bool = False


def error_for(reply: Reply) -> TrainmasterError:
    """Returns the error that a reply means."""
    said, problems = _read_message(reply.body)
    status = reply.status
    if status == 429:
        return RateLimitedError(
            said or "the API asks for fewer requests",
            code=ErrorCode.RATE_LIMITED,
            status=status,
            retry_after_seconds=read_retry_after(reply.headers, reply.longest_wait_seconds),
        )
    # What is beyond 599 is to be taken for a 5xx (RFC 9110, 15); by 499 proxies say that they gave
    # up waiting, while the server behind them may go on.
    if status in {408, 499} or status >= 500:
        return ServerFailedError(
            said or f"the API failed with status {status}",
            code=ErrorCode.SERVER_ERROR,
            status=status,
            retry_after_seconds=read_retry_after(reply.headers, reply.longest_wait_seconds),
        )
    if status == 401:
        return MisconfiguredError(
            f"{said or 'the API does not know the credentials'}"
            f" (asked {reply.domain}; they may belong to another region)",
            code=ErrorCode.NOT_AUTHENTICATED,
            status=status,
        )
    if 200 <= status < 300 or (reply.change and status not in _PROVE_NOTHING_HAPPENED):
        # Nothing says what such an answer did: it must not pass for a refusal.
        promised = 200 <= status < 300
        code = ErrorCode.BAD_RESPONSE if promised else ErrorCode.UNEXPECTED_STATUS
        return BadResponseError(_unexpected(reply, said), code=code, status=status)
    code, meaning = _REFUSALS.get(status, (ErrorCode.UNEXPECTED_STATUS, ""))
    if status < 400 or not (said or meaning):
        said = _unexpected(reply, said)
    return RequestRefusedError(said or meaning, code=code, status=status, problems=problems)


def read_retry_after(
    headers: Mapping[str, str], longest_seconds: float = LONGEST_RETRY_AFTER_SECONDS
) -> float | None:
    """Returns the seconds that `Retry-After` asks for, or None where it says nothing useful.

    An HTTP date is measured against the reply's own `Date`, so that a wrong clock on either side
    does not matter.
    """
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        # The length first: an integer of thousands of digits is not worth parsing.
        return min(float(value[:20]), longest_seconds)
    then = read_date(value)
    if then is None:
        return None
    now = read_date(headers.get("date", ""))
    seconds = then - (time.time() if now is None else now)
    return min(max(seconds, 0.0), longest_seconds)


def read_date(value: str) -> float | None:
    """Returns an HTTP date in seconds since 1970, or None where it is none."""
    try:
        moment = parsedate_to_datetime(value) if value else None
        if moment is None:
            return None
        # A date without a zone is in UTC, wherever this machine stands.
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def _unexpected(reply: Reply, said: str) -> str:
    status = reply.status
    if 300 <= status < 400 and status != 304:
        place = _origin(reply.headers.get("location", ""))
        told = (
            f"{reply.domain} answered with a redirect ({status}){place}, which is never followed: "
            "ENCORD_DOMAIN must name the API itself"
        )
    else:
        told = f"the API answered with the undocumented status {status}"
    return _cut(f"{told} ({said})" if said else told)


def _origin(location: str) -> str:
    """Returns ` to` and whom a redirect names, without path and query, which may hold secrets."""
    try:
        parts = urlsplit(location)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if not parts.scheme.isalpha() or not host or not host.isprintable():
        return ""
    place = f"[{host}]" if ":" in host else host
    return f" to {parts.scheme}://{place}" + (f":{port}" if port else "")


def _read_message(body: bytes) -> tuple[str, list[Problem]]:
    """Returns what the API says: `message`, else `detail`, else nothing."""
    try:
        root = jiter.from_json(body)
    except ValueError:
        return "", []
    if not isinstance(root, dict):
        return "", []
    said = root.get("message") or root.get("detail")
    if isinstance(said, list):
        problems = [_read_problem(entry) for entry in said[:_MAX_PROBLEMS]]
        return _cut("; ".join(f"{each.path} {each.message}".strip() for each in problems)), problems
    if isinstance(said, str):
        return _cut(said), []
    return _cut(json.dumps(said)) if said else "", []


def _read_problem(entry: object) -> Problem:
    """Reads one entry of a FastAPI list: `{"loc": ["body", "epochs"], "msg": "…"}`."""
    if not isinstance(entry, dict):
        return Problem(path="", message=_cut(str(entry)))
    loc = entry.get("loc")
    path = ".".join(str(part) for part in loc) if isinstance(loc, list) else ""
    return Problem(path=_cut(path), message=_cut(str(entry.get("msg", ""))))


def _cut(text: str) -> str:
    if len(text) <= _MAX_MESSAGE_CHARACTERS:
        return text
    return f"{text[: _MAX_MESSAGE_CHARACTERS - 1]}…"
