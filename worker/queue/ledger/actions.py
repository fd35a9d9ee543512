"""Who did what: the acts of people, in a stream that forgets the oldest.

An entry is written once its act is done, and what becomes of the entry changes nothing of that.
Written first, it would tell of acts that were refused, and a Redis that is full could not be helped
any more: it still takes a purge, and no entry. An act is no less done because its entry could not
be written; an answer that says otherwise would have it done twice. Then the log of the process has
all that the entry would say, as `action.unrecorded`.

An entry has the fields `who`, `act`, `details` (JSON) and, where the act is about one thing,
`subject`; the time is that of its id.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from schemas.json_text import decode_json, encode_json
from worker.queue.ledger.connection import PASSING_TROUBLE, RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.refusals import refusal_of
from worker.queue.ledger.streams import before_entry, newest_entries, since_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.streams import StreamEntry

log = structlog.get_logger(__name__)

# About 10 MB of Redis; the oldest go first.
MAX_ACTIONS: Final = 50_000
# Whoever acts waits no longer for the entry: an answer is promised in seconds.
PATIENCE_SECONDS: Final = 1.0
MAX_DETAILS_BYTES: Final = 4096
# How long a text and how many parts of a list or an object are kept; the second is for what is
# still too large with the first.
_CUTS: Final = ((200, 12), (40, 3))
# The longest id of a delivery, with its source.
_NAME_CHARACTERS: Final = 512
_PAGE: Final = 500
# After these nobody knows; a server that refuses does nothing.
_MAY_BE_DONE: Final = (*PASSING_TROUBLE, asyncio.CancelledError)
_MORE: Final = "…"
_UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Action:
    """What somebody did.

    Attributes:
        id: names the entry; later ones have greater ids.
        at_ms: ms since the epoch, by Redis' clock.
        who: the name of a token, `this machine`, or `cli:<user>@<host>`.
        act: what was done, like `lane.resume`.
        subject: what it was done to; None where details tell a filter, or there is but one.
        details: what came of it; no secret and none of a command's data.
    """

    id: str
    at_ms: int
    who: str
    act: str
    subject: str | None
    details: dict[str, Any]


@dataclass(slots=True)
class Entry:
    """What is to be recorded of an act that is under way; nothing, until something is done.

    Attributes:
        subject: what it is done to, where that is known.
    """

    subject: str | None
    details: dict[str, Any] = field(default_factory=dict)
    is_done: bool = False

    def done(self, **details: Any) -> None:
        """Says that the act is done, or a part of it; what is said later replaces the former."""
        self.is_done = True
        self.details |= details


class ActionLog:
    """The acts of a namespace."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._stream = keys.actions

    @asynccontextmanager
    async def recorded(
        self,
        who: str,
        act: str,
        subject: str | None = None,
        *,
        dry_run: bool = False,
        **details: Any,
    ) -> AsyncIterator[Entry]:
        """Records an act once it is over, if the entry that it gets is told that it is done.

        An act that is broken off is recorded with what was done of it, and one whose reply got lost
        as one that may be done. Recording raises nothing.

        Args:
            who: acts.
            act: what is done.
            subject: what it is done to.
            dry_run: whether it is only tried, and nothing recorded.
            details: what is known before it is done.
        """
        entry = Entry(subject, details)
        try:
            yield entry
        except BaseException as exc:
            if entry.is_done:
                entry.done(broken_off=True)
            elif isinstance(exc, _MAY_BE_DONE) and refusal_of(exc) is None:
                entry.done(outcome=_UNKNOWN)
            raise
        finally:
            if entry.is_done and not dry_run:
                await self._write(who, act, entry)

    async def list(
        self,
        *,
        who: str | None = None,
        act: str | None = None,
        subject: str | None = None,
        since_ms: int = 0,
        before: str | None = None,
    ) -> AsyncIterator[Action]:
        """Yields acts, newest first.

        Args:
            who: only those of this one.
            act: only these.
            subject: only those that were done to this.
            since_ms: only those that are not older, in ms since the epoch.
            before: only those that are older than this entry.
        """
        last = "+" if before is None else before_entry(before)
        pages = newest_entries(
            self._redis, self._stream, first=since_time(since_ms), last=last, count=_PAGE
        )
        given = {b"who": who, b"act": act, b"subject": subject}
        wanted = {name: text.encode() for name, text in given.items() if text is not None}
        async for page in pages:
            for each in page:
                # Few may fit of all that are kept.
                fits = all(each[1].get(name) == text for name, text in wanted.items())
                if fits and (found := _read(each)) is not None:
                    yield found

    async def _write(self, who: str, act: str, entry: Entry) -> None:
        about = _cut(entry.subject, _NAME_CHARACTERS)
        told = {"who": _cut(who, _NAME_CHARACTERS), "act": str(act), "subject": about}
        text = _details(entry.details)
        fields: dict[Any, Any] = {name: value for name, value in told.items() if value is not None}
        fields["details"] = text
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._redis.xadd(self._stream, fields, maxlen=MAX_ACTIONS, approximate=True)
        except RETRYABLE_REDIS_ERRORS as exc:
            told["error"] = refusal_of(exc) or type(exc).__name__
            # Where Redis was never reached nothing is likely to be done, and whoever acts is told.
            is_known = entry.details.get("outcome") != _UNKNOWN
            level = logging.ERROR if is_known else logging.INFO
            log.log(level, "action.unrecorded", **told, details=decode_json(text))
        else:
            log.info("action.recorded", **told, details=decode_json(text))


def _details(details: Mapping[str, Any]) -> bytes:
    """Returns details as JSON of a bounded size."""
    text = b"{}"
    for characters, parts in _CUTS:
        text = encode_json(_cut(dict(details), characters, parts))
        if len(text) <= MAX_DETAILS_BYTES:
            return text
    return text


def _cut(value: Any, characters: int, parts: int = 0) -> Any:
    """Returns a value whose texts, lists and objects are cut to a length."""
    if isinstance(value, str):
        text = value.encode("utf-8", "replace").decode()
        return text if len(text) <= characters else f"{text[: characters - 1]}{_MORE}"
    if isinstance(value, list | tuple | set | frozenset):
        some = [_cut(each, characters, parts) for each in list(value)[:parts]]
        rest = len(value) - len(some)
        return [*some, f"{_MORE} {rest} more"] if rest else some
    if isinstance(value, dict):
        kept = list(value.items())[:parts]
        return {_cut(str(name), characters): _cut(each, characters, parts) for name, each in kept}
    return value


def _read(entry: StreamEntry) -> Action | None:
    """Returns the act in an entry; None where others put something else there."""
    entry_id, fields = entry
    name = entry_id.decode()
    try:
        details = decode_json(fields[b"details"])
        subject = fields.get(b"subject")
        return Action(
            id=name,
            at_ms=int(name.partition("-")[0]),
            who=fields[b"who"].decode(),
            act=fields[b"act"].decode(),
            subject=None if subject is None else subject.decode(),
            details=dict(details),
        )
    except (KeyError, TypeError, ValueError):
        return None
