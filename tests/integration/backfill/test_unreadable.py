"""A backfill that someone wrote over in Redis: told as that, and gone on with once put right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.integration.backfill_bench import data, store_of_bench, working
from tests.integration.backfilling import NAME, begin, make_plan
from tests.integration.worker_bench import Bench, until_ended
from worker.backfill.errors import UnreadableBackfillError
from worker.backfill.handler import UNREADABLE_SECONDS
from worker.backfill.keys import backfill_key

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

ODD = (
    ("read", b"many", "read is 'many', which is no number"),
    ("part", b"-1", "part is '-1', which is no number"),
    ("begun", b"9" * 5000, "begun is '" + "9" * 40 + "', which is no number"),
    ("collected", b"\xff", "collected is '�', which is no number"),
    ("passed:file", b"", "passed:file is '', which is no number"),
    ("plan", b"[]", "plan is none"),
    ("plan", b"{}", "plan is none"),
    ("plan", b"plan", "plan is none"),
    ("origin", b"moon", "origin is 'moon', which it can't be"),
    ("result", b"[1]", "result is no object"),
)
OF_GROUP = (
    ("failed", b"3.5", "failed is '3.5', which is no number"),
    ("failed:not_found", b"some", "failed:not_found is 'some', which is no number"),
    ("acknowledged", b"x", "acknowledged is 'x', which is no number"),
    ("state", b"asleep", "state is 'asleep', which it can't be"),
)


async def test_what_someone_wrote_over_is_named(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    night = await begin(redis, keys, ledger, tmp_path)
    for key, changes in ((backfill_key(keys, NAME), ODD), (keys.group(NAME), OF_GROUP)):
        kept = await redis.hgetall(key)
        for field, value, said in changes:
            await redis.hset(key, field, value)
            with pytest.raises(UnreadableBackfillError) as refused:
                await night.standing()
            assert f"backfill {NAME} can't be read: {said}. Someone wrote" in str(refused.value)
            await redis.hdel(key, field)
            if field.encode() in kept:
                await redis.hset(key, field, kept[field.encode()])
    assert (await night.standing()).read == 0
    await redis.hdel(keys.group(NAME), "succeeded")
    with pytest.raises(UnreadableBackfillError, match="succeeded is missing"):
        await night.standing()


async def test_a_worker_leads_it_on_once_it_is_put_right(stub_bench: Bench, tmp_path: Path) -> None:
    """Its command does not fail meanwhile: what it has done would be lost with it."""
    bench, group = stub_bench, stub_bench.ledger.keys.group(NAME)
    plan = make_plan(tmp_path)
    await bench.send("backfill", data(plan.source.location), id=NAME)
    lease = await bench.claim(NAME)
    await store_of_bench(bench).open_for(lease, plan)
    await bench.redis.hset(group, "failed", "none")
    waits = await bench.executor.carry_out(bench.begin(lease))
    assert not waits.state.ended
    assert waits.delay_seconds == UNREADABLE_SECONDS
    await bench.ledger.finish([replace(waits, delay_seconds=0)])
    await bench.redis.hset(group, "failed", "0")
    async with working(bench):
        await until_ended(bench, NAME)
    assert (await bench.states(NAME))[-1] == "succeeded"
