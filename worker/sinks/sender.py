"""Sends the events of one sink: at once, again after a pause, or not before somebody resumes it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from worker.integrations.lead import NotHandledError
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS, stop_if_cancelled
from worker.queue.ledger.redis_retry import keep_trying
from worker.sinks.backlog import Backlog
from worker.sinks.deferred import CommandQueue, DeferredEvent
from worker.sinks.destinations import DeliveryError
from worker.sinks.endpoint_health import EndpointHealth
from worker.sinks.standing import ERROR_CHARACTERS, Standing, now_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trainmaster_client import Event
    from worker.integrations.lead import Lead
    from worker.queue.ledger.outage import Outage
    from worker.sinks.deferred import SinkStore
    from worker.sinks.delivery_policy import DeliveryPolicy
    from worker.sinks.destinations import Destination

log = structlog.get_logger(__name__)

REPORT_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.5


class _PausedError(Exception):
    """The sink was paused while an event waited for its turn: it was not sent."""


class Sender:
    """The sender of one sink, for as long as its follower leads.

    Args:
        name: of the sink.
        destination: where its events go.
        store: what it keeps in Redis.
        concurrency: deliveries at the same time.
        per_second: deliveries a second; 0 sets no limit.
        policy: when what failed is tried again.
        outage: is told of trouble with Redis.
    """

    def __init__(  # noqa: PLR0913 - keyword-only where they could be confused
        self,
        name: str,
        destination: Destination,
        store: SinkStore,
        *,
        concurrency: int,
        per_second: float = 0.0,
        policy: DeliveryPolicy,
        outage: Outage,
    ) -> None:
        self.name = name
        self._destination = destination
        self._store = store
        self._outage = outage
        self._policy = policy
        self._health = EndpointHealth(policy)
        self._slots = asyncio.Semaphore(concurrency)
        # The other half stays for what is sent for the first time.
        self._most_retries = max(1, concurrency // 2)
        self._interval = 1 / per_second if per_second else 0.0
        self._turn_at = 0.0
        self._ready = asyncio.Event()
        self._begin(None)

    def _begin(self, lead: Lead | None) -> None:
        """Forgets what another time of leading knew."""
        self._lead = lead
        self._backlog = Backlog()
        self._standing = Standing(self._store)
        self._retrying = 0
        self._health.reset()
        # Set while new events may be sent.
        self._open = asyncio.Event()

    # What the follower calls

    async def lead(self, lead: Lead) -> None:
        """Runs while this process leads the sink."""
        self._begin(lead)
        try:
            await keep_trying(self._load, self._outage, f"sink {self.name}")
            self._ready.set()
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._report())
                group.create_task(self._retry())
                group.create_task(self._let_go())
        finally:
            self._ready.clear()
            with suppress(*RETRYABLE_REDIS_ERRORS):
                await self._report_once()

    async def _let_go(self) -> None:
        """Wakes what waits for the endpoint once the follower is to stop."""
        if self._lead is not None:
            await self._lead.ending.wait()
        self._open.set()
        self._backlog.settled.set()

    def _check_ending(self) -> None:
        if self._ends:
            raise NotHandledError

    @property
    def _ends(self) -> bool:
        return self._lead is not None and self._lead.ending.is_set()

    async def handle(self, event: Event, text: bytes) -> None:
        """Delivers an event, or puts it off.

        Raises:
            NotHandledError: it was to wait, and the follower is to stop.
        """
        await self._ready.wait()
        waiting = DeferredEvent(event.entry_id, event, text)
        while event.command_id not in self._backlog:
            if not self._open.is_set():
                await self._open.wait()
                self._check_ending()
                continue
            try:
                await self._attempt(waiting)
            except _PausedError:
                continue
            except DeliveryError:
                await self._put_off(waiting)
            return
        await self._queue_up(waiting)

    # One delivery

    async def _attempt(self, waiting: DeferredEvent) -> None:
        async with self._slots:
            await self._wait_for_turn()
            if self._lead is not None:
                await self._lead.wait()
            if self._standing.paused:
                # While it waited for its turn, for an hour where the endpoint has asked for that.
                self._check_ending()
                raise _PausedError
            try:
                await self._send(waiting)
            except DeliveryError as exc:
                self._note_failure(exc)
                raise
        self._note_success()

    async def _send(self, waiting: DeferredEvent) -> None:
        try:
            await self._destination.send(waiting.event, waiting.text)
        except DeliveryError:
            raise
        except Exception as exc:
            # Of an event that a destination chokes on, or a defect: it must not end the sink, for
            # the next leader would meet the same event first.
            log.exception(
                "sink.send_failed",
                sink=self.name,
                event_id=waiting.event.id,
                subject=waiting.event.command_id,
            )
            told = f"it could not be sent: {type(exc).__name__}; the log of the sink says more"
            raise DeliveryError(told) from exc

    async def _wait_for_turn(self) -> None:
        while (pause := self._health.rest_seconds) > 0:
            # A resumption ends it, and so does a stop.
            await asyncio.sleep(min(pause, _LOOK_SECONDS))
            self._check_ending()
        if self._interval:
            now = time.monotonic()
            self._turn_at = max(self._turn_at + self._interval, now)
            await asyncio.sleep(self._turn_at - now)

    def _note_success(self) -> None:
        self._standing.delivered()
        if self._health.succeeded():
            # Half of the slots bound what is sent at a time.
            self._backlog.schedule_all()
            self._update_gate()
            log.info("sink.recovered", sink=self.name, waiting=len(self._backlog))

    def _note_failure(self, exc: DeliveryError) -> None:
        self._standing.failed(str(exc))
        is_too_much = self._health.failed(exc.retry_after_seconds)
        if exc.gone:
            self._pause_soon(f"the endpoint wants no more events: {exc}")
        elif is_too_much:
            self._health.probe_later()
            self._update_gate()
            log.warning("sink.down", sink=self.name, error=str(exc), waiting=len(self._backlog))

    # What is put off

    async def _queue_up(self, waiting: DeferredEvent) -> None:
        """Has an event wait behind another one of its command."""
        await self._backlog.wait_for_room(len(waiting.text), self._check_ending)
        if self._backlog.holds(waiting):
            # Its position was not recorded before a crash.
            return
        await self._record(waiting, None)
        self._backlog.append(waiting)
        self._update_gate()

    async def _put_off(self, waiting: DeferredEvent) -> None:
        """Has an event wait whose first try has failed."""
        await self._backlog.wait_for_room(len(waiting.text), self._check_ending)
        queue = CommandQueue(tries=1, since_ms=now_ms())
        await self._record(waiting, queue)
        queue = self._backlog.append(waiting, queue)
        queue.due = time.monotonic() + self._policy.pause(1)
        self._backlog.schedule(waiting.event.command_id, queue)
        self._update_gate()

    async def _record(self, waiting: DeferredEvent, queue: CommandQueue | None) -> None:
        done = await self._insist(lambda token: self._store.defer(token, waiting, queue))
        if not done:
            await self._fenced()

    async def _retry(self) -> None:
        while True:
            stop_if_cancelled()
            self._backlog.wake.clear()
            pause = self._start_due()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._backlog.wake.wait(), max(pause, 0.001))

    def _start_due(self) -> float:
        """Starts what is due; returns the seconds until more is."""
        if self._standing.paused or self._ends or not self._backlog:
            return _IDLE_SECONDS
        if self._health.is_down:
            return self._start_probe()
        while self._retrying < self._most_retries:
            found = self._backlog.next_due()
            if found is None:
                return min(self._backlog.due_seconds, _IDLE_SECONDS)
            self._start(*found)
        return _IDLE_SECONDS

    def _start_probe(self) -> float:
        if self._retrying:
            return _IDLE_SECONDS
        if (pause := self._health.probe_seconds) > 0:
            return pause
        self._start(*self._backlog.oldest())
        return _IDLE_SECONDS

    def _start(self, subject: str, queue: CommandQueue) -> None:
        queue.running = True
        self._retrying += 1
        self._group.create_task(self._work_off(subject, queue))

    async def _work_off(self, subject: str, queue: CommandQueue) -> None:
        """Delivers what waits of a command, as far as it goes."""
        try:
            while queue.entries and not self._standing.paused and not self._ends:
                stop_if_cancelled()
                waiting = await self._whole(queue.entries[0])
                try:
                    if waiting.text:
                        await self._attempt(waiting)
                except DeliveryError as exc:
                    if not await self._give_up(waiting, queue, exc):
                        break
                else:
                    await self._settle(waiting, queue)
        except (NotHandledError, _PausedError):
            pass
        finally:
            self._retrying -= 1
            self._backlog.release(subject, queue)
            self._update_gate()

    async def _whole(self, waiting: DeferredEvent) -> DeferredEvent:
        """Returns an event with its text; without one where Redis has it no more."""
        if waiting.text:
            return waiting
        read = partial(self._store.read, waiting)
        return await keep_trying(read, self._outage, f"sink {self.name}")

    async def _settle(self, waiting: DeferredEvent, queue: CommandQueue, unsent: str = "") -> None:
        done = await self._insist(lambda token: self._store.settle(token, waiting, unsent))
        if not done:
            await self._fenced()
        self._backlog.settle(queue)

    async def _give_up(
        self, waiting: DeferredEvent, queue: CommandQueue, exc: DeliveryError
    ) -> bool:
        """Notes a failure of what waits; returns whether what stands behind it may be tried."""
        now = now_ms()
        queue.tries += 1
        queue.since_ms = queue.since_ms or now
        queue.due = time.monotonic() + self._policy.pause(queue.tries)
        if self._health.is_down:
            self._health.probe_later()
            # The next probe is of another command: this event alone may be what is refused.
            self._backlog.put_last(waiting.event.command_id)
        since = max(queue.since_ms, self._standing.resumed_at_ms)
        if now - since >= self._policy.retry_seconds * 1000:
            if self._standing.delivered_at_ms < since:
                self._pause_soon(f"nothing could be delivered for so long as it is tried: {exc}")
            else:
                log.error(
                    "sink.event_unsent",
                    sink=self.name,
                    event_id=waiting.event.id,
                    subject=waiting.event.command_id,
                    tries=queue.tries,
                    error=str(exc),
                    advice=f"send it again by `trainmaster sinks recover {self.name}`",
                )
                await self._settle(waiting, queue, unsent=str(exc)[:ERROR_CHARACTERS])
                return not self._health.is_down
        again = DeferredEvent(waiting.entry_id, waiting.event, b"")
        if not await self._insist(lambda token: self._store.defer(token, again, queue)):
            await self._fenced()
        return False

    # How it stands

    def _update_gate(self) -> None:
        """Opens or closes the way for new events."""
        # Without anything that waits there would be nothing to probe with.
        if not self._ends and (self._standing.paused or (self._health.is_down and self._backlog)):
            self._open.clear()
        else:
            self._open.set()

    def _pause_soon(self, reason: str) -> None:
        if self._standing.paused:
            return
        self._standing.pause(reason)
        self._update_gate()
        log.error(
            "sink.paused",
            sink=self.name,
            reason=reason,
            advice=f"its events wait; once that is fixed: trainmaster sinks resume {self.name}",
        )

    async def _report(self) -> None:
        while True:
            stop_if_cancelled()
            await asyncio.sleep(REPORT_SECONDS)
            await keep_trying(self._report_once, self._outage, f"sink {self.name} state")

    async def _report_once(self) -> None:
        standing = self._standing
        state = await standing.report()
        if standing.take_pause(state):
            if not standing.paused:
                self._health.reset()
                self._backlog.schedule_all()
            self._update_gate()
            log.info("sink.pause_changed", sink=self.name, paused=standing.paused or None)
        if standing.take_generation(state):
            await self._load_more()

    async def _load(self) -> None:
        await self._standing.load()
        await self._load_more()

    async def _load_more(self) -> None:
        await self._backlog.load(self._store)
        self._update_gate()

    async def _insist(self, act: Callable[[int], Awaitable[bool]]) -> bool:
        token = 0 if self._lead is None else self._lead.token
        return await keep_trying(lambda: act(token), self._outage, f"sink {self.name}")

    async def _fenced(self) -> None:
        """Does nothing more until the follower has seen that another process leads."""
        if self._lead is not None:
            self._lead.lose()
        # The follower may have seen it first, and the call that was fenced swallowed its word.
        stop_if_cancelled()
        await asyncio.Event().wait()
