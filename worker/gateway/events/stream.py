"""The events as a stream of server-sent events, for any number of watchers.

One reader of a process reads the stream of events and hands each to all watchers that want it. One
who comes with the id of the last event that they have first gets from Redis what came since, and
then joins the others without a gap. A watcher who does not keep up is dropped, with an event that
says so, rather than held in memory: they come again with that id.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from worker.gateway.events.messages import (
    FIRST,
    HEARTBEAT,
    HELLO,
    STALLED,
    check_entry_id,
    notice,
    order_of,
    pieces_of,
)
from worker.gateway.events.watchers import Audience, EventFilter, Watcher
from worker.queue.intake.pace import ReadPace
from worker.queue.ledger.connection import BLOCK_MILLISECONDS, RETRYABLE_REDIS_ERRORS, end_all
from worker.queue.ledger.outage import Outage
from worker.queue.ledger.streams import entries_after, entries_between, newest_entry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.streams import StreamEntry

log = structlog.get_logger(__name__)

# Proxies and clients take a connection for dead on which nothing comes for longer.
HEARTBEAT_SECONDS: Final = 15.0
_PAGE: Final = 500
_PAGE_BYTES: Final = 1_048_576
_AGAIN_SECONDS: Final = 1.0


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
        self._audience: Audience | None = None
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
        watcher = Watcher(wanted or EventFilter())
        audience: Audience | None = None
        self._users += 1
        try:
            # With where it begins: who loses the connection before the first event goes on there.
            yield HELLO if after is None else b"%sid: %s\n\n" % (HELLO, after.encode())
            audience = self._ensure_audience()
            async for piece in self._history(audience, watcher, after):
                yield piece
            while True:
                # Once streams end, what waits is handed over, and nothing more is waited for.
                seconds = 0.0 if self._is_ending else self._heartbeat_seconds
                if piece := await watcher.get(seconds):
                    yield piece
                elif watcher.is_dropped:
                    yield notice("dropped", "the connection is too slow for these events")
                    return
                elif self._is_ending:
                    return
                else:
                    yield STALLED if audience.is_stalled else HEARTBEAT
        finally:
            if audience is not None:
                audience.watchers.discard(watcher)
            self._users -= 1
            if not self._users:
                self._stop_reading()

    def end(self) -> None:
        """Ends the streams of all watchers: the process stops, and they come again elsewhere."""
        self._is_ending = True
        for watcher in () if self._audience is None else self._audience.watchers:
            watcher.wake()

    async def close(self) -> None:
        """Stops reading; watchers get nothing more."""
        if (task := self._stop_reading()) is not None:
            await end_all([task])

    async def _history(
        self, audience: Audience, watcher: Watcher, after: str | None
    ) -> AsyncIterator[bytes]:
        """Yields what came before now, until the watcher is one of those who get what comes."""
        beat_at = time.monotonic() + self._heartbeat_seconds
        pace = ReadPace(_PAGE, _PAGE_BYTES)
        known = after
        looked = after in {None, FIRST}
        joined = False
        beat = HEARTBEAT
        while not joined and not self._is_ending:
            pieces: list[bytes] = []
            was_stalled = beat is STALLED
            try:
                if not looked:
                    known, pieces = await self._look_for_gap(str(known))
                    looked = True
                joined, messages, known = await self._page(audience, watcher, known, pace)
                pieces += messages
                beat = HEARTBEAT
            except RETRYABLE_REDIS_ERRORS as exc:
                self._outage.failed("history", exc)
                beat = STALLED
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self._outage.worked("history")
            # That it waits, and that it no longer does, is told at once.
            if not pieces and (beat is STALLED or was_stalled or time.monotonic() >= beat_at):
                pieces = [beat]
            for piece in pieces:
                yield piece
                beat_at = time.monotonic() + self._heartbeat_seconds

    async def _page(
        self, audience: Audience, watcher: Watcher, known: str | None, pace: ReadPace
    ) -> tuple[bool, list[bytes], str]:
        """Returns whether the watcher has joined the others, what came before that, and its last.

        Raises:
            TimeoutError: the audience has not begun: Redis is away.
        """
        async with asyncio.timeout(self._heartbeat_seconds):
            await audience.begun.wait()
        position = audience.position
        known = position if known is None else known
        entries: list[StreamEntry] = []
        if order_of(known) < order_of(position):
            entries = await entries_between(
                self._redis, self._stream, f"({known}", "+", count=pace.count
            )
            pace.observe(len(entries), _size_of(entries))
            # Where nothing is left up to there, it was trimmed meanwhile.
            known = entries[-1][0].decode() if entries else position
        # Nothing is awaited between this look and joining, so nothing comes in between.
        if joined := order_of(known) >= order_of(audience.position):
            watcher.known = order_of(known)
            audience.watchers.add(watcher)
        return joined, pieces_of(entries, watcher.wanted.fits), known

    async def _look_for_gap(self, known: str) -> tuple[str, list[bytes]]:
        """Returns what to read on from, and a notice where events behind it may be missing."""
        first = await entries_between(self._redis, self._stream, "-", "+", count=1)
        newest = await newest_entry(self._redis, self._stream)
        newest_id = newest[0].decode() if newest else FIRST
        if order_of(known) > order_of(newest_id):
            # Somebody emptied Redis, or this is another one: what they know is no longer there.
            said = f"{known} is not of this stream, which has come to {newest_id}"
            return newest_id, [notice("gap", said)]
        if first and order_of(first_id := first[0][0].decode()) > order_of(known):
            said = f"events between {known} and {first_id} may be missing: they are no longer kept"
            return known, [notice("gap", said)]
        return known, []

    def _ensure_audience(self) -> Audience:
        if self._audience is None:
            self._audience = audience = Audience()
            audience.task = asyncio.create_task(self._read(audience))
        return self._audience

    def _stop_reading(self) -> asyncio.Task[None] | None:
        audience, self._audience = self._audience, None
        if audience is None or audience.task is None:
            return None
        audience.task.cancel()
        return audience.task

    async def _read(self, audience: Audience) -> None:
        """Hands what comes to the watchers, until it is cancelled."""
        pace = ReadPace(_PAGE, _PAGE_BYTES)
        while True:
            try:
                if audience.is_stalled and audience.begun.is_set():
                    # It may have been emptied meanwhile, or another one has taken over.
                    audience.go_on_from(*await self._look_for_gap(audience.position))
                    audience.tell(is_stalled=False)
                await self._read_once(audience, pace)
            except RETRYABLE_REDIS_ERRORS as exc:
                self._outage.failed("events", exc)
                audience.tell(is_stalled=True)
                await asyncio.sleep(_AGAIN_SECONDS)
            except Exception:
                # Nobody would hear anything any more, and be told that all is well.
                log.exception("events.reading_failed")
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self._outage.worked("events")
                audience.tell(is_stalled=False)

    async def _read_once(self, audience: Audience, pace: ReadPace) -> None:
        if not audience.begun.is_set():
            audience.position = await self.newest()
            audience.begun.set()
        entries = await entries_after(
            self._redis,
            self._stream,
            audience.position,
            count=pace.count,
            block_ms=BLOCK_MILLISECONDS,
        )
        pace.observe(len(entries), _size_of(entries))
        audience.hand_out(entries)


def _size_of(entries: Iterable[StreamEntry]) -> int:
    return sum(len(value) for _, fields in entries for value in fields.values())
