"""One time of leading a follower of the events: reads, hands over, records how far it has come."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import structlog

from worker.integrations.event_window import EventWindow, WindowEntry
from worker.integrations.follower_store import NOBODY, order_of
from worker.integrations.keys import parked_key
from worker.integrations.lead import LeadLostError, NotHandledError
from worker.queue.ledger.connection import (
    BLOCK_MILLISECONDS,
    PASSING_TROUBLE,
    RETRYABLE_REDIS_ERRORS,
    end_all,
    stop_if_cancelled,
)
from worker.queue.ledger.redis_retry import keep_trying, next_pause
from worker.queue.ledger.streams import entries_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from redis.asyncio import Redis

    from trainmaster_client import Event
    from worker.integrations.follower_store import FollowerStore, LeadAnswer
    from worker.integrations.lead import Lead
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.outage import Outage
    from worker.queue.ledger.streams import StreamEntry

log = structlog.get_logger(__name__)

Handler: TypeAlias = "Callable[[Event, bytes], Awaitable[None]]"

KEEP_SECONDS: Final = 1.5
# So long before its end a leader no longer trusts its lease: two clocks do not run alike.
LEASE_MARGIN_SECONDS: Final = 0.5
# What is done and not recorded is handed over again after a crash.
RECORD_SECONDS: Final = 0.2
# Of a handler that fails for another reason than Redis, before its event is set aside.
TRIES: Final = 5
LONGEST_PAUSE_SECONDS: Final = 5.0
# So many events that were set aside are kept; the oldest are dropped.
MOST_PARKED: Final = 100_000
# How long handlers may still run once the follower is to stop.
STOP_SECONDS: Final = 10.0
BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class Followed:
    """What a follower follows, and what it does with it: as `EventFollower` was told.

    Attributes:
        holder: the name of this process.
    """

    name: str
    redis: Redis
    keys: Keys
    store: FollowerStore
    handler: Handler
    concurrency: int
    wants: Callable[[Event], bool] | None
    beside: Callable[[Lead], Coroutine[Any, Any, None]] | None
    outage: Outage
    lease_seconds: float
    holder: str


class Leadership:
    """One time of leading: what was read and is not recorded lies here.

    Args:
        followed: what is followed, and what is done with it.
        lead: which it has.
        answer: by which it has got that.
    """

    def __init__(self, followed: Followed, lead: Lead, answer: LeadAnswer) -> None:
        self._of = followed
        self._store = followed.store
        self._lead = lead
        # What stands in Redis, and what may stand there because a reply was lost.
        self._recorded = answer.position
        self._offered = answer.position, answer.number
        self._window = EventWindow(answer)
        self._checked = False
        self._queues: dict[str, deque[WindowEntry]] = {}
        self._slots = asyncio.Semaphore(followed.concurrency)
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
        was = self._window.put_back_if_ahead(last_id)
        if was:
            to = self._window.position
            log.warning("follower.position_put_back", follower=self._of.name, position=was, to=to)
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
        while self._window.is_full:
            # In the time that this takes anything may be trimmed.
            self._checked = False
            self._room.clear()
            await self._room.wait()

    async def _read_again(self, _exc: Exception) -> bool:
        self._window.read_again()
        self._checked = False
        return False

    async def _read_once(self) -> None:
        if self._checked:
            # Nothing came after our position at the last look, so that nothing of it can have been
            # trimmed since.
            entries = await entries_after(
                self._of.redis,
                self._of.keys.events,
                self._window.read_to,
                count=BATCH,
                block_ms=BLOCK_MILLISECONDS,
            )
            self._checked = 0 < len(entries) < BATCH
            self._take(entries)
            return
        page = await self._store.read(self._window.read_to, BATCH)
        if order_of(page.last_id) < order_of(self._window.read_to):
            raise LeadLostError("the stream of events has lost its end")
        self._find_missed(page.first_id, page.gone)
        self._take(page.entries)
        if not page.entries:
            self._window.caught_up(page.added)
            self._checked = True

    def _find_missed(self, first_id: str, gone: int) -> None:
        missed = self._window.find_missed(first_id, gone)
        if missed:
            log.error(
                "follower.events_missed",
                follower=self._of.name,
                events=missed,
                position=self._window.read_to,
                first=first_id,
                advice="events were trimmed before they were read: see `trainmaster sinks list`; "
                "raise TRAINMASTER_EVENT_RETENTION_MAX_SECONDS if followers may be so far behind",
            )

    def _take(self, entries: Iterable[StreamEntry]) -> None:
        for each in entries:
            entry = self._window.add(each, self._of.wants)
            if entry is not None and entry.event is not None:
                self._hand_over(entry, entry.event.command_id)
        self._advance()

    # What is handled

    def _hand_over(self, entry: WindowEntry, subject: str) -> None:
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
            self._window.end(entry)
            self._advance()
        del self._queues[subject]

    async def _handle(self, entry: WindowEntry) -> bool:
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

    async def _park(self, entry: WindowEntry, error: Exception, tries: int) -> None:
        """Sets an event aside whose handler fails each time, as a client's consumers do."""
        told = f"{type(error).__name__}: {error}"[:1_000]
        key = parked_key(self._of.keys, self._of.name)
        fields: dict[Any, Any] = {"event": entry.text, "error": told, "tries": tries}

        async def write() -> None:
            await self._of.redis.xadd(key, fields, maxlen=MOST_PARKED, approximate=False)

        await keep_trying(write, self._of.outage, f"{self._of.name}:park")
        log.error("follower.event_parked", follower=self._of.name, entry=entry.entry_id, key=key)

    def _advance(self) -> None:
        if self._window.advance():
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
        window = self._window
        begun, missed = time.monotonic(), window.missed
        # While it is not known whether the last offer was taken, that one is made again.
        if self._offered[0] == self._recorded:
            self._offered = window.position, window.number
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
        window.missed -= missed
        if window.position != self._recorded:
            self._dirty.set()
        self._lead.keep(begun + self._of.lease_seconds - LEASE_MARGIN_SECONDS)

    async def _give_up(self) -> None:
        """Records what is done, and lets another lead at once."""
        with suppress(LeadLostError):
            await self._tell(lease_ms=0)
            return
        await self._store.lead(self._lead.token, lease_ms=0, holder=self._of.holder)
