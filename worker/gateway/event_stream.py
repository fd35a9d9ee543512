"""The events as a stream of server-sent events, for any number of watchers.

One reader of a process reads the stream of events and hands each to all watchers that want it. One
who comes with the id of the last event that they have first gets from Redis what came since, and
then joins the others without a gap. A watcher who does not keep up is dropped, with an event that
says so, rather than held in memory: they come again with that id.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from schemas.json_text import encode_json
from trainmaster_client.events import event_of
from worker.queue.intake.pace import ReadPace
from worker.queue.ledger.connection import BLOCK_MILLISECONDS, RETRYABLE_REDIS_ERRORS, end_all
from worker.queue.ledger.keys import EVENT_FIELD
from worker.queue.ledger.outage import Outage
from worker.queue.ledger.streams import entries_after, entries_between, is_entry_id, newest_entry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    from redis.asyncio import Redis

    from trainmaster_client import Event
    from worker.integrations.patterns import Patterns
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.streams import StreamEntry

FIRST: Final = "0-0"
log = structlog.get_logger(__name__)

# Proxies and clients take a connection for dead on which nothing comes for longer.
HEARTBEAT_SECONDS: Final = 15.0
# What waits for one watcher. More means that they don't keep up.
MOST_EVENTS: Final = 1_000
MOST_BYTES: Final = 4 * 1_048_576

_LINE_END: Final = re.compile(rb"[\r\n]")
_PAGE: Final = 500
_PAGE_BYTES: Final = 1_048_576
# Handed to the connection together.
_PIECE_BYTES: Final = 65_536
_AGAIN_SECONDS: Final = 1.0
_HEARTBEAT: Final = b": heartbeat\n\n"
# How soon a browser comes again, in milliseconds; and first bytes, which tell that it is connected.
_HELLO: Final = b"retry: 1000\n\n"


class LastEventIdError(ValueError):
    """What a watcher says that they have is no event's id."""

    def __init__(self) -> None:
        super().__init__("must be the id of an event as this stream gave it, like 1700000000000-0")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; None is all.

    Attributes:
        types: patterns of event types, like `train.*`.
        subject: the id of a command.
        command_types: what the watcher may see at all.
    """

    types: Patterns | None = None
    subject: str | None = None
    correlation_id: str | None = None
    command_types: frozenset[str] | None = None

    def fits(self, event: Event) -> bool:
        """Whether an event is one of them."""
        return (
            (self.types is None or self.types.match(event.type))
            and self.subject in {None, event.command_id}
            and self.correlation_id in {None, event.correlation_id}
            and (self.command_types is None or event.command_type in self.command_types)
        )


class _Watcher:
    """What waits for one watcher."""

    def __init__(self, wanted: EventFilter) -> None:
        self.wanted = wanted
        # The last event that was looked at for it.
        self.known = (0, 0)
        self.is_dropped = False
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._news = asyncio.Event()

    def put(self, message: bytes) -> None:
        if self.is_dropped:
            return
        full = len(self._waiting) >= MOST_EVENTS or self._bytes + len(message) > MOST_BYTES
        if full and self._waiting:
            self.is_dropped = True
            self._waiting.clear()
        else:
            self._waiting.append(message)
            self._bytes += len(message)
        self._news.set()

    def wake(self) -> None:
        self._news.set()

    async def get(self, seconds: float) -> bytes:
        """Returns what waits, in pieces; nothing where nothing came in time, or any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        piece: list[bytes] = []
        size = 0
        while self._waiting and (not piece or size + len(self._waiting[0]) <= _PIECE_BYTES):
            message = self._waiting.popleft()
            size += len(message)
            piece.append(message)
        self._bytes -= size
        if not self._waiting and not self.is_dropped:
            self._news.clear()
        return b"".join(piece)


class _Reader:
    """One reading of the stream, and those who hear what it reads.

    A reader that was cancelled may go on for a moment, for redis-py may lose that: whatever it does
    then concerns nobody who has come to the next one.
    """

    def __init__(self) -> None:
        self.position = FIRST
        # Once it has a position.
        self.begun = asyncio.Event()
        self.watchers: set[_Watcher] = set()
        self.task: asyncio.Task[None] | None = None

    def hand_out(self, entries: list[StreamEntry]) -> None:
        for each in entries:
            event = event_of(*each)
            if event is None:
                continue
            message = b""
            order = _order(event.entry_id)
            for watcher in self.watchers:
                # One who has just joined may know it.
                if watcher.known < order:
                    watcher.known = order
                    if watcher.wanted.fits(event):
                        message = message or _message(event, each[1][EVENT_FIELD])
                        watcher.put(message)
        if entries:
            self.position = entries[-1][0].decode()


class EventStream:
    """The events of a namespace for the watchers of one process.

    It reads while there is a watcher, and asks nothing of Redis while there is none.

    Args:
        redis: of the ledger.
        keys: of the namespace.
        heartbeat_seconds: between two signs of life where there are no events.
    """

    def __init__(
        self, redis: Redis, keys: Keys, *, heartbeat_seconds: float = HEARTBEAT_SECONDS
    ) -> None:
        self._redis = redis
        self._stream = keys.events
        self._heartbeat_seconds = heartbeat_seconds
        self._reader: _Reader | None = None
        self._outage = Outage()
        self._users = 0
        self._is_ending = False

    async def newest(self) -> str:
        """Returns the entry of the newest event: who begins behind it misses nothing from now on.

        Raises:
            RedisError: Redis is away.
        """
        found = await newest_entry(self._redis, self._stream)
        return FIRST if found is None else found[0].decode()

    @property
    def watchers(self) -> int:
        """How many watch."""
        return self._users

    async def events(
        self, wanted: EventFilter | None = None, after: str | None = None
    ) -> AsyncGenerator[bytes]:
        """Yields the bytes of server-sent events for one watcher, without an end.

        `id:` is the event's entry, `event:` its type and `data:` its JSON. `trainmaster.dropped` is
        the last one where the watcher was too slow; `trainmaster.gap` tells that events after the
        one that they have are no longer kept.

        Args:
            wanted: which events; all without it.
            after: `Last-Event-ID`: the entry of the last event that the watcher has, `0-0` for
                all that are kept; None for what comes from now on.

        Raises:
            LastEventIdError: at the first step: `after` is no entry's id.
        """
        if after is not None:
            check_entry_id(after)
        watcher = _Watcher(wanted or EventFilter())
        reader: _Reader | None = None
        self._users += 1
        try:
            # With where it begins: who loses the connection before the first event goes on there.
            yield _HELLO if after is None else b"%sid: %s\n\n" % (_HELLO, after.encode())
            reader = self._ensure_reader()
            async for piece in self._history(reader, watcher, after):
                yield piece
            while True:
                if piece := await watcher.get(self._heartbeat_seconds):
                    yield piece
                elif watcher.is_dropped:
                    yield _notice("dropped", "the connection is too slow for these events")
                    return
                elif self._is_ending:
                    return
                else:
                    yield _HEARTBEAT
        finally:
            if reader is not None:
                reader.watchers.discard(watcher)
            self._users -= 1
            if not self._users:
                self._stop_reader()

    def end(self) -> None:
        """Ends the streams of all watchers: the process stops, and they come again elsewhere."""
        self._is_ending = True
        for watcher in () if self._reader is None else self._reader.watchers:
            watcher.wake()

    async def close(self) -> None:
        """Stops reading; watchers get nothing more."""
        if (task := self._stop_reader()) is not None:
            await end_all([task])

    async def _history(
        self, reader: _Reader, watcher: _Watcher, after: str | None
    ) -> AsyncIterator[bytes]:
        """Yields what came before now, until the watcher is one of those who get what comes."""
        beat_at = time.monotonic() + self._heartbeat_seconds
        pace = ReadPace(_PAGE, _PAGE_BYTES)
        known = after
        looked = after in {None, FIRST}
        joined = False
        while not joined and not self._is_ending:
            pieces: list[bytes] = []
            try:
                if not looked:
                    known, pieces = await self._look_for_gap(str(known))
                    looked = True
                joined, messages, known = await self._page(reader, watcher, known, pace)
                pieces += messages
            except RETRYABLE_REDIS_ERRORS as exc:
                self._outage.failed("history", exc)
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self._outage.worked("history")
            if not pieces and time.monotonic() >= beat_at:
                pieces = [_HEARTBEAT]
            for piece in pieces:
                yield piece
                beat_at = time.monotonic() + self._heartbeat_seconds

    async def _page(
        self, reader: _Reader, watcher: _Watcher, known: str | None, pace: ReadPace
    ) -> tuple[bool, list[bytes], str]:
        """Returns whether the watcher has joined the others, what came before that, and its last.

        Raises:
            TimeoutError: the reader has not begun: Redis is away.
        """
        async with asyncio.timeout(self._heartbeat_seconds):
            await reader.begun.wait()
        position = reader.position
        known = position if known is None else known
        entries: list[StreamEntry] = []
        if _order(known) < _order(position):
            entries = await entries_between(
                self._redis, self._stream, f"({known}", "+", count=pace.count
            )
            pace.observe(len(entries), _size_of(entries))
            # Where nothing is left up to there, it was trimmed meanwhile.
            known = entries[-1][0].decode() if entries else position
        # Nothing is awaited between this look and joining, so nothing comes in between.
        if joined := _order(known) >= _order(reader.position):
            watcher.known = _order(known)
            reader.watchers.add(watcher)
        return joined, _pieces(entries, watcher.wanted), known

    async def _look_for_gap(self, known: str) -> tuple[str, list[bytes]]:
        """Returns what to read on from, and a notice where events behind it may be missing."""
        first = await entries_between(self._redis, self._stream, "-", "+", count=1)
        newest = await newest_entry(self._redis, self._stream)
        newest_id = newest[0].decode() if newest else FIRST
        if _order(known) > _order(newest_id):
            # Somebody emptied Redis, or this is another one: what they know is no longer there.
            said = f"{known} is not of this stream, which has come to {newest_id}"
            return newest_id, [_notice("gap", said)]
        if first and _order(first_id := first[0][0].decode()) > _order(known):
            said = f"events between {known} and {first_id} may be missing: they are no longer kept"
            return known, [_notice("gap", said)]
        return known, []

    def _ensure_reader(self) -> _Reader:
        if self._reader is None:
            self._reader = reader = _Reader()
            reader.task = asyncio.create_task(self._read(reader))
        return self._reader

    def _stop_reader(self) -> asyncio.Task[None] | None:
        reader, self._reader = self._reader, None
        if reader is None or reader.task is None:
            return None
        reader.task.cancel()
        return reader.task

    async def _read(self, reader: _Reader) -> None:
        """Hands what comes to the watchers, until it is cancelled."""
        pace = ReadPace(_PAGE, _PAGE_BYTES)
        while True:
            try:
                await self._read_once(reader, pace)
            except RETRYABLE_REDIS_ERRORS as exc:
                self._outage.failed("events", exc)
                await asyncio.sleep(_AGAIN_SECONDS)
            except Exception:
                # Nobody would hear anything any more, and be told that all is well.
                log.exception("events.reading_failed")
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self._outage.worked("events")

    async def _read_once(self, reader: _Reader, pace: ReadPace) -> None:
        if not reader.begun.is_set():
            reader.position = await self.newest()
            reader.begun.set()
        entries = await entries_after(
            self._redis,
            self._stream,
            reader.position,
            count=pace.count,
            block_ms=BLOCK_MILLISECONDS,
        )
        pace.observe(len(entries), _size_of(entries))
        reader.hand_out(entries)


def _pieces(entries: Iterable[StreamEntry], wanted: EventFilter) -> list[bytes]:
    """Returns the messages of those that are wanted, joined to pieces."""
    pieces: list[bytes] = []
    piece = bytearray()
    for each in entries:
        event = event_of(*each)
        if event is None or not wanted.fits(event):
            continue
        piece += _message(event, each[1][EVENT_FIELD])
        if len(piece) >= _PIECE_BYTES:
            pieces.append(bytes(piece))
            piece.clear()
    return [*pieces, bytes(piece)] if piece else pieces


def _message(event: Event, text: bytes) -> bytes:
    # Workers write one line; others may have written several, or a type with a line's end in it.
    line = text if not _LINE_END.search(text) else encode_json(event.attributes)
    name = "".join(each for each in event.type if each.isprintable())
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.entry_id.encode(), name.encode(), line)


def _notice(name: str, said: str) -> bytes:
    """Returns an event of the stream itself; it has no id, so what the watcher has stays known."""
    return b"event: trainmaster.%b\ndata: %b\n\n" % (name.encode(), encode_json({"reason": said}))


def check_entry_id(text: str) -> None:
    """Returns if a text names an event of the stream.

    Raises:
        LastEventIdError: it does not.
    """
    if not is_entry_id(text):
        raise LastEventIdError


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)


def _size_of(entries: Iterable[StreamEntry]) -> int:
    return sum(len(value) for _, fields in entries for value in fields.values())
