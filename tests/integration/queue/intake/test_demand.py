"""What needs a worker: told while none runs, of everything that only a worker can go on with."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from schemas.enums import Priority
from tests.integration.intake_acts import until
from tests.integration.ledger_acts import (
    TEXT,
    WORKER_STATUS,
    accept_one,
    lease_one,
    open_group,
    read_entry,
)
from worker.queue.intake.demand import Demand, read_demand
from worker.queue.ledger.keys import COMMAND_FIELD
from worker.queue.ledger.models import RowState, RunResult
from worker.queue.ledger.workers import Workers

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

NOTHING = Demand(0, 0, 0)


async def now_ms(redis: Redis) -> int:
    seconds, microseconds = await redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def a_worker(redis: Redis, keys: Keys, *, used: int, stopping: bool = False) -> None:
    """Has a worker tell that it runs so many commands."""
    status = replace(WORKER_STATUS, seen_ms=await now_ms(redis), slots_used=used, stopping=stopping)
    await Workers(redis, keys).tell(status)


async def wait_for(redis: Redis, ledger: Ledger, seconds: float) -> None:
    """Has a command wait for a training, with its next poll so far ahead."""
    lease = await lease_one(redis, ledger)
    waits = RunResult(lease, RowState.POLLING, 1, delay_seconds=seconds, progress={"uuid": "u"})
    assert await ledger.finish([waits]) == [True]


async def test_an_empty_namespace_needs_no_worker(redis: Redis, keys: Keys) -> None:
    assert await read_demand(redis, keys) == NOTHING
    assert NOTHING.total == 0


@pytest.mark.parametrize(
    "stream", ["commands", "bulk_commands"], ids=["the stream", "the stream for bulk"]
)
async def test_what_nobody_has_read_needs_a_worker(redis: Redis, keys: Keys, stream: str) -> None:
    for _ in range(3):
        await redis.xadd(getattr(keys, stream), {COMMAND_FIELD: TEXT})
    assert await read_demand(redis, keys) == Demand(3, 0, 0)


@pytest.mark.parametrize(
    "name",
    ["inbox", "inbox:processing", "celery", "celery\x06\x169", "celery:processing"],
)
async def test_what_lies_in_a_list_needs_a_worker(redis: Redis, keys: Keys, name: str) -> None:
    await redis.rpush(f"{keys.prefix}{name}", TEXT)
    assert (await read_demand(redis, keys)).total == 1


async def test_what_a_dead_worker_had_read_and_not_accepted_needs_another(
    redis: Redis, keys: Keys
) -> None:
    await open_group(redis, keys)
    await read_entry(redis, keys)
    assert await read_demand(redis, keys) == Demand(1, 0, 0)


async def test_accepted_commands_need_a_worker_until_they_wait_or_have_ended(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, "now")
    await accept_one(redis, ledger, "bulk", lane=Priority.BULK)
    await accept_one(redis, ledger, "tomorrow", not_before_ms=await now_ms(redis) + 86_400_000)
    assert await read_demand(redis, keys) == Demand(0, 2, 0)
    leases = (await ledger.claim(10, bulk_most=10)).leases
    assert len(leases) == 2
    assert await read_demand(redis, keys) == NOTHING, "leased: the worker tells that it runs them"
    assert all(await ledger.finish([RunResult(each, RowState.SUCCEEDED, 1) for each in leases]))
    assert await read_demand(redis, keys) == NOTHING


async def test_a_training_that_waits_needs_a_worker_again_when_its_next_poll_is_due(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await wait_for(redis, ledger, 0.5)
    begun = time.monotonic()
    assert await read_demand(redis, keys) == NOTHING

    async def is_due() -> bool:
        return await read_demand(redis, keys) == Demand(0, 1, 0)

    await until(is_due)
    assert time.monotonic() - begun >= 0.4


async def test_a_command_of_a_worker_that_died_needs_another_when_its_lease_ends(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await lease_one(redis, ledger)
    assert await read_demand(redis, keys) == NOTHING
    await redis.zadd(keys.due_interactive, {"one": await now_ms(redis) - 1})
    assert await read_demand(redis, keys) == Demand(0, 1, 0)
    # Claimed again and again without an end.
    await redis.zrem(keys.due_interactive, "one")
    await redis.zadd(keys.due_suspect, {"one": 1})
    assert await read_demand(redis, keys) == Demand(0, 1, 0)


async def test_a_passed_deadline_needs_a_worker_that_ends_the_command(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await open_group(redis, keys)
    now = await now_ms(redis)
    later = {"not_before_ms": now + 86_400_000}
    await accept_one(redis, ledger, "waits", deadline_ms=now + 200, **later)
    await accept_one(redis, ledger, "has time", deadline_ms=now + 86_400_000, **later)
    while await now_ms(redis) <= now + 200:
        await asyncio.sleep(0.05)
    assert await read_demand(redis, keys) == Demand(0, 1, 0)


async def test_a_paused_lane_needs_one_worker_that_probes_it_however_much_waits_there(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await open_group(redis, keys)
    for number in range(5):
        await accept_one(redis, ledger, f"bulk-{number}", lane=Priority.BULK)
    await accept_one(redis, ledger, "one")
    await accept_one(redis, ledger, "two")
    await redis.hset(keys.paused(Priority.BULK), "until", "0")
    assert await read_demand(redis, keys) == Demand(0, 3, 0)


async def test_what_workers_run_counts_but_not_what_a_stopping_one_finishes(
    redis: Redis, keys: Keys
) -> None:
    await a_worker(redis, keys, used=4)
    assert await read_demand(redis, keys) == Demand(0, 0, 4)
    await a_worker(redis, keys, used=4, stopping=True)
    assert await read_demand(redis, keys) == NOTHING
