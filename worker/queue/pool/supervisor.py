"""The supervisor of a worker process: one asyncio loop in a thread, for intake, runs and sweeps."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
import uvloop
from redis.exceptions import AuthenticationError

from schemas.enums import Priority
from schemas.events import ErrorCode
from worker.errors import LedgerLostError, NewerLedgerError, SettingError
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.keys import COMMAND_FIELD, CommandStream
from worker.queue.ledger.outage import ONCE, Outage
from worker.queue.ledger.redis_retry import keep_trying
from worker.queue.ledger.server import refuse_unsuitable, server_facts
from worker.queue.pool.wake_ups import WakeUps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.queue.circuit_breaker import CircuitBreaker
    from worker.queue.intake.consumer import StreamConsumer
    from worker.queue.ledger.epoch import Epoch
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.server import ServerFacts
    from worker.queue.pool.deadlines import DeadlineWatch
    from worker.queue.pool.repairing import RepairWatch
    from worker.queue.pool.sweep import Sweep
    from worker.queue.pool.witness import Witness
    from worker.queue.pool.worker_pool import WorkerPool
    from worker.queue.upstream import CredentialsCheck

log = structlog.get_logger(__name__)

T = TypeVar("T")

CANCEL_PAUSE_SECONDS = 0.5
LEAVE_SECONDS = 2.0
# Each by itself: one that breaks, or is hard to cancel, is none of the other's trouble.
SETTLE_TASKS: Final = {lane: f"settle-{lane}" for lane in Priority}


class SupervisorStoppedError(Exception):
    """The supervisor has stopped: nothing was done."""


@dataclass(frozen=True, slots=True)
class Components:
    """What the composition root builds for a supervisor, on the supervisor's loop.

    Attributes:
        epoch: tells that someone emptied Redis.
        sweep: finds what is due, and learns Redis' time.
        credentials: tells whether the API takes them.
        repair: puts back what Redis lost.
        witness: remembers the epoch outside of Redis.
        watches: further loops, by name: they begin once Redis is met, and end last.
        close: closes what the components opened.
    """

    redis: Redis
    ledger: Ledger
    epoch: Epoch
    intake: StreamConsumer
    pool: WorkerPool
    breaker: CircuitBreaker
    deadlines: DeadlineWatch
    sweep: Sweep
    credentials: CredentialsCheck
    repair: RepairWatch
    witness: Witness
    close: Callable[[], Awaitable[None]]
    watches: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timings:
    """How long and how often, in seconds.

    Attributes:
        slice: how long a drain stays open.
        grace: how long a stop waits for calls that change something.
    """

    slice: float
    grace: float


class Supervisor:
    """Starts and stops everything that runs on the loop.

    Args:
        build: builds the components; called on the loop, with the supervisor's `notify`.
        publish_wake_up: sends the Celery message that opens a drain in another process; may block.
        on_broken: called once when a part has ended that never should, or the ledger is lost.
    """

    def __init__(
        self,
        build: Callable[[Callable[[int], None]], Awaitable[Components]],
        publish_wake_up: Callable[[], None],
        on_broken: Callable[[], None],
        times: Timings,
    ) -> None:
        self._build = build
        self._on_broken = on_broken
        self._times = times
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="supervisor", daemon=True)
        self._ready: Future[None] = Future()
        self._calling = threading.Lock()
        self._calls: set[Future[Any]] = set()
        self._closed = False
        self._components: Components | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._wake_ups = WakeUps(self._loop, publish_wake_up, self._redis_is_away)
        self._own_drain: asyncio.Task[bool] | None = None
        self._stopping = False

    def start(self) -> None:
        """Starts the loop's thread; returns once all components run, so not before Redis answers.

        Raises:
            TrainmasterError: a part can't be built, or Redis can't be trusted.
            SystemExit: it was told to stop meanwhile.
        """
        self._thread.start()
        self._ready.result()

    def drain(self) -> None:
        """Runs what is due for a time slice; blocks the calling thread."""
        # A wake-up that comes too late is not missed: another worker's sweep does the same.
        with suppress(SupervisorStoppedError):
            self._call(self._drain())

    def submit(self, text: bytes, priority: object = None) -> None:
        """Adds a command to the stream of its priority; blocks the calling thread.

        Raises:
            SupervisorStoppedError: it was not added.
            redis.exceptions.RedisError: it is not known whether the command was added.
        """
        self._call(self._submit(text, CommandStream.of(priority)))

    async def _submit(self, text: bytes, stream: CommandStream) -> None:
        if self._components is None:
            raise RuntimeError("the supervisor has not started")
        keys = self._components.ledger.keys
        await self._components.redis.xadd(keys.stream(stream), {COMMAND_FIELD: text})

    def stop_claiming(self) -> None:
        """Ends open drains; safe in a signal handler."""
        self._stopping = True
        if self._components is not None:
            self._loop.call_soon_threadsafe(self._stop_pool, self._components.pool)

    def _stop_pool(self, pool: WorkerPool) -> None:
        log.info("worker.stopping", runs=pool.running)
        pool.stop()

    def stop(self) -> None:
        """Hands back or finishes what runs, settles, closes, and ends the thread."""
        if not self._thread.is_alive():
            return
        self._stopping = True
        self._call(self._close())
        with self._calling:
            self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        # What was called in the loop's last moment would be waited for in vain, and for ever.
        for call in list(self._calls):
            call.cancel()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with self._calling:
            if self._closed:
                coroutine.close()
                raise SupervisorStoppedError
            call = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._calls.add(call)
        try:
            return call.result()
        except CancelledError as exc:
            raise SupervisorStoppedError from exc
        finally:
            self._calls.discard(call)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._open())
        except BaseException as exc:  # noqa: BLE001 - handed to the thread that started us
            self._ready.set_exception(exc)
            return
        self._ready.set_result(None)
        self._loop.run_forever()
        self._loop.close()

    async def _open(self) -> None:
        components = await self._build(self.notify)
        try:
            await self._meet(components)
        except BaseException:
            await components.close()
            raise
        self._components = components
        self._begin({"deadlines": components.deadlines.watch()})
        self._begin({name: watch() for name, watch in components.watches.items()})
        # Commands whose deadline passes are ended even by a worker that can do nothing else.
        if not await components.credentials.enter(lambda: self._stopping):
            await _end(self._tasks)
            await components.credentials.aclose()
            await components.close()
            raise SystemExit(0)
        self._begin({
            **{name: components.pool.settle(lane) for lane, name in SETTLE_TASKS.items()},
            "renew": components.pool.renew(),
            "read": components.intake.read(),
            "inbox": components.intake.move_inbox(),
            "celery": components.intake.move_celery(),
            "take-over": components.intake.take_over(),
            "sweep": components.sweep.watch(),
            "repair": components.repair.watch(),
            "witness": components.witness.keep(components.epoch.known),
            "policy": components.repair.watch_policy(),
        })

    def _begin(self, acts: Mapping[str, Coroutine[Any, Any, None]]) -> None:
        tasks = [asyncio.create_task(act, name=name) for name, act in acts.items()]
        for task in tasks:
            task.add_done_callback(self._task_ended)
        self._tasks += tasks

    async def _meet(self, components: Components) -> None:
        """Waits for Redis, and looks whether it can be trusted with the ledger.

        Raises:
            SettingError: it can't.
            LedgerLostError: the ledger was lost and nobody has accepted that.
            NewerLedgerError: this version is too old for it.
        """
        facts = await keep_trying(
            partial(self._meet_once, components), Outage("supervisor.redis_awaited"), "start"
        )
        if not facts.keeps_what_it_acknowledged:
            log.warning(
                "supervisor.redis_forgets",
                advice="a crash of Redis may lose commands: set appendonly yes, appendfsync always",
            )

    async def _meet_once(self, components: Components) -> ServerFacts:
        if self._stopping:
            raise SystemExit(0)
        try:
            facts = await server_facts(components.redis)
            refuse_unsuitable(facts)
            await components.epoch.enter(components.witness.recall)
            components.ledger.epoch = components.epoch.known
            # Before the first command: none is judged by the clock of this machine.
            await components.sweep.mind_clock()
        except AuthenticationError as exc:
            raise SettingError(
                f"TRAINMASTER_REDIS_URL: the server refuses us: {exc}",
                code=ErrorCode.INVALID_SETTING,
            ) from exc
        return facts

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        # These loops never end by themselves: one that does leaves the worker half dead, and a
        # half-dead worker that looks alive is worse than none.
        if self._stopping or task.cancelled():
            return
        error = task.exception()
        if isinstance(error, LedgerLostError):
            log.critical("ledger.lost", message=error.message)
        elif isinstance(error, NewerLedgerError):
            log.critical("ledger.newer", message=error.message)
        else:
            log.critical("supervisor.task_ended", task=task.get_name(), exc_info=error)
        self.stop_claiming()
        self._on_broken()

    async def _close(self) -> None:
        components = self._components
        if components is None:
            return
        last = {*SETTLE_TASKS.values(), "renew", *components.watches}
        await _end([task for task in self._tasks if task.get_name() not in last])
        # What it has claimed meanwhile is handed back with all else.
        await _once(components, components.intake.ask_again())
        await components.pool.close(self._times.grace)
        await _end(self._tasks)
        await _once(components, components.intake.leave())
        await components.breaker.aclose()
        await components.credentials.aclose()
        await components.close()

    async def _drain(self) -> None:
        if await self._drained():
            self.notify(1)

    async def _drained(self) -> bool:
        """Drains for a time slice; returns whether more is due."""
        components = self._components
        return components is not None and await components.pool.drain(self._times.slice)

    def _open_drain(self) -> None:
        """Opens a drain on our own loop, unless one is about to be."""
        if self._own_drain is None:
            self._own_drain = asyncio.create_task(self._drained(), name="drain")
            self._own_drain.add_done_callback(self._drain_ended)

    def _drain_ended(self, drain: asyncio.Task[bool]) -> None:
        # Before anything else, or it would be in the way of the next one.
        self._own_drain = None
        if drain.cancelled():
            return
        if (error := drain.exception()) is not None:
            # The sweep opens the next one.
            log.error("supervisor.drain_broken", exc_info=error)
        elif drain.result():
            self.notify(1)

    def notify(self, count: int) -> None:
        """Sees to it that commands which are due get run; `count` of them, as far as known.

        By this process if it can take them, and else by others, whom a wake-up by Celery calls.
        """
        components = self._components
        if components is None or count < 1 or self._stopping:
            return
        pool = components.pool
        if pool.draining:
            pool.wake()
        else:
            self._open_drain()
        if not pool.can_claim:
            self._wake_ups.send()

    def _redis_is_away(self) -> bool:
        return self._components is not None and self._components.ledger.outage.lasts


async def _once(components: Components, act: Coroutine[Any, Any, None]) -> None:
    """Does what a stop does without, if Redis is away."""
    try:
        await asyncio.wait_for(act, LEAVE_SECONDS)
    except RETRYABLE_REDIS_ERRORS as exc:
        components.ledger.outage.failed(ONCE, exc)


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they have ended.

    Once may not be enough: a cancellation that meets a timeout of a socket comes out of it as
    the timeout, which these tasks live through.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_PAUSE_SECONDS)
        for task in left:
            log.warning("supervisor.task_lingered", task=task.get_name())
