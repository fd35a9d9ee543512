"""Whatever happens with one row or with one end takes nobody else with it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from schemas.enums import Priority
from tests.integration.backfilling import NAME, begin
from tests.integration.intake_acts import until
from tests.integration.worker_bench import (
    Bench,
    end_tasks,
    in_seconds,
    open_bench,
    running_runner,
    until_ended,
)
from worker.bootstrap.handlers import HANDLERS
from worker.errors import InputError
from worker.queue.ledger.deadlines import Deadlines
from worker.queue.ledger.models import RowState
from worker.queue.ledger.repair import Repair
from worker.queue.outcome import Outcome, Snooze, Succeeded
from worker.queue.pool.deadlines import DeadlineWatch
from worker.queue.registry import load_handlers
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.sandbox_process import SandboxProcess
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.run_context import RunContext
    from worker.queue.telemetry import Settled

ITEMS = 3
BAD = 1


@pytest.fixture
async def bench(
    redis: Redis, ledger: Ledger, sandbox: SandboxProcess, tmp_path: Path
) -> AsyncIterator[Bench]:
    sandbox.faults()
    async with open_bench(redis, ledger, sandbox, tmp_path) as opened:
        # A second claim is one too many, so that nobody has to wait for it.
        opened.executor = replace(opened.executor, max_claims=1)
        yield opened


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"type":"predict","data":{"data_path":"\\ud800"}}',
        b'{"type":"predict","dataref":"/nowhere.json"}',
        b'{"type":"list_models","data":{}}',
        b'{"type":"train","deadline":"2001-01-01T00:00:00Z","dataref":"/nowhere.json"}',
    ],
)
async def test_an_item_whose_text_is_something_else_fails_alone(
    bench: Bench, tmp_path: Path, text: bytes
) -> None:
    found = await _ends_of_items(bench, tmp_path, {"text": text})
    assert found[BAD]["state"] == "failed"
    assert sorted(found) == list(range(ITEMS))


@pytest.mark.parametrize(
    "field",
    [{"s": "resting"}, {"p": "{"}, {"p": "[1]"}, {"x": "no"}, {"x": "{}"}],
    ids=str,
)
async def test_an_item_whose_row_says_what_nobody_knows_ends_alone(
    bench: Bench, tmp_path: Path, field: dict[str, str]
) -> None:
    found = await _ends_of_items(bench, tmp_path, field)
    assert sorted(found) == list(range(ITEMS))
    if "x" not in field:
        assert found[BAD]["error"]["code"] == "internal_error"


@pytest.mark.parametrize("field", ["n", "a", "c", "m"])
async def test_a_row_whose_number_is_none_keeps_no_other_from_being_claimed(
    bench: Bench, field: str
) -> None:
    bad = await bench.send("list_models", {}, deadline=in_seconds(3600))
    good = await bench.send("list_models", {})
    await bench.redis.hset(bench.ledger.keys.command(bad), field, "many")
    async with running_runner(bench, concurrency=4):
        await until_ended(bench, good)
    assert not RowState(await bench.state(bad)).ended
    repair = Repair(bench.redis, bench.ledger.keys, lease_seconds=30)
    to_end = [lost async for step in repair.steps("test") for lost in step.to_end]
    assert [lost.lease.command_id for lost in to_end] == [bad], "the next scan ends it"


async def test_a_row_of_a_newer_worker_is_left_as_it_is_until_nobody_knows_it(
    bench: Bench,
) -> None:
    bench.executor = replace(bench.executor, max_claims=2)
    sent = await bench.send("list_models", {})
    row = bench.ledger.keys.command(sent)
    await bench.redis.hset(row, mapping={"s": "resting", "h": "rested"})
    for _ in range(2):
        assert bench.executor.unreadable(await bench.claim(sent), ValueError()) is None
        assert await bench.redis.hmget(row, "s", "h") == [b"resting", b"rested"]
    async with running_runner(bench, concurrency=4):
        await bench.redis.zadd(bench.ledger.keys.due_interactive, {sent: 0})

        async def failed() -> bool:
            return await bench.state(sent) == "failed"

        await until(failed)
    assert (await bench.told(sent))[-1]["data"]["error"]["code"] == "internal_error"


async def _odd_progress(run: RunContext[Any]) -> Outcome:
    if run.command.correlationid == "odd":
        return Snooze(0, RowState.POLLING, progress={"step": {1, 2}})
    return Succeeded([])


async def _odd_result(run: RunContext[Any]) -> Outcome:
    return Succeeded(object() if run.command.correlationid == "odd" else [])


async def _odd_message(run: RunContext[Any]) -> Outcome:
    if run.command.correlationid == "odd":
        raise InputError("caf\udce9.jpg can't be read")
    return Succeeded([])


@pytest.mark.parametrize("handler", [_odd_progress, _odd_result, _odd_message])
async def test_an_end_that_cannot_be_written_fails_its_own_command(
    bench: Bench, handler: Any
) -> None:
    bench.executor = replace(
        bench.executor, handlers={**load_handlers(HANDLERS), "list_models": handler}
    )
    ear = bench.ledger.telemetry = _Recorded()
    sent = [
        await bench.send("list_models", {}, correlationid="odd" if number == BAD else "even")
        for number in range(ITEMS)
    ]
    async with running_runner(bench, concurrency=8):
        for command_id in sent:
            await until_ended(bench, command_id)
    states = [await bench.state(command_id) for command_id in sent]
    assert states == ["succeeded", "failed", "succeeded"]
    error = (await bench.told(sent[BAD]))[-1]["data"]["error"]
    assert error["code"] in {"internal_error", "invalid_input"}
    assert error["message"]
    told = dict(zip(sent, states, strict=True))
    assert ear.states == told
    assert ear.outcomes == told, "and no end that could not be recorded"


class _Recorded(Listener):
    """Keeps how commands are said to have ended, once that is recorded."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.outcomes: dict[str, str] = {}

    def settled(self, batch: Sequence[Settled]) -> None:
        for each in batch:
            assert each.end is not None
            self.states[each.command_id] = each.state
            self.outcomes[each.command_id] = each.end.outcome


async def test_an_end_that_redis_refuses_stands_in_nobodys_way(
    bench: Bench, tmp_path: Path
) -> None:
    night = await begin(bench.redis, bench.ledger.keys, bench.ledger, tmp_path)
    await night.feed(1)
    results = bench.ledger.keys.group_results(NAME)
    await bench.redis.set(results, "no stream")
    waiting = bench.ledger.keys.group_open(NAME)
    async with running_runner(bench, concurrency=8) as runner:

        async def unrecorded() -> bool:
            return runner.unsettled == 1

        await until(unrecorded)
        for _ in range(ITEMS):
            sent = await bench.send("list_models", {})
            runner.wake()
            await until_ended(bench, sent)
        assert await bench.redis.scard(waiting) == 1
        await bench.redis.delete(results)

        async def ended() -> bool:
            return await bench.redis.scard(waiting) == 0

        await until(ended)


async def test_a_backfill_whose_ends_are_all_refused_stops_no_lane(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its window may hold more of them than ends may wait of a lane that is claimed for."""
    monkeypatch.setattr("worker.queue.pool.settling.MOST_IN_A_SCRIPT", 2)
    monkeypatch.setattr("worker.queue.pool.settling.REFUSED_PAUSE_SECONDS", 0.1)
    night = await begin(bench.redis, bench.ledger.keys, bench.ledger, tmp_path)
    await night.feed(12)
    results = bench.ledger.keys.group_results(NAME)
    await bench.redis.set(results, "no stream")
    async with running_runner(bench, concurrency=16) as runner:

        async def unrecorded() -> bool:
            return runner.unsettled == 12

        await until(unrecorded)
        for priority in Priority:
            sent = [await bench.send("list_models", {}, priority=priority) for _ in range(ITEMS)]
            runner.wake()
            for command_id in sent:
                await until_ended(bench, command_id)
        told = capsys.readouterr().out
        await bench.redis.delete(results)

        async def all_recorded() -> bool:
            return not runner.unsettled

        await until(all_recorded)
    assert (await night.standing()).open == 0
    assert told.count("run.unsettled") == 1
    assert "redis.lost" not in told
    assert "fenced" not in told


async def test_a_deadline_of_a_command_that_cannot_be_told_ends_that_one_alone(
    bench: Bench, tmp_path: Path
) -> None:
    night = await begin(bench.redis, bench.ledger.keys, bench.ledger, tmp_path)
    await night.feed(1)
    keys = bench.ledger.keys
    sent = await bench.send("list_models", {}, deadline=in_seconds(0.2), notbefore=in_seconds(60))
    (item,) = await _due_items(bench)
    await bench.redis.set(
        f"{keys.prefix}text:{item}", b'{"type":"train","dataref":"/nowhere.json"}'
    )
    await bench.redis.hset(keys.command(item), "s", "resting")
    await bench.redis.zadd(keys.deadlines, {item: 0})
    deadlines = Deadlines(bench.redis, keys, lease_seconds=30)
    watch = asyncio.create_task(DeadlineWatch(bench.ledger, deadlines, bench.executor).watch())
    try:
        await until_ended(bench, sent)
        assert not watch.done()
    finally:
        await end_tasks([watch])


async def _due_items(bench: Bench) -> list[str]:
    due = await bench.redis.zrange(bench.ledger.keys.due_bulk, 0, -1)
    return [row_id.decode() for row_id in cast("list[bytes]", due)]


async def _ends_of_items(
    bench: Bench, folder: Path, said: dict[str, Any]
) -> dict[int, dict[str, Any]]:
    """Runs three items of which the middle one's row says something else; returns their ends."""
    night = await begin(bench.redis, bench.ledger.keys, bench.ledger, folder)
    await night.feed(ITEMS)
    keys = bench.ledger.keys
    rows = await _due_items(bench)
    (bad,) = [row_id for row_id in rows if row_id.endswith(str(BAD))]
    await bench.redis.hset(keys.command(bad), "c", "1")
    for name, value in said.items():
        if name == "text":
            await bench.redis.set(f"{keys.prefix}text:{bad}", value)
        else:
            await bench.redis.hset(keys.command(bad), name, value)
    async with running_runner(bench, concurrency=32) as runner:
        assert runner.slots.free

        async def ended() -> bool:
            return (await night.standing()).open == 0

        await until(ended)
    results = await night.store.results(NAME, "-", "+")
    return {record["item"]: record for record in (orjson.loads(text) for _, text in results)}
