"""Rules of leases while a worker lives: what runs long, or can't be recorded yet, stays its own."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.integration.creations import data_of, made
from tests.integration.intake_acts import until
from tests.integration.worker_bench import end_tasks, in_seconds, running_runner, settling
from tests.sandbox_process import SIMULATED
from worker.encord.creation.keys import orphan_key
from worker.queue.ledger.deadlines import Deadlines
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.models import RowState
from worker.queue.pool.deadlines import DeadlineWatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from tests.integration.worker_bench import Bench
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.models import RunResult
    from worker.queue.pool.worker_pool import WorkerPool

LEASE_SECONDS = 3.0
# Two leases: without being renewed, one taken at the start is over by then.
LONG_SECONDS = 2 * LEASE_SECONDS
# Longer than any test waits.
DRAIN_SECONDS = 300


class DeafLedger(Ledger):
    """The ledger, but that it can't record how runs end while `deaf`.

    Attributes:
        asked: how often it was asked to meanwhile.
        loses: whether the next checkpoint gets no answer.
    """

    deaf = False
    asked = 0
    loses = False

    async def checkpoint(self, *args: Any, **options: Any) -> Any:
        """Records how far a run has come, or fails as it does when the connection ends."""
        if self.loses:
            self.loses = False
            raise RedisConnectionError("connection closed by server")
        return await super().checkpoint(*args, **options)

    async def finish(self, finishes: Sequence[RunResult]) -> list[bool]:
        """Records, or fails as a connection does that can't be opened."""
        if self.deaf:
            self.asked += 1
            raise RedisConnectionError("connection refused")
        return await super().finish(finishes)


@pytest.fixture
def ledger(redis: Redis, keys: Keys) -> DeafLedger:
    return DeafLedger(
        redis, keys, lease_seconds=LEASE_SECONDS, retention_seconds=600, reply_retention_seconds=600
    )


@asynccontextmanager
async def running_worker(bench: Bench) -> AsyncIterator[WorkerPool]:
    """Runs what a worker runs for its slots, the renewal of leases included."""
    runner = bench.pool(concurrency=4, lease_seconds=LEASE_SECONDS)
    tasks = [
        asyncio.create_task(act)
        for act in (
            *(settle() for settle in settling(runner)),
            runner.renew(),
            runner.drain(DRAIN_SECONDS),
        )
    ]
    try:
        yield runner
    finally:
        await runner.close(5)
        await end_tasks(tasks)


async def claimed_by_others(ledger: Ledger, seconds: float) -> list[Any]:
    """Returns what another worker could claim while so long it tried to all the time."""
    found: list[Any] = []
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        found += (await ledger.claim(10, bulk_most=10, suspects=1)).leases
        await asyncio.sleep(LEASE_SECONDS / 20)
    return found


async def test_a_call_that_outlasts_its_lease_is_renewed_and_stays_its_workers(
    bench: Bench,
) -> None:
    bench.sandbox.faults({"operation": "list_models", "effect": "latency", "seconds": LONG_SECONDS})
    sent = await bench.send("list_models", {})
    async with running_worker(bench) as runner:
        await until(lambda: runs(runner))
        assert await claimed_by_others(bench.ledger, LONG_SECONDS * 0.8) == []
        await until(lambda: ended(bench, sent))
    assert await bench.states(sent) == ["accepted", "succeeded"]
    assert (await bench.told(sent))[-1]["data"]["attempts"] == 1


async def test_a_run_whose_end_cannot_be_recorded_yet_is_nobody_elses_meanwhile(
    bench: Bench, ledger: DeafLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more than are renewed by one script, each one."""
    monkeypatch.setattr("worker.queue.pool.worker_pool.MOST_IN_A_SCRIPT", 2)
    bench.sandbox.reset_truth()
    sent = [await bench.send("list_models", {}) for _ in range(4)]
    ledger.deaf = True
    async with running_worker(bench) as runner:
        await until(lambda: all_over(runner, len(sent)))
        await until(lambda: asked(ledger))
        assert await claimed_by_others(bench.ledger, LONG_SECONDS) == []
        assert [await bench.states(each) for each in sent] == [["accepted"]] * 4
        ledger.deaf = False
        for each in sent:
            await until(partial(ended, bench, each))
    assert [await bench.states(each) for each in sent] == [["accepted", "succeeded"]] * 4
    calls = bench.sandbox.truth()["calls"]["list_models"]
    assert calls["total"] == 4, "nothing was asked again for want of a record"


async def test_a_change_that_is_under_way_goes_on_though_its_lease_was_lost(bench: Bench) -> None:
    """What it comes to is left for the next holder, who may not find it out from the API."""
    data = data_of(bench, "train")
    slow = {"operation": "create_training_job", "effect": "latency", "seconds": LONG_SECONDS}
    bench.sandbox.faults(SIMULATED, slow)
    sent = await bench.send("train", data)
    keys = bench.ledger.keys
    row = keys.command(sent)

    async def is_under_way() -> bool:
        return await bench.redis.hget(row, "h") == b"intended"

    async def left_word() -> bool:
        return bool(await bench.redis.exists(orphan_key(keys, sent)))

    async with running_worker(bench) as runner:

        async def ends() -> bool:
            # As each sweep does: what is due again is claimed by the same worker.
            runner.wake()
            return await ended(bench, sent)

        await until(is_under_way)
        # Another holder's token, as after a pause of this process.
        await bench.redis.hincrby(row, "n", 1)
        await until(left_word)
        await until(ends)
    assert (await bench.states(sent))[-1] == "succeeded"
    assert made(bench, "train", data) == 1


async def runs(runner: WorkerPool) -> bool:
    return runner.running == 1


async def all_over(runner: WorkerPool, count: int) -> bool:
    """Tells whether so many runs are over, of which only the ends are not recorded."""
    return runner.unsettled == count and not runner.running


async def asked(ledger: DeafLedger) -> bool:
    return ledger.asked > 0


async def ended(bench: Bench, command_id: str) -> bool:
    return RowState(await bench.state(command_id)).ended


async def test_a_run_that_loses_redis_is_carried_out_again_once_redis_is_back(
    bench: Bench, ledger: DeafLedger
) -> None:
    """A failover of a second must not cost each command that ran a lease of minutes."""
    data = data_of(bench, "create_model")
    ledger.loses = True
    sent = await bench.send("create_model", data)
    async with running_runner(bench, concurrency=2, lease_seconds=3600) as pool:

        async def has_ended() -> bool:
            # As a sweep does.
            pool.wake()
            return RowState(await bench.state(sent)).ended

        await until(has_ended)
    assert not ledger.loses
    assert await bench.states(sent) == ["accepted", "succeeded"]
    assert made(bench, "create_model", data) == 1


async def test_an_end_for_a_deadline_that_loses_redis_is_recorded_once_redis_is_back(
    bench: Bench, ledger: DeafLedger
) -> None:
    ledger.deaf = True
    sent = await bench.send("list_models", {}, deadline=in_seconds(-1))
    deadlines = Deadlines(bench.redis, ledger.keys, lease_seconds=3600)
    watch = asyncio.create_task(DeadlineWatch(ledger, deadlines, bench.executor).watch())
    try:
        await until(lambda: asked(ledger))
        ledger.deaf = False
        await until(lambda: ended(bench, sent))
    finally:
        await end_tasks([watch])
    assert await bench.states(sent) == ["accepted", "failed"]
