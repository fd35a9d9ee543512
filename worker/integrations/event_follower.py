"""A named follower of the events: one process leads it, and hands each event to a handler.

The leader holds a lease in Redis with a fencing token; the others of the same name stand by, and
one of them takes over within seconds when it dies. Events are handed over at least once and, for
each command, in order. The position in Redis is that of the last event whose handler has returned,
and the handlers of all before it. What a leader had in hand when it died is handed over again.

A name that is new begins with the events from then on.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import structlog

from trainmaster_client.events import event_of
from worker.integrations.follower_store import NOBODY, FollowerStore, order_of
from worker.integrations.lead import Lead, LeadLostError, NotHandledError
from worker.queue.ledger.connection import (
    BLOCK_MILLISECONDS,
    PASSING_TROUBLE,
    RETRYABLE_REDIS_ERRORS,
    stop_if_cancelled,
)
from worker.queue.ledger.keys import EVENT_FIELD
from worker.queue.ledger.outage import Outage
from worker.queue.ledger.redis_retry import keep_trying, next_pause
from worker.queue.ledger.streams import entries_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from redis.asyncio import Redis

    from trainmaster_client import Event
    from worker.integrations.follower_store import LeadAnswer
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.streams import StreamEntry

log = structlog.get_logger(__name__)

Handler: TypeAlias = "Callable[[Event, bytes], Awaitable[None]]"

LEASE_SECONDS: Final = 6.0
KEEP_SECONDS: Final = 1.5
# So long before its end a leader no longer trusts its lease: two clocks do not run alike.
LEASE_MARGIN_SECONDS: Final = 0.5
STAND_BY_SECONDS: Final = 1.0
# What is done and not recorded is handed over again after a crash.
RECORD_SECONDS: Final = 0.2
# Of a handler that fails for another reason than Redis, before its event is set aside.
TRIES: Final = 5
LONGEST_PAUSE_SECONDS: Final = 5.0
# How long handlers may still run once the follower is to stop.
STOP_SECONDS: Final = 10.0
BATCH: Final = 64
# Entries, and bytes, that are read and not done.
WINDOW: Final = 1_024
WINDOW_BYTES: Final = 16 * 1024 * 1024
# By so much a position is put back that lies ahead of the stream: whatever clock its new entries
# have, none of them is passed over.
REWIND_MS: Final = 60_000


@dataclass(slots=True)
class _Entry:
    """An entry that was read.

    Attributes:
        number: entries that had been added up to it; -1 if that is not known.
        missed: entries before it that were trimmed unread.
    """

    entry_id: str
    number: int
    missed: int = 0
    event: Event | None = None
    text: bytes = b""
    done: bool = False


class EventFollower:
    """Follows the events of a namespace under a name.

    Args:
        redis: client that returns bytes.
        keys: of the namespace.
        name: of the follower; its position is kept under it.
        handler: gets each event, and its text as it lies in the stream. What it raises because
            Redis is away is tried again for as long as it takes; another error is tried again a few
            times, and then its event is set aside in the stream `{ns}:parked:<name>`.
        concurrency: handlers that run at the same time; of one command there is one at most.
        wants: tells which events the handler gets; the others are done at once. It may not raise.
        beside: runs while this process leads, before the first event is handed over.
        outage: is told of trouble with Redis.
        lease_seconds: after which a dead leader is replaced.
    """

    def __init__(  # noqa: PLR0913 - what has a default is for few
        self,
        redis: Redis,
        keys: Keys,
        name: str,
        handler: Handler,
        *,
        concurrency: int,
        wants: Callable[[Event], bool] | None = None,
        beside: Callable[[Lead], Coroutine[Any, Any, None]] | None = None,
        outage: Outage | None = None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.name = name
        self.redis = redis
        self.keys = keys
        self.handler = handler
        self.concurrency = concurrency
        self.wants = wants
        self.beside = beside
        self.outage = outage or Outage()
        self.lease_seconds = lease_seconds
        self.store = FollowerStore(redis, keys, name)
        self.holder = f"{socket.gethostname()}-{os.getpid()}"

    async def run(self, stop: asyncio.Event) -> None:
        """Follows until `stop` is set, whatever Redis does meanwhile."""
        stopping = asyncio.ensure_future(stop.wait())
        leading = asyncio.ensure_future(self._lead_again_and_again(stop))
        try:
            await asyncio.wait({stopping, leading}, return_when=asyncio.FIRST_COMPLETED)
            if not leading.done():
                # It ends by itself where it leads, and need not wait for a lead.
                await asyncio.wait({leading}, timeout=STOP_SECONDS + LEASE_SECONDS)
        finally:
            stopping.cancel()
            await end_all([leading])
        if not leading.cancelled():
            leading.result()

    async def _lead_again_and_again(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            stop_if_cancelled()
            begun = time.monotonic()
            try:
                answer = await self._try_to_lead()
            except RETRYABLE_REDIS_ERRORS as exc:
                self.outage.failed(self.name, exc)
                await _sleep_unless(stop, STAND_BY_SECONDS * random.uniform(0.5, 1.0))
                continue
            self.outage.worked(self.name)
            if answer.token == NOBODY:
                pause = min(answer.rest_ms / 1000 + 0.05, STAND_BY_SECONDS)
                await _sleep_unless(stop, pause * random.uniform(0.8, 1.2))
                continue
            until = begun + self.lease_seconds - LEASE_MARGIN_SECONDS
            log.info("follower.lead_taken", follower=self.name, position=answer.position)
            try:
                await _Leadership(self, Lead(answer.token, until), answer).work(stop)
            except LeadLostError as exc:
                log.warning("follower.lead_lost", follower=self.name, reason=str(exc))

    async def _try_to_lead(self) -> LeadAnswer:
        return await self.store.lead(
            NOBODY, lease_ms=int(self.lease_seconds * 1000), holder=self.holder
        )


class _Leadership:
    """One time of leading: what was read and is not recorded lies here."""

    def __init__(self, follower: EventFollower, lead: Lead, answer: LeadAnswer) -> None:
        self._of = follower
        self._store = follower.store
        self._lead = lead
        # What stands in Redis, and what may stand there because a reply was lost.
        self._recorded = answer.position
        self._offered = self._position, self._number = answer.position, answer.number
        self._read_to, self._read_number = answer.position, answer.number
        self._checked = False
        self._gap = self._missed = 0
        self._window: deque[_Entry] = deque()
        self._known: set[str] = set()
        self._bytes = 0
        self._queues: dict[str, deque[_Entry]] = {}
        self._slots = asyncio.Semaphore(follower.concurrency)
        self._room = asyncio.Event()
        self._dirty = asyncio.Event()
        self._handlers: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put_back_if_ahead(answer.last_id)

    async def work(self, stop: asyncio.Event) -> None:
        """Leads until `stop` is set.

        Raises:
            LeadLostError: another leads now.
        """
        tasks = [asyncio.ensure_future(self._keep()), asyncio.ensure_future(self._read())]
        if self._of.beside is not None:
            tasks.append(asyncio.ensure_future(self._of.beside(self._lead)))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            ends: set[asyncio.Future[Any]] = {*tasks, stopping, self._broken}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                await self._drain(tasks[1])
            for task in (*tasks, self._broken):
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            self._broken.cancel()
            self._stopping = True
            self._lead.lose()
            stopping.cancel()
            await end_all(tasks)
            await end_all(self._handlers)
            with suppress(*RETRYABLE_REDIS_ERRORS):
                await self._give_up()

    async def _drain(self, reader: asyncio.Task[None]) -> None:
        """Lets handlers end that run; what they had not begun is for the next leader."""
        self._stopping = True
        self._lead.ending.set()
        await end_all([reader])
        if self._handlers:
            await asyncio.wait(self._handlers, timeout=STOP_SECONDS)

    def _put_back_if_ahead(self, last_id: str) -> None:
        if order_of(self._read_to) <= order_of(last_id):
            return
        # A failover has lost the end of the stream, or someone deleted it.
        back = f"{max(order_of(last_id)[0] - REWIND_MS, 0)}-0"
        log.warning(
            "follower.position_put_back", follower=self._of.name, position=self._read_to, to=back
        )
        self._position = self._read_to = back
        self._number = self._read_number = -1
        self._dirty.set()

    # What is read

    async def _read(self) -> None:
        while True:
            stop_if_cancelled()
            await self._wait_for_room()
            await keep_trying(
                self._read_once,
                self._of.outage,
                f"{self._of.name}:read",
                on_trouble=self._read_again,
            )

    async def _wait_for_room(self) -> None:
        while len(self._window) >= WINDOW or self._bytes >= WINDOW_BYTES:
            # In the time that this takes anything may be trimmed.
            self._checked = False
            self._room.clear()
            await self._room.wait()

    async def _read_again(self, _exc: Exception) -> bool:
        """Has the next read begin at what is done: it may be another server then."""
        self._read_to, self._read_number = self._position, self._number
        self._checked = False
        return False

    async def _read_once(self) -> None:
        if self._checked:
            # Nothing came after our position at the last look, so that nothing of it can have been
            # trimmed since.
            entries = await entries_after(
                self._of.redis,
                self._of.keys.events,
                self._read_to,
                count=BATCH,
                block_ms=BLOCK_MILLISECONDS,
            )
            self._checked = 0 < len(entries) < BATCH
            self._take(entries)
            return
        page = await self._store.read(self._read_to, BATCH)
        if order_of(page.last_id) < order_of(self._read_to):
            raise LeadLostError("the stream of events has lost its end")
        self._find_missed(page.first_id, page.gone)
        self._take(page.entries)
        if not page.entries:
            self._read_number = page.added
            if not self._window:
                self._number = page.added
                self._missed, self._gap = self._missed + self._gap, 0
            self._checked = True

    def _find_missed(self, first_id: str, gone: int) -> None:
        if order_of(first_id) <= order_of(self._read_to) or self._read_number < 0:
            return
        missed = gone - self._read_number
        if missed <= 0:
            return
        self._read_number = gone
        # It counts once the position has passed it: another leader would find it again.
        self._gap += missed
        log.error(
            "follower.events_missed",
            follower=self._of.name,
            events=missed,
            position=self._read_to,
            first=first_id,
            advice="events were trimmed before they were read: see `trainmaster sinks list`; raise "
            "TRAINMASTER_EVENT_RETENTION_MAX_SECONDS if followers may be so far behind",
        )

    def _take(self, entries: Iterable[StreamEntry]) -> None:
        for raw_id, fields in entries:
            entry_id = raw_id.decode()
            self._read_to = entry_id
            if self._read_number >= 0:
                self._read_number += 1
            if entry_id in self._known:
                continue
            event = event_of(raw_id, fields)
            entry = _Entry(entry_id, self._read_number, self._gap)
            self._gap = 0
            self._window.append(entry)
            self._known.add(entry_id)
            if event is None or (self._of.wants is not None and not self._of.wants(event)):
                entry.done = True
                continue
            entry.event, entry.text = event, fields[EVENT_FIELD]
            self._bytes += len(entry.text)
            self._hand_over(entry, event.command_id)
        self._advance()

    # What is handled

    def _hand_over(self, entry: _Entry, subject: str) -> None:
        queue = self._queues.get(subject)
        if queue is not None:
            queue.append(entry)
            return
        self._queues[subject] = deque([entry])
        task = asyncio.ensure_future(self._work_off(subject))
        self._handlers.add(task)
        task.add_done_callback(self._handler_ended)

    def _handler_ended(self, task: asyncio.Task[None]) -> None:
        self._handlers.discard(task)
        # A defect of ours: it ends the follower, or the position would stand still without a word.
        if not task.cancelled() and (exc := task.exception()) and not self._broken.done():
            self._broken.set_exception(exc)

    async def _work_off(self, subject: str) -> None:
        """Handles the events of a command, one after the other."""
        queue = self._queues[subject]
        while queue:
            async with self._slots:
                if self._stopping:
                    return
                entry = queue[0]
                if not await self._handle(entry):
                    return
            queue.popleft()
            entry.done = True
            self._bytes -= len(entry.text)
            entry.text = b""
            self._advance()
        del self._queues[subject]

    async def _handle(self, entry: _Entry) -> bool:
        """Hands an event over until that is done; returns False where it is to stop before."""
        assert entry.event is not None  # noqa: S101 - what has none is never handed over
        part, pause, tries = f"{self._of.name}:handler", 0.0, 0
        while True:
            stop_if_cancelled()
            await self._lead.wait()
            try:
                await self._of.handler(entry.event, entry.text)
            except NotHandledError:
                return False
            except PASSING_TROUBLE as exc:
                self._of.outage.failed(part, exc)
            except Exception as exc:
                tries += 1
                log.exception(
                    "follower.handler_failed",
                    follower=self._of.name,
                    event_id=entry.event.id,
                    subject=entry.event.command_id,
                    tries=tries,
                )
                if tries >= TRIES:
                    await self._park(entry, exc, tries)
                    return True
            else:
                self._of.outage.worked(part)
                return True
            pause = next_pause(pause) if not tries else min(2.0**tries / 4, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _park(self, entry: _Entry, error: Exception, tries: int) -> None:
        """Sets an event aside whose handler fails each time, as a client's consumers do."""
        told = f"{type(error).__name__}: {error}"[:1_000]
        key = f"{self._of.keys.prefix}parked:{self._of.name}"
        fields: dict[Any, Any] = {"event": entry.text, "error": told, "tries": tries}

        async def write() -> None:
            await self._of.redis.xadd(key, fields)

        await keep_trying(write, self._of.outage, f"{self._of.name}:park")
        log.error("follower.event_parked", follower=self._of.name, entry=entry.entry_id, key=key)

    def _advance(self) -> None:
        window, moved = self._window, False
        while window and window[0].done:
            entry = window.popleft()
            self._known.discard(entry.entry_id)
            self._position, self._number = entry.entry_id, entry.number
            self._missed += entry.missed
            moved = True
        if moved:
            self._dirty.set()
            self._room.set()

    # What is recorded

    async def _keep(self) -> None:
        """Renews the lease, and records the position once it has moved."""
        while True:
            stop_if_cancelled()
            begun = time.monotonic()
            await keep_trying(self._tell, self._of.outage, f"{self._of.name}:lead")
            with suppress(TimeoutError):
                rest = begun + KEEP_SECONDS - time.monotonic()
                await asyncio.wait_for(self._dirty.wait(), max(rest, 0.01))
            await asyncio.sleep(RECORD_SECONDS)

    async def _tell(self, lease_ms: int | None = None) -> None:
        self._dirty.clear()
        begun, missed = time.monotonic(), self._missed
        # While it is not known whether the last offer was taken, that one is made again.
        if self._offered[0] == self._recorded:
            self._offered = self._position, self._number
        answer = await self._store.lead(
            self._lead.token,
            lease_ms=int(self._of.lease_seconds * 1000) if lease_ms is None else lease_ms,
            holder=self._of.holder,
            position=self._offered,
            known=(self._recorded, self._offered[0]),
            missed=missed,
        )
        if answer.token == NOBODY:
            raise LeadLostError("another process leads it now")
        if answer.token != self._lead.token:
            raise LeadLostError(f"Redis has gone back to the position {answer.position}")
        self._recorded = answer.position
        self._missed -= missed
        if self._position != self._recorded:
            self._dirty.set()
        self._lead.keep(begun + self._of.lease_seconds - LEASE_MARGIN_SECONDS)

    async def _give_up(self) -> None:
        """Records what is done, and lets another lead at once."""
        with suppress(LeadLostError):
            await self._tell(lease_ms=0)
            return
        await self._store.lead(self._lead.token, lease_ms=0, holder=self._of.holder)


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they have ended: redis-py may lose a cancellation."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1.0)


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
