"""Which error a status of the API is, and what it says."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

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


@dataclass(frozen=True, slots=True)
class Reply:
    """What the API answered with a status that is no success.

    Attributes:
        status: Any but 200 and 204.
        headers: Found by name in any case.
        body: As far as it came.
        domain: Whom we asked.
        longest_wait_seconds: A `Retry-After` that asks for more is cut to this.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    domain: str
    longest_wait_seconds: float = LONGEST_RETRY_AFTER_SECONDS


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
    if status == 408 or 500 <= status < 600:
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
    if 200 <= status < 300:
        # Nothing says what an undocumented success did: it must not pass for a refusal.
        return BadResponseError(
            f"the API answered with the undocumented status {status}",
            code=ErrorCode.BAD_RESPONSE,
            status=status,
        )
    code, meaning = _REFUSALS.get(status, (ErrorCode.UNEXPECTED_STATUS, _unexpected(status)))
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


def _unexpected(status: int) -> str:
    if 300 <= status < 400:
        return f"the API answered with a redirect ({status}), which is never followed"
    return f"the API answered with the unexpected status {status}"


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
