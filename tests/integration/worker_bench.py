"""A worker's insides without Celery: real Redis, real sandbox, and runs that a test can step."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from schemas.enums import EventState, Priority
from tests.integration.intake_acts import take_in, until
from tests.integration.ledger_acts import events
from worker.backfill.handler import Backfills
from worker.backfill.item_results import BackfillItems
from worker.backfill.store import BackfillStore
from worker.bootstrap.handlers import HANDLERS
from worker.encord.api.signing import BearerToken, RequestSigner
from worker.encord.api.throttle import ThrottledTransport
from worker.encord.api.transport import Transport
from worker.encord.context import Encord, LongPolls, PollSchedule
from worker.errors import FencedError
from worker.files.downloads import Downloads
from worker.http.timeouts import Timeouts
from worker.queue.circuit_breaker import CircuitBreaker
from worker.queue.lane_slots import LaneSlots
from worker.queue.ledger.lanes import FailureRateMonitor, Lanes
from worker.queue.ledger.models import Lease, RowState, RunResult
from worker.queue.pool.executor import Executor
from worker.queue.pool.lane_pauses import LanePauses
from worker.queue.pool.results import ResultStore
from worker.queue.pool.retry import RetryPolicy
from worker.queue.pool.settling import Settler
from worker.queue.pool.slots import TEXT_BYTES, Slots
from worker.queue.pool.worker_pool import WorkerPool
from worker.queue.registry import load_handlers
from worker.queue.run_context import Dependencies
from worker.thread_pools import ThreadPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from redis.asyncio import Redis

    from tests.sandbox_process import SandboxProcess
    from worker.queue.ledger.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from redis.asyncio import Redis

    from schemas.commands import Command
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.run_context import RunContext

ENDS = {f".{state}" for state in RowState if state.ended}
END_SECONDS = 120


@dataclass
class Bench:
    """Takes commands in and runs them, one attempt after the other or as a test likes."""

    redis: Redis
    ledger: Ledger
    executor: Executor
    api: SandboxProcess | None
    numbers: list[int] = field(default_factory=lambda: [0])

    @property
    def sandbox(self) -> SandboxProcess:
        """The API; a bench on a stub has none."""
        assert self.api is not None
        return self.api

    def pool(
        self,
        *,
        share: FailureRateMonitor | None = None,
        lease_seconds: float = 30,
        **slots: Any,
    ) -> WorkerPool:
        """Returns a worker's pool, in which nothing runs; takes what `Slots` does."""
        pauses = LanePauses(
            self.ledger,
            Lanes(self.redis, self.ledger.keys),
            share or FailureRateMonitor(commands=1000, seconds=1000, share=1),
            probe_seconds=10,
        )
        return WorkerPool(
            self.ledger,
            self.executor,
            self.executor.breaker,
            slots=Slots(**slots),
            pauses=pauses,
            settler=Settler(self.ledger, pauses, self.executor.unrecordable),
            lease_seconds=lease_seconds,
        )

    async def send(self, command_type: str, data: dict[str, Any] | None, **attributes: Any) -> str:
        """Sends a command and takes it in; returns its id."""
        self.numbers[0] += 1
        command_id = str(attributes.pop("id", f"command-{self.numbers[0]}"))
        command = {"type": command_type, "id": command_id, "data": data, **attributes}
        await take_in(self.redis, self.ledger, orjson.dumps(command))
        return command_id

    async def claim(self, command_id: str) -> Lease:
        """Claims one command; everything else that is due is left as it is."""
        keys = self.ledger.keys
        score = await self.redis.zscore(keys.due_interactive, command_id)
        assert score is not None, f"{command_id} has ended or is not known"
        await self.redis.zadd(keys.due_interactive, {command_id: -1})
        (lease,) = (await self.ledger.claim(1)).leases
        assert lease.command_id == command_id
        return lease

    def begin(self, lease: Lease) -> RunContext[Command]:
        """Returns the run of a lease."""
        return self.executor.begin(lease)

    async def attempt(self, command_id: str) -> RunResult | None:
        """Claims and runs a command once and records how that ended; None if it was fenced."""
        run = self.begin(await self.claim(command_id))
        try:
            finish = await self.executor.carry_out(run)
        except FencedError:
            return None
        await self.ledger.finish([finish])
        return finish

    async def end(self, command_id: str) -> dict[str, Any]:
        """Runs a command until it has ended; returns its terminal event."""
        last = time.monotonic() + END_SECONDS
        while time.monotonic() < last:
            finish = await self.attempt(command_id)
            if finish is not None and finish.state.ended:
                (terminal,) = [
                    event
                    for event in await self.told(command_id)
                    if any(event["type"].endswith(end) for end in ENDS)
                ]
                return terminal
        raise AssertionError(f"{command_id} did not end in {END_SECONDS} s")

    async def carry(self, command_type: str, data: dict[str, Any], **attributes: Any) -> Any:
        """Sends a command, runs it to its end and returns its result."""
        terminal = await self.end(await self.send(command_type, data, **attributes))
        assert terminal["type"] == f"{command_type}.succeeded", terminal
        return terminal["data"]["result"]

    async def told(self, command_id: str) -> list[dict[str, Any]]:
        """Returns the events of a command, oldest first."""
        all_events = await events(self.redis, self.ledger.keys.events)
        return [event for event in all_events if event["subject"] == command_id]

    async def states(self, command_id: str) -> list[str]:
        """Returns what the events of a command told, oldest first."""
        return [EventState(event["type"].split(".")[1]) for event in await self.told(command_id)]

    async def state(self, command_id: str) -> str:
        """Returns where a command stands."""
        found = await self.redis.hget(self.ledger.keys.command(command_id), "s")
        assert found is not None
        return found.decode() if isinstance(found, bytes) else found


def in_seconds(seconds: float) -> str:
    """Returns a time that is so far away, as commands tell theirs."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they have ended, for redis-py may swallow a cancellation."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1)


@asynccontextmanager
async def open_bench(
    redis: Redis,
    ledger: Ledger,
    sandbox: SandboxProcess | None,
    folder: Path,
    *,
    doubt_seconds: float = 600,
    read_timeout_seconds: float = 20,
    domain: str = "",
) -> AsyncIterator[Bench]:
    """Builds what a worker process builds, with retries that need no patience.

    Args:
        redis: client that returns bytes.
        ledger: where the commands' rows are.
        sandbox: the API, or at least the key to sign with; None where a stub needs none.
        folder: what commands may read, and where results lie.
        doubt_seconds: for how long a lost answer is looked for.
        read_timeout_seconds: for an answer of the API.
        domain: of another API than the sandbox.
    """

    async def works() -> bool:
        return True

    transport = Transport(
        domain or (sandbox.told["domain"] if sandbox is not None else ""),
        BearerToken("of-the-bench") if sandbox is None else _signer(sandbox),
        timeouts=Timeouts(read=read_timeout_seconds),
    )
    dependencies = Dependencies(
        ledger=ledger,
        downloads=Downloads(ThreadPool("download", 1), total_seconds=30, idle_seconds=10),
        data_roots=(folder,),
        groups=BackfillItems(),
        services={
            Encord: Encord(
                transport=ThrottledTransport(transport, None, None),
                polls=PollSchedule(10, 300, 0.05),
                long_polls=LongPolls(0, 0),
                creations=LaneSlots(8),
                doubt_seconds=doubt_seconds,
            ),
            # A small window and small parts, so that few items are several of each.
            Backfills: Backfills(
                BackfillStore(
                    redis, ledger.keys, retention_seconds=600, reply_retention_seconds=600
                ),
                output=str(folder / "results" / "backfills"),
                window=8,
                part_items=7,
            ),
        },
    )
    attempts = Executor(
        handlers=load_handlers(HANDLERS),
        dependencies=dependencies,
        policy=RetryPolicy(5, 0.01, 0.02),
        results=ResultStore(str(folder / "results"), 262_144),
        max_claims=500,
        breaker=CircuitBreaker(works, failures=1000, minimum_seconds=1, maximum_seconds=1),
    )
    try:
        yield Bench(redis, ledger, attempts, sandbox)
    finally:
        await transport.aclose()


def encord_of(bench: Bench) -> Encord:
    """Returns what the bench's handlers have of the API."""
    return bench.executor.dependencies.service(Encord)


def with_encord(dependencies: Dependencies, **changes: Any) -> Dependencies:
    """Returns the same dependencies, but for some of what handlers have of the API."""
    return replace(
        dependencies, services={Encord: replace(dependencies.service(Encord), **changes)}
    )


def _signer(sandbox: SandboxProcess) -> RequestSigner:
    return RequestSigner.from_openssh(Path(sandbox.told["key_file"]).read_text("utf-8"))


DRAIN_SECONDS = 60


# Far longer than any test waits: whoever waits for such a call to end waits in vain.
SLOW = {"operation": "get_model", "effect": "latency", "seconds": 30}


def settling(pool: WorkerPool) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """Returns what records the ends of a pool's runs, a loop for each lane."""
    return [partial(pool.settle, lane) for lane in Priority]


@asynccontextmanager
async def running_runner(
    bench: Bench,
    concurrency: int,
    share: FailureRateMonitor | None = None,
    intake_is_behind: Callable[[], bool] = lambda: False,
    text_bytes: int = TEXT_BYTES,
    lease_seconds: float = 30,
) -> AsyncIterator[WorkerPool]:
    """Runs a worker's slots; what still runs at the end is handed back."""
    runner = bench.pool(
        concurrency=concurrency,
        share=share,
        intake_is_behind=intake_is_behind,
        text_bytes=text_bytes,
        lease_seconds=lease_seconds,
    )
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(settle()) for settle in settling(runner)]
    tasks.append(asyncio.create_task(runner.drain(DRAIN_SECONDS)))
    try:
        yield runner
    finally:
        await runner.close(5)
        await end_tasks(tasks)


async def until_ended(bench: Bench, command_id: str) -> None:
    async def ended() -> bool:
        return RowState(await bench.state(command_id)).ended

    await until(ended)
