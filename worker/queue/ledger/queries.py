"""A reader's view of the ledger: one row, many rows, counts. It changes nothing."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import NoPermissionError, ResponseError

from trainmaster_client.events import event_of
from worker.queue.ledger.command_status import CommandStatus, read_status
from worker.queue.ledger.dead_letters import read_letter
from worker.queue.ledger.keys import GROUP, CommandStream, Keys, member_row_id
from worker.queue.ledger.models import RowState
from worker.queue.ledger.refusals import is_misplaced
from worker.queue.ledger.stored_values import text_of
from worker.queue.ledger.streams import entries_between, newest_entries, since_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from trainmaster_client import Event
    from worker.queue.ledger.dead_letters import DeadLetter

_PAGE = 500
# Events may be large, and mostly the newest few are enough.
_EVENT_PAGE = 100
# Of one moment: a batch of commands may fail together.
_LETTERS = 50
# Before Redis 7.2 time goes on while a script runs: a letter's id may be later than its event's.
_MOMENT_MILLISECONDS = 10


@dataclass(frozen=True, slots=True)
class CommandDetails:
    """A command with what it was sent with, and what its last event told.

    Attributes:
        status: None where the ledger has forgotten the command.
        text: None where it is no longer kept.
        event: None where it is no longer kept.
        letter: of its failure; None where it has not failed, or its letter is gone.
    """

    status: CommandStatus | None
    text: bytes | None
    event: Event | None
    letter: DeadLetter | None


@dataclass(frozen=True, slots=True)
class RowChoice:
    """Which rows are wanted; None is all.

    Attributes:
        since_ms: only what changed at or after this time.
    """

    state: RowState | None = None
    command_type: str | None = None
    since_ms: int | None = None
    ended: bool | None = None

    def fits(self, row: CommandStatus) -> bool:
        """Whether a row is one of them."""
        return (
            self.state in {None, row.state}
            and self.command_type in {None, row.type}
            and self.ended in {None, row.ended}
            and (self.since_ms is None or row.changed_at_ms >= self.since_ms)
        )

    @property
    def of_open(self) -> bool:
        """Whether there may be such among what has not ended."""
        return self.ended is not True and (self.state is None or not self.state.ended)

    @property
    def of_ended(self) -> bool:
        """Whether there may be such among what has ended."""
        return self.ended is not False and (self.state is None or self.state.ended)


class LedgerReader:
    """Reads the rows of a namespace."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def status(self, command_id: str) -> CommandStatus | None:
        """Returns the row of a command, or None where the id is not known."""
        views = await self._read({command_id: None})
        return views[0] if views else None

    async def terminal_event(self, row: CommandStatus) -> Event | None:
        """Returns the event that told a command's end, None where it is no longer kept."""
        if not row.last_event_id:
            return None
        found = await entries_between(
            self._redis, self._keys.events, row.last_event_id, row.last_event_id
        )
        return event_of(*found[0]) if found else None

    async def details(self, asked: Sequence[tuple[str, str]]) -> list[CommandDetails]:
        """Returns all that is kept of commands, in one round trip.

        Args:
            asked: the id of each, and the entry of its last event.
        """
        pipe = self._redis.pipeline(transaction=False)
        keys = self._keys
        for command_id, entry_id in asked:
            self._ask(pipe, command_id, None)
            pipe.get(keys.text(command_id))
            pipe.get(keys.sent(command_id))
            pipe.xrange(keys.events, entry_id, entry_id)
            # A letter is written right behind the event that tells the failure, by one script.
            moment = entry_id.partition("-")[0]
            until = int(moment) + _MOMENT_MILLISECONDS if moment.isdigit() else moment
            pipe.xrange(keys.dead_letters, moment, str(until), count=_LETTERS)
        replies = iter(await pipe.execute(raise_on_error=False))
        return [_details(command_id, replies) for command_id, _ in asked]

    async def item(self, item_id: str) -> CommandStatus | None:
        """Returns the row of a group's member that has not ended, by an id like `night/17`."""
        group_id, _, number = item_id.rpartition("/")
        if not number.isdigit():
            return None
        views = await self._read({member_row_id(group_id, number): None})
        return views[0] if views else None

    async def newest(self, limit: int, choice: RowChoice | None = None) -> list[CommandStatus]:
        """Returns the rows that changed last, newest first, at most so many.

        Ended rows stand in no index: they are found by the events of their ends, newest first, and
        only once those are used up by a scan of all keys.
        """
        choice = choice or RowChoice()
        found: list[CommandStatus] = []
        if choice.of_open:
            async for page in self._open():
                found = _newest(limit, [*found, *filter(choice.fits, page)])
        if choice.of_ended:
            found = _newest(limit, [*found, *await self._ended(limit, choice)])
        return found

    async def open_rows(self, choice: RowChoice) -> AsyncIterator[list[CommandStatus]]:
        """Yields the rows that have not ended, in pages and in no order.

        What is open all the while comes at least once, whatever else ends or moves meanwhile.
        """
        keys = self._keys
        for due in (keys.due_interactive, keys.due_bulk, keys.due_suspect):
            cursor = -1
            while cursor:
                cursor, scored = cast(
                    "tuple[int, list[tuple[bytes, float]]]",
                    await self._redis.zscan(due, max(cursor, 0), count=_PAGE),
                )
                rows = await self._read({text_of(row_id): score for row_id, score in scored})
                yield [row for row in rows if choice.fits(row)]

    async def rows(
        self, command_ids: Sequence[str], choice: RowChoice
    ) -> AsyncIterator[list[CommandStatus]]:
        """Yields the rows of these commands that there are and that fit, in pages."""
        for start in range(0, len(command_ids), _PAGE):
            found = await self._read(dict.fromkeys(command_ids[start : start + _PAGE]))
            yield [row for row in found if choice.fits(row)]

    async def texts(self, row_ids: Sequence[str]) -> list[bytes | None]:
        """Returns commands as they were sent, None where one has ended."""
        pipe = self._redis.pipeline(transaction=False)
        for row_id in row_ids:
            pipe.get(self._keys.text(row_id))
        return cast("list[bytes | None]", await pipe.execute())

    async def sent_text(self, command_id: str) -> bytes | None:
        """Returns a command as it was sent, None where that is no longer kept."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.get(self._keys.text(command_id))
        pipe.get(self._keys.sent(command_id))
        text, copy = await pipe.execute()
        return cast("bytes | None", copy if text is None else text)

    async def counts(self) -> dict[str, int]:
        """Returns the lengths of everything that can grow.

        What has not ended stands in one of three due sets: of its lane, or of the suspects.
        """
        seconds, microseconds = await self._redis.time()
        now = seconds * 1000 + microseconds // 1000
        keys = self._keys
        pipe = self._redis.pipeline(transaction=False)
        pipe.xlen(keys.commands)
        pipe.xlen(keys.bulk_commands)
        pipe.llen(keys.inbox)
        pipe.zcard(keys.due_interactive)
        pipe.zcard(keys.due_bulk)
        pipe.zcard(keys.due_suspect)
        pipe.zcount(keys.due_interactive, "-inf", now)
        pipe.zcount(keys.due_bulk, "-inf", now)
        pipe.zcount(keys.due_suspect, "-inf", now)
        pipe.xlen(keys.events)
        pipe.xlen(keys.dead_letters)
        names = (
            "unread",
            "unread_bulk",
            "inbox",
            "open_interactive",
            "open_bulk",
            "open_suspect",
            "due_interactive",
            "due_bulk",
            "due_suspect",
            "events",
            "dead_letters",
        )
        return dict(zip(names, await pipe.execute(), strict=True))

    async def consumers(self) -> list[dict[str, Any]]:
        """Returns name, pending entries and idle time (ms) of each consumer, over both streams."""
        found: dict[str, dict[str, Any]] = {}
        for stream in CommandStream:
            try:
                consumers = await self._redis.xinfo_consumers(self._keys.stream(stream), GROUP)
            except NoPermissionError:
                raise
            except ResponseError:
                # No worker has read it yet.
                continue
            for each in consumers:
                name = each["name"].decode()
                known = found.setdefault(
                    name, {"name": name, "pending": 0, "idle_ms": each["idle"]}
                )
                known["pending"] += each["pending"]
                known["idle_ms"] = min(known["idle_ms"], each["idle"])
        return list(found.values())

    async def _open(self) -> AsyncIterator[list[CommandStatus]]:
        """Yields what has not ended, in pages and in no order."""
        keys = self._keys
        for due in (keys.due_interactive, keys.due_bulk, keys.due_suspect):
            start = 0
            while scored := cast(
                "list[tuple[bytes, float]]",
                await self._redis.zrange(due, start, start + _PAGE - 1, withscores=True),
            ):
                start += len(scored)
                yield await self._read({text_of(row_id): score for row_id, score in scored})

    async def _ended(self, limit: int, choice: RowChoice) -> list[CommandStatus]:
        found: list[CommandStatus] = []
        seen: set[str] = set()
        async for page in self._ended_ids(choice):
            fresh = [command_id for command_id in dict.fromkeys(page) if command_id not in seen]
            seen.update(fresh)
            rows = await self._read(dict.fromkeys(fresh))
            found += [row for row in rows if row.ended and choice.fits(row)]
            if len(found) >= limit:
                return found
        async for page in self._scanned(seen):
            rows = await self._read(dict.fromkeys(page))
            found = _newest(limit, [*found, *(r for r in rows if r.ended and choice.fits(r))])
        return found

    async def _ended_ids(self, choice: RowChoice) -> AsyncIterator[list[str]]:
        """Yields pages of ids that the stream of events tells an end of, newest first."""
        first = since_time(choice.since_ms)
        async for page in newest_entries(
            self._redis, self._keys.events, first=first, count=_EVENT_PAGE
        ):
            events = [event for each in page if (event := event_of(*each)) is not None]
            yield [event.command_id for event in events if _tells_an_end(event, choice)]

    async def _scanned(self, seen: Collection[str]) -> AsyncIterator[list[str]]:
        """Yields the row ids that were not seen, in pages and in no order."""
        prefix = self._keys.command("")
        page: list[str] = []
        async for key in self._redis.scan_iter(match=f"{_escape(prefix)}*", count=_PAGE):
            if (row_id := text_of(key)[len(prefix) :]) not in seen:
                page.append(row_id)
            if len(page) == _PAGE:
                yield page
                page = []
        yield page

    async def _read(self, scores: dict[str, float | None]) -> list[CommandStatus]:
        """Returns rows by their ids; a due time that is not told is looked up."""
        pipe = self._redis.pipeline(transaction=False)
        for row_id, score in scores.items():
            self._ask(pipe, row_id, score)
        replies = iter(await pipe.execute(raise_on_error=False))
        views = [_answer(row_id, score, replies) for row_id, score in scores.items()]
        return [view for view in views if view is not None]

    def _ask(self, pipe: Pipeline, row_id: str, score: float | None) -> None:
        """Asks for what `_answer` reads."""
        keys = self._keys
        pipe.hgetall(keys.command(row_id))
        if score is None:
            for due in (keys.due_interactive, keys.due_bulk, keys.due_suspect):
                pipe.zscore(due, row_id)


def _answer(row_id: str, score: float | None, replies: Iterator[Any]) -> CommandStatus | None:
    fields = _sound(next(replies))
    found = [score] if score is not None else [_sound(next(replies)) for _ in range(3)]
    if not fields:
        return None
    # Someone wrote over a row or a due set: the others are still to be seen.
    odd = isinstance(fields, Exception)
    due_at = next((each for each in found if isinstance(each, float)), None)
    return read_status(row_id, {} if odd else fields, due_at)


def _details(command_id: str, replies: Iterator[Any]) -> CommandDetails:
    status = _answer(command_id, None, replies)
    text, copy, entries, letters = (_sound(next(replies)) for _ in range(4))
    event = letter = None
    if isinstance(entries, list) and entries:
        event = event_of(*entries[0])
    if status is not None and status.state == RowState.FAILED and isinstance(letters, list):
        found = (read_letter(*each) for each in letters)
        letter = next((each for each in found if each and each.command_id == command_id), None)
    sent = next((each for each in (text, copy) if isinstance(each, bytes)), None)
    return CommandDetails(status, sent, event, letter)


def _sound(reply: Any) -> Any:
    """Returns a reply, also one that says that a key holds something else.

    Raises:
        Exception: Redis answered with any other error.
    """
    if isinstance(reply, Exception) and not is_misplaced(reply):
        raise reply
    return reply


def _newest(limit: int, rows: Iterable[CommandStatus]) -> list[CommandStatus]:
    return heapq.nlargest(limit, rows, key=lambda row: row.changed_at_ms)


def _tells_an_end(event: Event, choice: RowChoice) -> bool:
    ends = {str(each) for each in RowState if each.ended}
    return (
        event.state in ends
        and choice.state in {None, event.state}
        and choice.command_type in {None, event.command_type}
        and not event.is_of_item
    )


def _escape(pattern: str) -> str:
    return "".join(
        f"\\{character}" if character in r"*?[]\{}" else character for character in pattern
    )
