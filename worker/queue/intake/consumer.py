"""Reads the streams of commands in batches and hands them to the ledger.

Every worker reads as a consumer of the group `intake`. An entry is acknowledged by the script
that made its row or its rejection, never before; so what a worker had read when it died is read
again by itself (its own pending entries) or by another worker (`take_over`).

There are two streams. That for bulk is read only while the common one has nothing more, but for
one read in `BULK_TURN`: whoever keeps the common one full must not starve the other. Where bulk
commands stand in the common one nevertheless, what stands behind them is looked for (`look_ahead`).
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import ResponseError

from worker.batching import BatchInterval
from worker.queue.heartbeat import Heartbeat
from worker.queue.intake.acceptance import Acceptor, Slots
from worker.queue.intake.list_bridge import BATCH_BYTES, ListForwarder, ListSource
from worker.queue.intake.look_ahead import LookAhead
from worker.queue.intake.pace import ReadPace, size_of
from worker.queue.intake.rejecting import Rejector
from worker.queue.intake.take_over import TakeOver
from worker.queue.intake.validation import Entry
from worker.queue.intake.vanished import drop_vanished
from worker.queue.ledger.connection import (
    BLOCK_MILLISECONDS,
    RETRYABLE_REDIS_ERRORS,
    stop_if_cancelled,
)
from worker.queue.ledger.keys import GROUP, CommandStream
from worker.queue.ledger.outage import ONCE
from worker.queue.ledger.redis_retry import keep_trying
from worker.queue.ledger.refusals import is_misplaced
from worker.queue.ledger.streams import by_stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from worker.queue.ledger.ledger import Ledger

log = structlog.get_logger(__name__)

# Of so many reads one is of the bulk stream too, though the common one has more.
BULK_TURN = 16
# A bulk stream whose key holds something else is left out for so long: it harms nobody else.
BULK_TROUBLE_SECONDS = 5.0
# `doctor` calls a worker gone that the group has not seen for 30 s.
PRESENT_SECONDS = 5.0
# Behind every entry that is pending with a consumer, so that none comes.
_BEHIND_ALL = f"{2**64 - 1}-0"


class StreamConsumer:
    """The consumer of one worker process.

    Args:
        redis: a client whose connections may block.
        consumer: this process' name in the group; unique, for pending entries are kept by it.
        batch: most entries in one read.
        batch_bytes: how much those of one read, and of one script, are to have.
        consumer_idle_seconds: how long entries lie with another consumer before they are
            taken over from it.
        on_accepted: called with the number of commands that now wait for a run.
        on_caught_up: called when the intake is behind no more.
        now: seconds since 1970, for the time of events.
        heartbeat: beats before each read.
    """

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        redis: Redis,
        ledger: Ledger,
        *,
        consumer: str,
        batch: int,
        consumer_idle_seconds: float,
        on_accepted: Callable[[int], None],
        batch_bytes: int = BATCH_BYTES,
        on_caught_up: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._redis = redis
        self._ledger = ledger
        self._keys = ledger.keys
        self._consumer = consumer
        self._batch = batch
        self._batch_bytes = batch_bytes
        self._pace = ReadPace(batch, batch_bytes)
        self._on_caught_up = on_caught_up
        self._heartbeat = heartbeat or Heartbeat("intake", math.inf)
        self._rejector = Rejector(redis, ledger)
        self._acceptor = Acceptor(
            ledger,
            self._rejector,
            consumer=consumer,
            batch_bytes=batch_bytes,
            on_accepted=on_accepted,
            now=now,
        )
        self._others = TakeOver(
            redis,
            self._keys,
            consumer=consumer,
            pace=ReadPace(batch, batch_bytes),
            idle_ms=int(consumer_idle_seconds * 1000),
            handle_all=self._acceptor.handle_all,
        )
        # Behind which of its own pending entries each stream is to be read again.
        self._resume: dict[CommandStream, bytes] = {}
        self._read_own_again()
        self._present_until = 0.0
        self._behind = False
        self._ahead = LookAhead(redis, self._keys, consumer, batch=batch, batch_bytes=batch_bytes)
        self._turn = 0
        self._bulk_again_at = 0.0
        self._interval = BatchInterval()

    @property
    def behind(self) -> bool:
        """Whether the common stream had more than the last read took: reading comes first then."""
        return self._behind

    def claim_for(self, slots: Slots) -> None:
        """Claims commands at once, as they are accepted, where these have room."""
        self._acceptor.claim_for(slots)

    def take_all_over(self) -> None:
        """Takes entries over next time however long they lie with others.

        After Redis' clock went back nothing looks idle for as long as it went back. To take what
        another worker is about to accept does no harm: the first of the two counts.
        """
        self._others.take_all_over()

    async def read(self) -> None:
        """Reads until it is cancelled, whatever Redis does meanwhile."""
        try:
            await self._keep_on("read", self._read_once)
        finally:
            self._heartbeat.rest()

    async def move_inbox(self) -> None:
        """Moves the inbox into the stream until it is cancelled."""
        mover = self._mover(ListSource.inbox(self._keys))
        await self._keep_on("inbox", mover.move_once)

    async def move_celery(self) -> None:
        """Moves Celery's queue of submissions into the stream until it is cancelled."""
        mover = self._mover(ListSource.celery(self._keys))
        await self._keep_on("celery", mover.move_once)

    def _mover(self, pushed: ListSource) -> ListForwarder:
        return ListForwarder(self._redis, self._keys, pushed, self._batch, self._batch_bytes)

    async def take_over(self) -> None:
        """Takes entries over from consumers that are gone, until it is cancelled."""
        await self._keep_on("take-over", self._others.take_over_once)

    async def ask_again(self) -> None:
        """Asks what came of calls whose replies were lost; the same call tells it.

        `read` does so by itself; others may once it has ended.
        """
        await self._acceptor.ask_again()

    async def leave(self) -> None:
        """Removes this consumer from the groups, unless entries are still pending with it."""
        for stream in CommandStream:
            await self._others.forget(stream, 0, self._consumer)

    async def _keep_on(self, part: str, act: Callable[[], Awaitable[Any]]) -> None:
        mend = partial(self._mend, part)
        while True:
            stop_if_cancelled()
            await keep_trying(act, self._ledger.outage, part, on_trouble=mend)

    async def _mend(self, part: str, exc: Exception) -> bool:
        """Has a part begin anew after trouble; returns whether it was groups that were missing."""
        self._read_own_again()
        if part == "read":
            self._behind = False
            self._ahead.begin_anew()
        if isinstance(exc, ResponseError) and "NOGROUP" in str(exc):
            return await self._create_groups()
        return False

    async def _create_groups(self) -> bool:
        """Creates the groups that are missing; returns whether all are there."""
        complete = True
        for stream in CommandStream:
            key = self._keys.stream(stream)
            try:
                await self._redis.xgroup_create(key, GROUP, id="0", mkstream=True)
                log.info("intake.group_created", group=GROUP, stream=key)
            except RETRYABLE_REDIS_ERRORS as exc:
                if "BUSYGROUP" not in str(exc):
                    self._ledger.outage.failed(ONCE, exc)
                    complete = False
        return complete

    async def _read_once(self) -> None:
        self._heartbeat.beat()
        was_behind = self._behind
        await self._acceptor.ask_again()
        if not was_behind:
            await self._interval.wait()
        if time.monotonic() >= self._rejector.try_again_at:
            self._rejector.try_again_at = math.inf
            self._read_own_again()
        found, size_bytes = await self._read_streams()
        if not found:
            await self._show_presence()
        if self._behind:
            async for ahead in self._ahead.pages(found[CommandStream.COMMON]):
                await self._acceptor.handle_ahead(ahead)
        else:
            self._ahead.begin_anew()
        for entries in found.values():
            vanished = [
                Entry(entry.entry_id, {}, entry.stream) for entry in entries if not entry.fields
            ]
            await self._acceptor.handle_all(entries, size_bytes)
            if vanished:
                await drop_vanished(self._redis, vanished, self._keys.stream(vanished[0].stream))
        if was_behind and not self._behind:
            # Bulk commands that were held back may run now.
            self._on_caught_up()

    async def _show_presence(self) -> None:
        """Has the group see this consumer; before Redis 7.2 a read that waits in vain does not."""
        if time.monotonic() >= self._present_until:
            self._present_until = time.monotonic() + PRESENT_SECONDS
            await self._redis.xreadgroup(
                GROUP, self._consumer, {self._keys.commands: _BEHIND_ALL}, count=1
            )

    def _read_own_again(self) -> None:
        self._resume = dict.fromkeys(CommandStream, b"0")

    async def _read_streams(self) -> tuple[dict[CommandStream, list[Entry]], int]:
        """Returns new entries, or those that are pending with us, of each stream that has some.

        And how many bytes they have together.
        """
        streams, count = self._streams(), self._pace.count
        resumes = {stream: self._resume[stream] for stream in streams if stream in self._resume}
        starts = resumes or dict.fromkeys(streams, b">")
        try:
            # No name for the reply, for that would hold its messages until all are handled.
            by_key = by_stream(
                await self._redis.xreadgroup(
                    GROUP,
                    self._consumer,
                    {self._keys.stream(stream): start for stream, start in starts.items()},
                    count=count,
                    # Behind, the next read tells whether there is more, and must not wait for it.
                    block=None if resumes or self._behind else BLOCK_MILLISECONDS,
                )
            )
        except ResponseError as exc:
            if is_misplaced(exc):
                self._bulk_again_at = time.monotonic() + BULK_TROUBLE_SECONDS
            raise
        found = {}
        for stream in starts:
            if entries := by_key.get(self._keys.stream(stream)):
                found[stream] = [
                    Entry(entry_id, fields or {}, stream) for entry_id, fields in entries
                ]
        for stream in resumes:
            if stream in found:
                self._resume[stream] = found[stream][-1].entry_id
            else:
                del self._resume[stream]
        common = found.get(CommandStream.COMMON, [])
        self._behind = not resumes and len(common) >= count
        size_bytes = sum(map(size_of, found.values()))
        if found:
            # Of each stream so many are read, and all of them lie in memory.
            self._pace.observe(max(map(len, found.values())), size_bytes)
        return found, size_bytes

    def _streams(self) -> tuple[CommandStream, ...]:
        """Returns what to read next: both streams, unless the common one has more."""
        self._turn += 1
        if self._behind and not self._resume and self._turn % BULK_TURN:
            return (CommandStream.COMMON,)
        if time.monotonic() < self._bulk_again_at:
            return (CommandStream.COMMON,)
        return tuple(CommandStream)
