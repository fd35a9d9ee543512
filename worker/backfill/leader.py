"""Leads a backfill: reads its source ahead, writes its parts, tells its progress, ends it.

Whoever leads does so in small steps, each of which can be the last: all that it knows stands in
Redis before and after every step, so that another may go on where it died.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson
import structlog

from schemas.enums import EventState
from schemas.wording import counted
from worker.backfill.errors import (
    LeadLostError,
    NewerPlanError,
    OutputError,
    SourceError,
    SourceUnavailableError,
)
from worker.backfill.event_builder import backfill_event
from worker.backfill.locations import STDIN
from worker.backfill.results.finalization import finalize, result_of
from worker.backfill.results.output import Output
from worker.backfill.results.parts import Collector
from worker.backfill.sources.formats import expected_items
from worker.backfill.sources.reader import BATCH_ITEMS, Reader
from worker.backfill.status import BackfillState, BackfillStatus, Origin
from worker.backfill.store import NOBODY, Transition
from worker.queue.ledger.connection import (
    PASSING_TROUBLE,
    RETRYABLE_REDIS_ERRORS,
    stop_if_cancelled,
)
from worker.queue.ledger.redis_retry import next_pause
from worker.thread_pools import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from worker.backfill.sources.reader import Batch
    from worker.backfill.store import BackfillStore, LeadToken

log = structlog.get_logger(__name__)

T = TypeVar("T")

LEASE_SECONDS: Final = 10.0
# While nothing can be fed nor written, so often is looked whether that has changed.
IDLE_SECONDS: Final = 0.1
# A part that is not full is written all the same after so long without a full one.
FLUSH_SECONDS: Final = 60.0
# Of uncollected results, so many parts may lie in Redis before reading waits for them.
PARTS_AHEAD: Final = 2
SOURCE_TRIES: Final = 5
SOURCE_PAUSE_SECONDS: Final = 2.0
ACTIVE: Final = frozenset({BackfillState.RUNNING, BackfillState.PAUSED, BackfillState.CANCELLING})


class _ReadAbandonedError(Exception):
    """Nobody waits any more for what a source may still send: its thread is left alone."""


@dataclass(frozen=True, slots=True)
class AlreadyLed:
    """Another process leads the backfill, at least for so long."""

    seconds: float


class Leader:
    """Leads one backfill.

    Args:
        store: the backfills of its namespace.
        backfill_id: of the backfill.
        announces: whether the end is told by an event of its own; else its command tells it.
        epoch: the ledger's epoch; without it in Redis nothing is fed.
        watch: gets every status, for a progress bar.
        trouble: gets every error of Redis; the leader tries again.
    """

    def __init__(
        self,
        store: BackfillStore,
        backfill_id: str,
        *,
        announces: bool,
        epoch: str = "",
        watch: Callable[[BackfillStatus], None] | None = None,
        trouble: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._store = store
        self._id = backfill_id
        self._announces = announces
        self._epoch = epoch
        self._watch = watch or (lambda _: None)
        self._trouble = trouble or (lambda _: None)
        self._token: LeadToken = NOBODY
        self._reader: Reader | None = None
        # What was read and is not known to be fed: standard input can't be read again.
        self._unfed: Batch | None = None
        self._written_at = time.monotonic()
        self._source_failures = 0
        self._read_end = math.inf

    async def work(
        self, seconds: float | None = None, *, read_seconds: float = math.inf
    ) -> BackfillStatus | AlreadyLed:
        """Leads until the backfill has ended, is paused, or the time is up.

        Trouble of Redis is waited out: it may refuse, be away, or become another server.

        Args:
            seconds: after which nothing more is begun.
            read_seconds: after which even a read of the source that is under way is left alone.

        Raises:
            LeadLostError: another leads now, or the backfill is not known.
            NewerPlanError: only a newer version knows all that it is to do.
            redis.exceptions.RedisError: Redis is still in trouble when the time is up.
        """
        end = None if seconds is None else time.monotonic() + seconds
        self._read_end = time.monotonic() + read_seconds
        status = await self._insist(self._take, end)
        if isinstance(status, AlreadyLed):
            return status
        try:
            while True:
                self._watch(status)
                stop_if_cancelled()
                if status.state.ended:
                    return status
                before = status.state
                try:
                    moved = await self._step(status)
                    status = await self._keep(status)
                except OutputError as exc:
                    told = str(exc)
                    return await self._insist(partial(self._pause, status, told), end)
                except PASSING_TROUBLE as exc:
                    moved = True
                    status = await self._insist(partial(self._keep, status), end, exc)
                if before is BackfillState.RUNNING and status.state is BackfillState.PAUSED:
                    log.warning("backfill.paused", backfill=self._id, reason=status.reason)
                if status.state is BackfillState.PAUSED and not status.waiting:
                    return status
                if end is not None and time.monotonic() > end:
                    return status
                if not moved:
                    await asyncio.sleep(IDLE_SECONDS)
        finally:
            await self._give_up()

    async def _take(self) -> BackfillStatus | AlreadyLed:
        lease_ms = int(LEASE_SECONDS * 1000)
        token, status = await self._store.lead(self._id, NOBODY, lease_ms=lease_ms)
        if status is None:
            raise LeadLostError(f"no backfill has the id {self._id}")
        if token == NOBODY:
            return AlreadyLed(status.led_ms / 1000)
        self._token = token
        if status.plan.unread and not status.state.ended:
            await self._give_up()
            raise NewerPlanError(
                f"the plan of backfill {self._id} has what this version of trainmaster can't read "
                f"({', '.join(status.plan.unread)}); only a newer one may lead it"
            )
        return status

    async def _keep(self, last: BackfillStatus) -> BackfillStatus:
        progress = b"", ""
        if last.state in ACTIVE:
            told = f"{last.state}-{last.read}-{last.ended}"
            progress = self._event(last, EventState.PROGRESSED, last.progress(), told), told
        token, status = await self._store.lead(
            self._id,
            self._token,
            lease_ms=int(LEASE_SECONDS * 1000),
            progress=progress,
            replies=self._store.keys.replies(last.plan.reply_to),
        )
        if status is None or token != self._token:
            raise LeadLostError("another process leads the backfill now")
        return status

    async def _give_up(self) -> None:
        # Without this, whoever comes next waits for the end of the lease, and no longer.
        with suppress(*RETRYABLE_REDIS_ERRORS):
            await self._store.lead(self._id, self._token, lease_ms=0)

    async def _insist(
        self,
        act: Callable[[], Awaitable[T]],
        end: float | None,
        trouble: BaseException | None = None,
    ) -> T:
        """Returns what `act` returns, however often Redis refuses it or is away until then.

        Args:
            act: may be done again.
            end: when to give up.
            trouble: that there was already.
        """
        pause = 0.0
        while True:
            if trouble is not None:
                self._trouble(trouble)
                if end is not None and time.monotonic() > end:
                    raise trouble
                pause = next_pause(pause)
                await asyncio.sleep(pause)
                stop_if_cancelled()
            try:
                return await act()
            except PASSING_TROUBLE as exc:
                trouble = exc

    async def _step(self, status: BackfillStatus) -> bool:
        """Does what can be done now; returns whether there was anything."""
        if status.state is BackfillState.CANCELLING:
            await self._store.transition(
                self._id,
                Transition({BackfillState.CANCELLING}, BackfillState.CANCELLING, token=self._token),
            )
        if status.excess and status.state is BackfillState.RUNNING:
            await self._pause(status, status.excess)
            return True
        fed = await self._feed(status) if status.state is BackfillState.RUNNING else False
        written = await self._collect(status)
        if self._is_done(status):
            await self._end(status)
            return True
        return fed or written

    def _room(self, status: BackfillStatus) -> int:
        """Returns how many items may be read now."""
        plan = status.plan
        ahead = status.open + status.waiting
        return min(
            plan.window - status.open,
            plan.window + PARTS_AHEAD * plan.part_items - ahead,
        )

    async def _feed(self, status: BackfillStatus) -> bool:
        room = self._room(status)
        # A nearly full window is not worth a script for each item that ends.
        if status.exhausted or room < min(BATCH_ITEMS, max(1, status.plan.window // 8)):
            return False
        if self._reader is None:
            if status.read == 0:
                output = Output(status.plan.output)
                await self._kept(status, in_thread(output.check_unused))
            # On its owner's machine a server may send us on; a worker reads what was named.
            follows = status.origin is Origin.CONSOLE
            self._reader = Reader(self._id, status.plan, follows=follows)
            await self._expect(status)
        try:
            batch = await self._next_batch(status, self._reader, room)
        except SourceError as exc:
            await self._source_failed(status, exc)
            return True
        except _ReadAbandonedError:
            log.warning("backfill.read_abandoned", backfill=self._id)
            self._reader = None
            return True
        self._source_failures = 0
        fed = await self._store.feed(
            status,
            self._token,
            batch.items,
            batch.position,
            exhausted=batch.exhausted,
            passed=batch.passed,
            epoch=self._epoch,
        )
        if fed:
            self._unfed = None
        return True

    async def _next_batch(self, status: BackfillStatus, reader: Reader, room: int) -> Batch:
        unfed = self._unfed
        # Where the cursor has moved, a feed whose reply was lost had taken place.
        if unfed is None or (unfed.number, unfed.begun_at) != (status.read, status.position):
            act = reader.read(status.read, status.position, room, most_bad=status.failures_left)
            unfed = self._unfed = await self._kept(status, act, reads=True)
        return unfed

    async def _expect(self, status: BackfillStatus) -> None:
        if status.expected is None:
            items = await self._kept(status, in_thread(expected_items, status.plan.source))
            if items is not None:
                await self._store.expect(self._id, items)

    async def _source_failed(self, status: BackfillStatus, error: SourceError) -> None:
        """Fails a backfill that can read nothing; pauses one that may go on, after some tries."""
        self._source_failures += 1
        if status.read == 0 and not isinstance(error, SourceUnavailableError):
            await self._store.transition(
                self._id,
                Transition(
                    {BackfillState.RUNNING},
                    BackfillState.FAILED,
                    str(error),
                    self._token,
                    self._end_event(
                        status,
                        EventState.FAILED,
                        {
                            "error": {"code": "invalid_input", "message": str(error)},
                            "attempts": 1,
                        },
                    ),
                ),
            )
            return
        log.warning("backfill.source_failed", backfill=self._id, error=str(error))
        if self._source_failures < SOURCE_TRIES:
            await asyncio.sleep(SOURCE_PAUSE_SECONDS)
            return
        self._source_failures = 0
        await self._pause(status, str(error))

    async def _pause(self, status: BackfillStatus, reason: str) -> BackfillStatus:
        """Pauses the backfill until a person has looked; a cancelled one says why it waits."""
        log.warning("backfill.paused", backfill=self._id, reason=reason)
        cancelling = status.state is BackfillState.CANCELLING
        state = BackfillState.CANCELLING if cancelling else BackfillState.PAUSED
        before = BackfillState.CANCELLING if cancelling else BackfillState.RUNNING
        await self._store.transition(self._id, Transition({before}, state, reason, self._token))
        return await self._keep(status)

    async def _collect(self, status: BackfillStatus) -> bool:
        is_last = status.open == 0 and (
            status.exhausted or status.state is not BackfillState.RUNNING
        )
        is_old = time.monotonic() - self._written_at > FLUSH_SECONDS
        is_paused = status.state is BackfillState.PAUSED
        collector = Collector(self._store, Output(status.plan.output))
        count = await self._kept(
            status,
            collector.collect(status, self._token, rest=is_last or is_old or is_paused),
        )
        if count:
            self._written_at = time.monotonic()
        return count > 0

    def _is_done(self, status: BackfillStatus) -> bool:
        if status.open or status.waiting or status.cut:
            return False
        match status.state:
            case BackfillState.CANCELLING:
                return True
            case BackfillState.RUNNING:
                return status.exhausted and status.collected == status.read
            case _:
                return False

    async def _end(self, status: BackfillStatus) -> None:
        # By the clock that told when it began; and nothing takes less than no time.
        seconds = max(0.0, await self._store.now() - status.begun_ms / 1000)
        output = Output(status.plan.output)
        warnings = await self._kept(status, in_thread(finalize, status, output, seconds))
        cancelled = status.state is BackfillState.CANCELLING
        state = BackfillState.CANCELLED if cancelled else BackfillState.SUCCEEDED
        result = result_of(status, seconds, warnings)
        data: dict[str, Any] = {"note": f"{counted(status.ended, 'item')} had ended"}
        if not cancelled:
            data = {"result": result, "attempts": 1, "duration_seconds": result["seconds"]}
        await self._store.transition(
            self._id,
            Transition(
                {status.state},
                state,
                token=self._token,
                event=self._end_event(status, EventState(state), data),
                result=orjson.dumps(result),
            ),
        )
        log.info("backfill.ended", backfill=self._id, state=state, items=status.ended)

    def _end_event(self, status: BackfillStatus, state: EventState, data: dict[str, Any]) -> bytes:
        return self._event(status, state, data) if self._announces else b""

    def _event(
        self, status: BackfillStatus, state: EventState, data: dict[str, Any], told: str = ""
    ) -> bytes:
        if status.silent:
            return b""
        return backfill_event(
            self._id,
            status.plan,
            status.entry,
            state,
            data,
            now_ms=status.now_ms,
            told=told,
        )

    async def _kept(
        self, status: BackfillStatus, act: Coroutine[Any, Any, T], *, reads: bool = False
    ) -> T:
        """Returns what `act` returns, and keeps the lead while it lasts.

        Args:
            status: of the backfill.
            act: what takes long.
            reads: whether it reads the source, which may never end: it is left alone once the
                backfill is paused or cancelled, or its command's time is up.

        Raises:
            _ReadAbandonedError: it was.
        """
        task = asyncio.ensure_future(act)
        try:
            while not (await asyncio.wait({task}, timeout=self._look_seconds(reads=reads)))[0]:
                # What is being done goes on, for what it has read might be lost.
                try:
                    now = await self._keep(status)
                except PASSING_TROUBLE as exc:
                    self._trouble(exc)
                else:
                    if reads and _is_vain(now):
                        raise _ReadAbandonedError
                if reads and time.monotonic() >= self._read_end:
                    raise _ReadAbandonedError
            return task.result()
        finally:
            task.cancel()

    def _look_seconds(self, *, reads: bool) -> float:
        """Returns how long to wait for what takes long before the lease is renewed."""
        left = self._read_end - time.monotonic() if reads else math.inf
        return max(0.0, min(LEASE_SECONDS / 3, left))


def _is_vain(status: BackfillStatus) -> bool:
    """Tells whether nobody waits for what is being read; standard input can't be read again."""
    if status.state is BackfillState.PAUSED:
        return status.plan.source.location != STDIN
    return status.state is not BackfillState.RUNNING
