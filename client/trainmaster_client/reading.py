"""Reads of streams and of what the ledger knows of commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from trainmaster_client.events import check_types, event_of, is_one_of
from trainmaster_client.json_text import decode
from trainmaster_client.steps import Ask, Listen, ask, insist

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from trainmaster_client.events import Event
    from trainmaster_client.names import Names
    from trainmaster_client.steps import Patience, Steps

PAGE: Final = 500
# Of the replies to reads, as far as what came last tells: a slow network brings that much in the
# ten seconds that a reply may take, and no program has to hold much more at once.
_PAGE_BYTES: Final = 1_048_576
# Before anything is known of the sizes, and after reads that brought few.
_FIRST_COUNT: Final = 4
_GROWTH: Final = 4
# Short enough that a thread that is to end, or a time that is shown, does not wait for it.
BLOCK_MILLISECONDS: Final = 1_000
FIRST: Final = "0-0"
# Redis refuses to look for what can be the id of no entry.
_ENTRY_ID: Final = re.compile(rb"([0-9]{1,20})-([0-9]{1,20})")

Entry = tuple[bytes, "dict[bytes, bytes]"]


@dataclass(frozen=True, slots=True)
class Status:
    """What the ledger knows of a command.

    Attributes:
        state: accepted, running, retrying, polling, in_doubt, succeeded, failed or cancelled.
        attempts: that failed, or brought the end.
        last_error: of the latest failed attempt, while the command has not ended.
        end_entry: of its last event in the stream of events, once it has ended.
    """

    command_id: str
    type: str
    state: str
    attempts: int
    accepted_at: datetime
    ended_at: datetime | None
    last_error: Mapping[str, Any] | None
    end_entry: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the command."""
        return self.ended_at is not None


def status(names: Names, command_ids: Sequence[str]) -> Steps[list[Status | None]]:
    """Returns what the ledger knows of commands, None where it knows none."""
    found: list[Status | None] = []
    for start in range(0, len(command_ids), PAGE):
        page = command_ids[start : start + PAGE]
        rows = yield Ask(tuple(("HGETALL", names.command(each)) for each in page))
        found += [_status(each, _pairs(row)) for each, row in zip(page, rows, strict=True)]
    return found


def newest_entry(stream: str) -> Steps[str]:
    """Returns the id of a stream's last entry; what comes after it is new."""
    found = yield from ask("XREVRANGE", stream, "+", "-", "COUNT", 1)
    return entries_of(found)[0][0].decode() if found else FIRST


def is_reached(entry_id: str, by: str) -> bool:
    """Tells whether who has read up to `by` has read an entry."""
    return _order(by) >= _order(entry_id)


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)


class Pace:
    """How many entries the next read asks for; how large they are is known only then."""

    def __init__(self) -> None:
        self.count = _FIRST_COUNT

    def read(self, *command: Any) -> Steps[list[Entry]]:
        """Returns the entries that a read of one stream brings."""
        try:
            reply = yield Listen(command)
        except (RedisError, OSError):
            # It may have been too much for the time that a reply has.
            self.count = max(1, self.count // _GROWTH)
            raise
        entries = entries_of_one(reply)
        size = sum(len(value) for _, fields in entries for value in fields.values())
        fits = max(1, _PAGE_BYTES * len(entries) // size) if size else PAGE
        self.count = min(PAGE, fits, max(_FIRST_COUNT, _GROWTH * len(entries)))
        return entries


def entries_after(stream: str, after: str, milliseconds: int, pace: Pace) -> Steps[list[Entry]]:
    """Returns a page of entries, waiting for the first one as long as told."""
    waiting = ("BLOCK", milliseconds) if milliseconds else ()
    reading = pace.read("XREAD", "COUNT", pace.count, *waiting, "STREAMS", stream, after)
    return (yield from reading)


def entry(stream: str, entry_id: str) -> Steps[Entry | None]:
    """Returns one entry of a stream, None where it is no longer kept."""
    found = yield from ask("XRANGE", stream, entry_id, entry_id)
    return entries_of(found)[0] if found else None


class Cursor:
    """A place in a stream of events.

    Args:
        stream: to read.
        types: of the events that are wanted; see `is_one_of`.
        after: the id of an entry, or None for what comes from now on.
        patience: for as long as Redis is away.

    Raises:
        ValueError: no event is of one of these types.
    """

    def __init__(
        self, stream: str, types: Collection[str], after: str | None, patience: Patience
    ) -> None:
        check_types(types)
        self._stream = stream
        self._types = types
        self._after = after
        # The newest when the first page was read: a busy stream has always more by then.
        self._newest: str | None = None
        self._pace = Pace()
        self._patience = patience

    def page(self, *, block: bool) -> Steps[tuple[list[Event], bool]]:
        """Returns the next events that are wanted, and whether older ones than now follow."""
        return (yield from insist(self._patience, lambda: self._page(block=block)))

    def _page(self, *, block: bool) -> Steps[tuple[list[Event], bool]]:
        if self._newest is None:
            self._newest = yield from newest_entry(self._stream)
        if self._after is None:
            self._after = self._newest
        waiting = BLOCK_MILLISECONDS if block else 0
        entries = yield from entries_after(self._stream, self._after, waiting, self._pace)
        if entries:
            self._after = entries[-1][0].decode()
        events = [event_of(*each) for each in entries]
        wanted = [each for each in events if each and is_one_of(each, self._types)]
        return wanted, bool(entries) and not is_reached(self._newest, by=self._after)


def entries_of(reply: Any) -> list[Entry]:
    """Returns the entries in a reply to XRANGE and its like, as both protocols give it."""
    return [(entry_id, _pairs(fields)) for entry_id, fields in reply or ()]


def entries_of_one(reply: Any) -> list[Entry]:
    """Returns the entries in a reply to XREAD or XREADGROUP of one stream."""
    if not reply:
        return []
    found = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    return entries_of(found)


def _pairs(fields: Any) -> dict[bytes, bytes]:
    if fields is None or isinstance(fields, dict):
        return fields or {}
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _status(command_id: str, row: dict[bytes, bytes]) -> Status | None:
    if not row:
        return None
    errors = _json(row.get(b"x"))
    last = errors[-1] if isinstance(errors, list) and errors else None
    ended = row.get(b"e")
    return Status(
        command_id=command_id,
        type=row.get(b"t", b"").decode("utf-8", "replace"),
        state=row.get(b"s", b"").decode("utf-8", "replace"),
        attempts=_number(row.get(b"a")),
        accepted_at=_moment(row.get(b"m")),
        ended_at=None if ended is None else _moment(ended),
        last_error=last if isinstance(last, dict) else None,
        end_entry=_entry_id(row.get(b"v")),
    )


def _entry_id(text: bytes | None) -> str | None:
    parts = _ENTRY_ID.fullmatch(text or b"")
    # Two numbers of 64 bits.
    return parts[0].decode() if parts and max(map(int, parts.groups())) < 2**64 else None


def _moment(milliseconds: bytes | None) -> datetime:
    return datetime.fromtimestamp(_number(milliseconds) / 1000, UTC)


def _number(text: bytes | None) -> int:
    # Whoever writes over a command's row leaves what is no number; the rest is still worth telling.
    return int(text) if text is not None and text.isdigit() and len(text) < 16 else 0


def _json(text: bytes | None) -> Any:
    try:
        return None if text is None else decode(text)
    except ValueError:
        return None
