"""Rules of a paused lane: what it lets through to see whether it works costs nobody a command."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import orjson
import pytest

from schemas.enums import Priority
from schemas.events import ErrorCode
from tests.integration.backfilling import begin
from tests.integration.creations import OPERATIONS, data_of, made, train_data
from tests.integration.intake_acts import until
from tests.integration.ledger_acts import accept_one, open_group
from tests.integration.worker_bench import running_runner
from tests.sandbox_process import SIMULATED
from worker.backfill.transitions import pause
from worker.queue.ledger.dead_letters import DeadLetters
from worker.queue.ledger.lanes import FailureRateMonitor, Lanes
from worker.queue.ledger.models import RowState

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.integration.worker_bench import Bench
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

OFTEN_SECONDS = 0.05


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """Probes that failed may be drawn again soon."""
    bench.executor = replace(bench.executor, probe_seconds=OFTEN_SECONDS)
    return bench


async def pause_lane(bench: Bench, lane: Priority = Priority.INTERACTIVE) -> Lanes:
    lanes = Lanes(bench.redis, bench.ledger.keys)
    await lanes.pause(lane, "tests", OFTEN_SECONDS)
    return lanes


async def send_bad(bench: Bench, count: int, **more: Any) -> list[str]:
    """Sends commands that the API refuses for good."""
    data = {"model_uuid": str(uuid4())}
    return [await bench.send("get_model", data, **more) for _ in range(count)]


async def probes(bench: Bench, command_id: str) -> int:
    """Returns how often a command has failed as a probe."""
    (errors,) = await bench.redis.hmget(bench.ledger.keys.command(command_id), "x")
    return len(orjson.loads(errors)) if errors else 0


async def letters(bench: Bench) -> list[str]:
    found = DeadLetters(bench.redis, bench.ledger.keys).list()
    return [letter.command_id async for letter in found]


async def test_probes_that_fail_are_no_dead_letters_and_one_that_succeeds_resumes_the_lane(
    bench: Bench,
) -> None:
    bad = await send_bad(bench, 3)
    lanes = await pause_lane(bench)
    async with running_runner(bench, concurrency=4) as runner:
        await until(lambda: probed_by_waking(bench, runner, bad))
        for command_id in bad:
            assert await bench.states(command_id) == ["accepted"]
            # It may be on its next probe.
            assert await bench.state(command_id) in {"retrying", "running"}
            assert await bench.redis.hget(bench.ledger.keys.command(command_id), "a") == b"0"
        assert await letters(bench) == []
        good = await bench.send("list_models", {})
        await until(lambda: ended_by_waking(bench, runner, [good]))
        await until(lambda: is_open(lanes))
        await until(lambda: ended_by_waking(bench, runner, bad))
    assert sorted(await letters(bench)) == sorted(bad)
    for command_id in bad:
        failed = (await bench.told(command_id))[-1]
        assert failed["data"]["attempts"] == 1, "no probe counts"
        letter = await DeadLetters(bench.redis, bench.ledger.keys).get(command_id)
        assert letter is not None
        assert len(letter.history) > 1, "what the probes met is told"


async def probed_by_waking(bench: Bench, runner: Any, ids: list[str]) -> bool:
    """Wakes a runner as the sweep does; tells whether all were probed."""
    runner.wake()
    return all([await probes(bench, each) for each in ids])


async def ended_by_waking(bench: Bench, runner: Any, ids: list[str]) -> bool:
    runner.wake()
    return all([RowState(await bench.state(each)).ended for each in ids])


async def is_open(lanes: Lanes) -> bool:
    return await lanes.paused() == []


async def test_what_runs_when_its_lane_pauses_ends_as_it_would(bench: Bench) -> None:
    bench.sandbox.faults({"operation": "get_model", "effect": "latency", "seconds": 1})
    bad = await send_bad(bench, 6)
    share = FailureRateMonitor(commands=2, seconds=0, share=0.5)
    async with running_runner(bench, concurrency=4, share=share) as runner:

        async def full() -> bool:
            return runner.running == 4

        await until(full)

        async def four_ended() -> bool:
            return sum([RowState(await bench.state(each)).ended for each in bad]) == 4

        await until(four_ended)
        (paused,) = await Lanes(bench.redis, bench.ledger.keys).paused()
        assert paused.lane is Priority.INTERACTIVE
    assert len(await letters(bench)) == 4
    waiting = [each for each in bad if await bench.state(each) == "accepted"]
    assert len(waiting) == 2


@pytest.mark.parametrize("command_type", list(OPERATIONS))
async def test_a_creation_that_is_refused_as_a_probe_is_carried_out_later_and_once(
    bench: Bench, command_type: str
) -> None:
    data = data_of(bench, command_type)
    bench.sandbox.faults(
        {"operation": OPERATIONS[command_type], "effect": "status", "status": 403},
        {**SIMULATED, "training": "stalled"},
    )
    sent = await bench.send(command_type, data)
    lanes = await pause_lane(bench)
    async with running_runner(bench, concurrency=2) as runner:
        await until(lambda: probed_by_waking(bench, runner, [sent]))
        assert await bench.states(sent) == ["accepted"]
        bench.sandbox.faults({**SIMULATED, "training": "stalled"})

        async def resumed() -> bool:
            runner.wake()
            return await is_open(lanes)

        await until(resumed)
    assert "failed" not in await bench.states(sent)
    assert made(bench, command_type, data) == 1
    assert await letters(bench) == []


async def test_a_deletion_that_was_refused_as_a_probe_takes_no_not_found_for_its_own_doing(
    bench: Bench,
) -> None:
    sent = await bench.send("delete_model", {"model_uuid": str(uuid4())})
    lanes = await pause_lane(bench)
    async with running_runner(bench, concurrency=2) as runner:

        async def probed_twice() -> bool:
            runner.wake()
            return await probes(bench, sent) >= 2

        await until(probed_twice)
        assert await bench.states(sent) == ["accepted"]
        await lanes.resume(Priority.INTERACTIVE)
        await until(lambda: ended_by_waking(bench, runner, [sent]))
    assert (await bench.told(sent))[-1]["data"]["error"]["code"] == ErrorCode.NOT_FOUND


async def test_a_training_that_was_begun_ends_in_a_paused_lane_as_it_would(bench: Bench) -> None:
    """What the API says of it is its end, and tells nothing of other commands."""
    sandbox = bench.sandbox
    sandbox.faults({**SIMULATED, "training": "stalled"})
    sent = await bench.send("train", train_data(sandbox, sandbox.create_model()))
    await bench.attempt(sent)
    assert await bench.state(sent) == "polling"
    sandbox.faults({"operation": "get_training_status", "effect": "status", "status": 404})
    await pause_lane(bench)
    async with running_runner(bench, concurrency=2) as runner:

        async def ended() -> bool:
            await bench.redis.zadd(bench.ledger.keys.due_interactive, {sent: 0}, xx=True)
            return await ended_by_waking(bench, runner, [sent])

        await until(ended)
    assert (await bench.told(sent))[-1]["data"]["error"]["code"] == ErrorCode.NOT_FOUND


async def test_a_command_whose_deadline_passes_in_a_paused_lane_fails(bench: Bench) -> None:
    (sent,) = await send_bad(bench, 1, deadline="2026-01-01T00:00:00Z")
    await pause_lane(bench)
    async with running_runner(bench, concurrency=2) as runner:
        await until(lambda: ended_by_waking(bench, runner, [sent]))
    assert (await bench.told(sent))[-1]["data"]["error"]["code"] == ErrorCode.DEADLINE_EXCEEDED


async def test_an_item_that_fails_as_a_probe_of_the_bulk_lane_stays_open(
    bench: Bench, keys: Keys, tmp_path: Path
) -> None:
    night = await begin(bench.redis, keys, bench.ledger, tmp_path)
    await night.feed(2)
    await pause_lane(bench, Priority.BULK)
    async with running_runner(bench, concurrency=4) as runner:
        due = cast("list[bytes]", await bench.redis.zrange(keys.due_bulk, 0, -1))
        items = [row_id.decode() for row_id in due]
        assert len(items) == 2
        await until(lambda: probed_by_waking(bench, runner, items))
        standing = await night.standing()
        assert (standing.open, standing.failed) == (2, 0)


async def test_probes_are_drawn_among_all_that_is_due(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Whoever stands first would otherwise keep a lane paused for long."""
    await open_group(redis, keys)
    sent = [f"c-{number}" for number in range(20)]
    for command_id in sent:
        await accept_one(redis, ledger, command_id)
    await Lanes(redis, keys).pause(Priority.INTERACTIVE, "tests", 0)
    drawn: list[str] = []
    for _ in sent:
        (lease,) = (await ledger.claim(5)).leases
        assert lease.probe
        drawn.append(lease.command_id)
    assert sorted(drawn) == sorted(sent)
    assert drawn != sent


async def test_a_lane_in_which_nothing_is_due_keeps_its_probe_for_what_comes(
    redis: Redis, ledger: Ledger, keys: Keys, tmp_path: Path
) -> None:
    await open_group(redis, keys)
    await Lanes(redis, keys).pause(Priority.BULK, "tests", 3600)
    await redis.hset(keys.paused(Priority.BULK), "until", 1)
    assert (await ledger.claim(5, bulk_most=5)).leases == []
    night = await begin(redis, keys, ledger, tmp_path)
    await night.feed(1)
    await pause(night.store, "night")
    assert (await ledger.claim(5, bulk_most=5)).leases == [], "it is set aside"
    await accept_one(redis, ledger, "good", lane=Priority.BULK)
    (lease,) = (await ledger.claim(5, bulk_most=5)).leases
    assert (lease.command_id, lease.probe) == ("good", True)
    await accept_one(redis, ledger, "next", lane=Priority.BULK)
    assert (await ledger.claim(5, bulk_most=5)).leases == []
    await Lanes(redis, keys).resume(Priority.BULK)
    (lease,) = (await ledger.claim(5, bulk_most=5)).leases
    assert (lease.command_id, lease.probe) == ("next", False)
