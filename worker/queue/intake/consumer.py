"""Reads the streams of commands in batches and hands them to the ledger.

Every worker reads as a consumer of the group `intake`. An entry is acknowledged by the script
that made its row or its rejection, never before; so what a worker had read when it died is read
again by itself (its own pending entries) or by another worker (`take_over`).

There are two streams. That for bulk is read only while the common one has nothing more, but for
one read in `BULK_TURN`: whoever keeps the common one full must not starve the other. Where bulk
commands stand in the common one nevertheless, what stands behind them is looked for (`look_ahead`).
"""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from redis.exceptions import ResponseError

from worker.batching import BatchInterval
from worker.queue.heartbeat import Heartbeat
from worker.queue.intake.list_bridge import BATCH_BYTES, ListForwarder, ListSource
from worker.queue.intake.look_ahead import LookAhead
from worker.queue.intake.pace import ReadPace, parts_of, size_of
from worker.queue.intake.received import tell_received
from worker.queue.intake.validation import Entry, conflict, validate, with_next_id
from worker.queue.ledger.connection import (
    BLOCK_MILLISECONDS,
    RETRYABLE_REDIS_ERRORS,
    stop_if_cancelled,
)
from worker.queue.ledger.keys import GROUP, CommandStream
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.models import Accepted, AcceptStatus, NewCommand, Rejection
from worker.queue.ledger.outage import ONCE, STILL_LOST_SECONDS
from worker.queue.ledger.redis_retry import keep_trying
from worker.queue.ledger.streams import by_stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from redis.asyncio import Redis

    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease

log = structlog.get_logger(__name__)

# A message that took longer to validate lets everything else on the loop have its turn.
SLOW_SECONDS = 0.02
# Of so many reads one is of the bulk stream too, though the common one has more.
BULK_TURN = 16
# A bulk stream whose key holds something else is left out for so long: it harms nobody else.
BULK_TROUBLE_SECONDS = 5.0
# So many ids are made for a command without one before it is rejected: who took them all meant to.
MOST_MADE_IDS = 8
# A rejection that Redis refuses, its dead letter above all, is tried again after so long. Meanwhile
# its entry is left pending, so that what came after it need not wait.
REFUSED_SECONDS = 5.0
# `doctor` calls a worker gone that the group has not seen for 30 s.
PRESENT_SECONDS = 5.0
# Behind every entry that is pending with a consumer, so that none comes.
_BEHIND_ALL = f"{2**64 - 1}-0"


class Slots(Protocol):
    """Where commands may run that are claimed as they are accepted."""

    def reserve(self, commands: Sequence[NewCommand]) -> int:
        """Keeps slots, until `take`, for those of these that may be claimed; returns how many."""
        ...

    def take(self, reserved: int, leases: Iterable[Lease], regained: Iterable[Lease] = ()) -> None:
        """Ends a reservation, and runs what was claimed."""
        ...


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
        self._take_over_pace = ReadPace(batch, batch_bytes)
        self._idle_ms = int(consumer_idle_seconds * 1000)
        self._on_accepted = on_accepted
        self._on_caught_up = on_caught_up
        self._now = now
        self._heartbeat = heartbeat or Heartbeat("intake", math.inf)
        self._forget_consumers = load_script(redis, "forget_consumers")
        # Behind which of its own pending entries each stream is to be read again.
        self._resume: dict[CommandStream, bytes] = {}
        self._read_own_again()
        self._own_again_at = math.inf
        self._present_until = 0.0
        self._tell_refused_at = -math.inf
        self._takes_all = False
        self._behind = False
        self._ahead = LookAhead(redis, self._keys, consumer, batch=batch, batch_bytes=batch_bytes)
        self._turn = 0
        self._bulk_again_at = 0.0
        self._interval = BatchInterval()
        self._slots: Slots | None = None
        # Of which it is not known what came of it, nor whether it was claimed.
        self._unanswered: list[tuple[list[NewCommand], CommandStream]] = []

    @property
    def behind(self) -> bool:
        """Whether the common stream had more than the last read took: reading comes first then."""
        return self._behind

    def claim_for(self, slots: Slots) -> None:
        """Claims commands at once, as they are accepted, where these have room."""
        self._slots = slots

    def take_all_over(self) -> None:
        """Takes entries over next time however long they lie with others.

        After Redis' clock went back nothing looks idle for as long as it went back. To take what
        another worker is about to accept does no harm: the first of the two counts.
        """
        self._takes_all = True

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
        await self._keep_on("take-over", self._take_over_once)

    async def ask_again(self) -> None:
        """Asks what came of calls whose replies were lost; the same call tells it.

        `read` does so by itself; others may once it has ended.
        """
        asked = len(self._unanswered)
        for _ in range(asked):
            batch, stream = self._unanswered[0]
            try:
                told = await self._ledger.accept_and_claim(batch, stream, holder=self._consumer)
            except ResponseError:
                # It may be this stream alone that is in trouble: the other one is read on.
                self._unanswered.append(self._unanswered.pop(0))
                continue
            del self._unanswered[0]
            if self._slots is not None:
                self._slots.take(0, told.leases, told.regained)
            if accepted := told.statuses.count(AcceptStatus.ACCEPTED):
                self._on_accepted(accepted)
            if new := accepted + len(told.regained):
                self._ledger.telemetry.accepted(new)

    async def leave(self) -> None:
        """Removes this consumer from the groups, unless entries are still pending with it."""
        for stream in CommandStream:
            await self._forget(stream, 0, self._consumer)

    async def _forget(self, stream: CommandStream, idle_ms: int, name: str = "") -> None:
        await self._forget_consumers(keys=[self._keys.stream(stream)], args=[GROUP, idle_ms, name])

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
        await self.ask_again()
        if not was_behind:
            await self._interval.wait()
        if time.monotonic() >= self._own_again_at:
            self._own_again_at = math.inf
            self._read_own_again()
        found, size_bytes = await self._read_streams()
        if not found:
            await self._show_presence()
        if self._behind:
            async for ahead in self._ahead.pages(found[CommandStream.COMMON]):
                await self._handle_ahead(ahead)
        else:
            self._ahead.begin_anew()
        for entries in found.values():
            vanished = [
                Entry(entry.entry_id, {}, entry.stream) for entry in entries if not entry.fields
            ]
            await self._handle_all(entries, size_bytes)
            await self._drop_vanished(vanished)
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
            if "WRONGTYPE" in str(exc):
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

    async def _handle_ahead(self, entries: list[Entry]) -> None:
        """Accepts what can be; what is to be rejected or needs another id waits for its turn."""
        for part in parts_of(entries, self._batch_bytes):
            begun = time.monotonic()
            validated = [await self._validate(entry) for entry in part]
            pairs = [
                (entry, each)
                for entry, each in zip(part, validated, strict=True)
                if not isinstance(each, Rejection)
            ]
            told = await self._ledger.accept([each for _, each in pairs]) if pairs else []
            new = [
                pair
                for pair, status in zip(pairs, told, strict=True)
                if status is AcceptStatus.ACCEPTED
            ]
            tell_received(self._ledger.telemetry, new, self._keys.commands, begun)
            if accepted := told.count(AcceptStatus.ACCEPTED):
                self._on_accepted(accepted)
                log.debug("intake.accepted_ahead", commands=accepted)

    async def _validate(self, entry: Entry) -> NewCommand | Rejection:
        begun = time.monotonic()
        validated = validate(entry, self._keys, self._now())
        if time.monotonic() - begun > SLOW_SECONDS:
            # A message with many thousand problems takes seconds: leases have to be renewed.
            await asyncio.sleep(0)
        return validated

    async def _take_over_once(self) -> None:
        takes_all, self._takes_all = self._takes_all, False
        try:
            for stream in CommandStream:
                await self._take_over_from(stream, 0 if takes_all else self._idle_ms)
                await self._forget(stream, max(self._idle_ms * 10, 60_000))
        except RETRYABLE_REDIS_ERRORS:
            # What this pass did not come to is for the next one.
            self._takes_all = self._takes_all or takes_all
            raise
        await asyncio.sleep(self._idle_ms / 2000)

    async def _take_over_from(self, stream: CommandStream, idle_ms: int) -> None:
        start = "0-0"
        pace = self._take_over_pace
        while True:
            start, entries, vanished = await self._redis.xautoclaim(
                self._keys.stream(stream),
                GROUP,
                self._consumer,
                min_idle_time=idle_ms,
                start_id=start,
                count=pace.count,
            )
            # Redis has acknowledged these itself, so nothing else will ever tell of them.
            self._tell_vanished(vanished, stream)
            if entries:
                log.info("intake.taken_over", entries=len(entries))
                taken = [Entry(entry_id, fields, stream) for entry_id, fields in entries]
                del entries
                size_bytes = size_of(taken)
                pace.observe(len(taken), size_bytes)
                await self._handle_all(taken, size_bytes)
            else:
                # So many were looked at, or more, and nothing came of it.
                pace.observe(pace.count, 0)
            if start in {b"0-0", "0-0"}:
                return

    async def _drop_vanished(self, entries: Sequence[Entry]) -> None:
        """Acknowledges entries whose content someone deleted; there is nothing left to validate."""
        if entries:
            stream = entries[0].stream
            ids = [entry.entry_id for entry in entries]
            self._tell_vanished(ids, stream)
            await self._redis.xack(self._keys.stream(stream), GROUP, *ids)

    def _tell_vanished(self, entry_ids: Sequence[bytes], stream: CommandStream) -> None:
        if entry_ids:
            log.error(
                "intake.entries_vanished",
                entries=[entry.decode() for entry in entry_ids],
                stream=self._keys.stream(stream),
                advice="someone deleted or trimmed them before they were accepted: send them again",
            )

    async def _handle_all(self, entries: list[Entry], size_bytes: int) -> None:
        """Handles entries in parts of so many bytes, and lets go of each; the list ends empty.

        Args:
            entries: of one stream.
            size_bytes: how many they have together, or more.
        """
        if size_bytes <= self._batch_bytes:
            await self._handle([entry for entry in entries if entry.fields])
            return
        for part in parts_of(entries, self._batch_bytes):
            await self._handle(part)
            # Or it would be held while the next one is handled.
            del part

    async def _handle(self, entries: Sequence[Entry]) -> None:
        """Accepts or rejects entries of one stream."""
        if not entries:
            return
        begun = time.monotonic()
        stream = entries[0].stream
        new_commands: list[tuple[Entry, NewCommand]] = []
        rejections: list[Rejection] = []
        for entry in entries:
            validated = await self._validate(entry)
            if isinstance(validated, Rejection):
                rejections.append(validated)
            else:
                new_commands.append((entry, validated))
        accepted, waiting, conflicts = await self._accept(new_commands, stream, begun)
        rejections += conflicts
        if waiting:
            self._on_accepted(waiting)
        if rejections:
            await self._reject(rejections, stream)
        if accepted:
            self._ledger.telemetry.accepted(accepted)

    async def _reject(self, batch: Sequence[Rejection], stream: CommandStream) -> None:
        try:
            count = await self._ledger.reject(batch, stream)
        except ResponseError as exc:
            self._own_again_at = time.monotonic() + REFUSED_SECONDS
            if len(batch) == 1:
                await self._tell_refused(batch[0], stream, exc)
                return
            # One of them may be what can't be written: it must not take the others with it.
            for rejection in batch:
                await self._reject([rejection], stream)
            return
        if count:
            # Those that were rejected before are told no more; which they are nobody knows.
            self._ledger.telemetry.rejected([each.code for each in batch[:count]])

    async def _tell_refused(
        self, rejection: Rejection, stream: CommandStream, exc: ResponseError
    ) -> None:
        """Tells which rejection Redis refuses and where; Redis itself is not away."""
        now = time.monotonic()
        if now < self._tell_refused_at:
            return
        self._tell_refused_at = now + STILL_LOST_SECONDS
        targets = [self._keys.events, self._keys.dead_letters]
        wrong = [key for key in targets if await self._redis.type(key) not in {b"stream", b"none"}]
        log.error(
            "intake.rejection_refused",
            entry=rejection.entry_id.decode(),
            stream=self._keys.stream(stream),
            refused_by=wrong or targets,
            error=" ".join(str(exc).split()),
            advice=(
                "the key holds something else: rename it"
                if wrong
                else "see what `trainmaster doctor` says of these streams"
            )
            + f"; the message stays where it is and is tried again every {REFUSED_SECONDS:.0f} s",
        )

    async def _accept(
        self, batch: Sequence[tuple[Entry, NewCommand]], stream: CommandStream, begun: float
    ) -> tuple[int, int, list[Rejection]]:
        """Returns how many were new, how many of these wait, and the rejections of conflicts."""
        accepted = claimed = number = 0
        new_ones: list[tuple[Entry, NewCommand]] = []
        conflicts = []
        while batch:
            number += 1
            told = await self._accept_once([new for _, new in batch], stream)
            again = []
            claimed += len(told.leases)
            for (entry, new), status in zip(batch, told.statuses, strict=True):
                if status is AcceptStatus.ACCEPTED:
                    accepted += 1
                    new_ones.append((entry, new))
                elif status is AcceptStatus.TAKEN and number < MOST_MADE_IDS:
                    log.warning("intake.id_taken", id=new.command_id, entry=entry.origin)
                    again.append((entry, with_next_id(entry, new, number, self._now())))
                elif status is not AcceptStatus.DUPLICATE:
                    conflicts.append(conflict(entry, new, self._keys, self._now()))
            batch = again
        tell_received(self._ledger.telemetry, new_ones, self._keys.stream(stream), begun)
        return accepted, accepted - claimed, conflicts

    async def _accept_once(self, batch: list[NewCommand], stream: CommandStream) -> Accepted:
        """Accepts commands, and has those run that were claimed with it."""
        if self._slots is None:
            return await self._ledger.accept_and_claim(batch, stream)
        reserved = self._slots.reserve(batch)
        told = Accepted([], [], [])
        try:
            told = await self._ledger.accept_and_claim(
                batch, stream, most=reserved, holder=self._consumer
            )
        except ResponseError:
            # Nothing is acknowledged: what is pending with us will be read again.
            raise
        except BaseException:
            if reserved:
                # What was claimed is ours until the lease ends, and not pending any more.
                self._unanswered.append((batch, stream))
            raise
        finally:
            self._slots.take(reserved, told.leases, told.regained)
        return told
