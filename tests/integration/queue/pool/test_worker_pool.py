"""Rules of a worker's slots: who is due gets one as soon as one is free, in either lane."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import pytest

from schemas.enums import Priority
from tests.integration.creations import train_data
from tests.integration.intake_acts import until
from tests.integration.ledger_acts import events, new_command, now_ms
from tests.integration.worker_bench import (
    SLOW,
    Bench,
    in_seconds,
    open_bench,
    running_runner,
    until_ended,
    with_encord,
)
from tests.sandbox_process import SIMULATED, SandboxProcess
from worker.encord.api.credentials_watch import Admission, CredentialsWatch
from worker.encord.context import LongPolls
from worker.queue.ledger.dead_letters import DeadLetters
from worker.queue.ledger.holds import Holds, RefusalBoard
from worker.queue.ledger.lanes import FailureRateMonitor, Lanes
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.models import SUSPECT_CLAIMS, RowState
from worker.queue.pool.worker_pool import BREAKER_PAUSE_SECONDS, WorkerPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.models import Claim


class SlowLedger(Ledger):
    """The ledger, but that an answer to a claim takes until `may_answer`, as over a bad network."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.claimed = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def claim(self, *arguments: Any, **options: Any) -> Claim:
        """Claims, and is late to say what."""
        claim = await super().claim(*arguments, **options)
        self.claimed.set()
        await self.may_answer.wait()
        return claim


# In one step: a row that a runner claims in between would lose its lease and be claimed once more.
MAKE_DUE = """
if redis.call('HGET', KEYS[1], 's') ~= 'accepted' then return 0 end
return redis.call('ZADD', KEYS[2], 'XX', 'CH', 0, ARGV[1])
"""


@pytest.fixture
async def bench(
    redis: Redis, ledger: Ledger, sandbox: SandboxProcess, tmp_path: Path
) -> AsyncIterator[Bench]:
    sandbox.faults()
    async with open_bench(redis, ledger, sandbox, tmp_path, read_timeout_seconds=60) as opened:
        yield opened


async def send_slow(bench: Bench, count: int, priority: Priority) -> None:
    for _ in range(count):
        await bench.send("get_model", {"model_uuid": str(uuid4())}, priority=priority)


async def test_an_interactive_command_runs_though_bulk_fills_all_it_may(bench: Bench) -> None:
    bench.sandbox.faults(SLOW)
    await send_slow(bench, 32, Priority.BULK)
    async with running_runner(bench, concurrency=32) as runner:

        async def full() -> bool:
            return runner.running == 30

        await until(full)
        sent = await bench.send("list_models", {})
        runner.wake()
        await until_ended(bench, sent)
        assert runner.running == 30, "no slow call had to end for it"


async def test_a_worker_whose_credentials_are_refused_claims_nothing(bench: Bench) -> None:
    """And claims again once the API takes them."""
    answers = [Admission.REFUSED]

    async def ask() -> tuple[Admission, str]:
        return answers[-1], "the API does not know the key"

    board = RefusalBoard(Holds(bench.redis, bench.ledger.keys), "here")
    watch = CredentialsWatch(ask, board, minimum_seconds=0.05, maximum_seconds=0.05)
    assert await watch.examine()
    sent = await bench.send("list_models", {})
    refused = replace(bench, executor=replace(bench.executor, credentials=watch))
    async with running_runner(refused, concurrency=4) as runner:
        runner.wake()
        # As long as it takes a worker to look twice.
        await asyncio.sleep(2 * BREAKER_PAUSE_SECONDS)
        assert await bench.redis.hget(bench.ledger.keys.command(sent), "n") == b"0", (
            "no lease on it"
        )
        answers.append(Admission.TAKEN)
        await until_ended(bench, sent)
    await watch.aclose()
    assert await bench.states(sent) == ["accepted", "succeeded"]


async def test_commands_that_end_for_their_deadline_pause_no_lane(bench: Bench) -> None:
    """They were late, which tells nothing of whether others can be done now."""
    late = [await bench.send("list_models", {}, deadline=in_seconds(-60)) for _ in range(5)]
    share = FailureRateMonitor(commands=3, seconds=0, share=0.9)
    async with running_runner(bench, concurrency=4, share=share) as runner:
        for command_id in late:
            await until_ended(bench, command_id)
        sent = await bench.send("list_models", {})
        runner.wake()
        await until_ended(bench, sent)
    assert {(await bench.states(each))[-1] for each in late} == {"failed"}
    assert await Lanes(bench.redis, bench.ledger.keys).paused() == []


async def test_the_bytes_of_runs_that_have_ended_keep_nothing_from_running(bench: Bench) -> None:
    """In either lane, however many ran before."""
    sent = [
        await bench.send("list_models", {"query": "x" * 100}, priority=priority)
        for priority in Priority
        for _ in range(12)
    ]
    async with running_runner(bench, concurrency=4, text_bytes=600):
        for command_id in sent:
            await until_ended(bench, command_id)


async def ends_in_order(bench: Bench, sent: list[str]) -> list[str]:
    """Returns which commands have succeeded, in the order in which they did.

    Not in that of their events: each lane's ends are recorded by themselves.
    """
    told = await events(bench.redis, bench.ledger.keys.events)
    told.sort(key=lambda event: str(event["time"]))
    ended = [event["subject"] for event in told if event["type"].endswith(".succeeded")]
    return [command_id for command_id in ended if command_id in sent]


async def test_while_the_intake_is_behind_bulk_has_its_sixteenth_and_no_more(bench: Bench) -> None:
    bench.sandbox.faults(SLOW)
    await send_slow(bench, 64, Priority.BULK)
    behind = True
    async with running_runner(bench, 32, intake_is_behind=lambda: behind) as runner:

        async def share_runs() -> bool:
            return runner.running == 2

        await until(share_runs)
        for _ in range(3):
            sent = await bench.send("list_models", {})
            runner.wake()
            await until_ended(bench, sent)
            assert runner.running == 2, "interactive ones run, and no more bulk than its share"
        behind = False
        runner.wake()

        async def full() -> bool:
            return runner.running == 30

        await until(full)


async def test_a_producer_that_keeps_the_intake_behind_starves_no_accepted_bulk(
    bench: Bench,
) -> None:
    sent = [await bench.send("list_models", {}, priority=Priority.BULK) for _ in range(4)]
    async with running_runner(bench, 1, intake_is_behind=lambda: True) as runner:

        async def all_ended() -> bool:
            runner.wake()
            return all([RowState(await bench.state(command_id)).ended for command_id in sent])

        await until(all_ended)
        await until(lambda: _none_runs(runner))
        # It gets its share a few times a second, and nothing in between.
        assert any(runner.slots.bulk_bounds() == (0, 0) for _ in range(1000))


async def test_bulk_goes_on_where_what_keeps_the_intake_behind_wakes_nobody(bench: Bench) -> None:
    """Interactive commands that are claimed as they are accepted need no drain to look."""
    sent = [await bench.send("list_models", {}, priority=Priority.BULK) for _ in range(6)]
    async with running_runner(bench, 32, intake_is_behind=lambda: True):
        for command_id in sent:
            await until_ended(bench, command_id)


@pytest.mark.parametrize("lane", list(Priority))
async def test_nothing_is_claimed_while_more_ends_wait_than_a_script_records(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, lane: Priority
) -> None:
    """Or ends would wait without a bound, their leases lapse, and others run them again."""
    monkeypatch.setattr("worker.queue.pool.settling.MOST_IN_A_SCRIPT", 2)
    finish, is_over = bench.ledger.finish, asyncio.Event()

    async def finish_late(ends: Any) -> list[bool]:
        await is_over.wait()
        return await finish(ends)

    monkeypatch.setattr(bench.ledger, "finish", finish_late)
    sent = [await bench.send("list_models", {}, priority=lane) for _ in range(20)]
    async with running_runner(bench, concurrency=4) as runner:

        async def is_behind() -> bool:
            return runner.unsettled >= 4 and not runner.running

        await until(is_behind)
        for _ in range(20):
            runner.wake()
            await asyncio.sleep(0.02)
        assert runner.unsettled < 4 + 4
        assert sum(await bench.ledger.count_due()) >= 20 - 4 - 4
        is_over.set()
        for command_id in sent:
            await until_ended(bench, command_id)


async def test_a_lane_whose_ends_wait_holds_up_none_of_the_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.queue.pool.settling.MOST_IN_A_SCRIPT", 2)
    finish, is_over = bench.ledger.finish, asyncio.Event()

    async def finish_bulk_late(ends: Any) -> list[bool]:
        if ends[0].lease.lane is Priority.BULK:
            await is_over.wait()
        return await finish(ends)

    monkeypatch.setattr(bench.ledger, "finish", finish_bulk_late)
    bulk = [await bench.send("list_models", {}, priority=Priority.BULK) for _ in range(8)]
    async with running_runner(bench, concurrency=8) as runner:

        async def is_behind() -> bool:
            return runner.unsettled >= 4 and not runner.running

        await until(is_behind)
        await until_ended(bench, await bench.send("list_models", {}))
        assert runner.unsettled >= 4
        is_over.set()
        for command_id in bulk:
            await until_ended(bench, command_id)


async def test_bulk_goes_on_though_its_ends_were_recorded_while_a_claim_left_it_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing runs then that could wake the drain."""
    monkeypatch.setattr("worker.queue.pool.settling.MOST_IN_A_SCRIPT", 2)
    finish, claim, is_over = bench.ledger.finish, bench.ledger.claim, asyncio.Event()

    async def finish_late(ends: Any) -> list[bool]:
        await is_over.wait()
        return await finish(ends)

    async def claim_late(*arguments: Any, **options: Any) -> Claim:
        told = await claim(*arguments, **options)
        if runner.unsettled >= 4 and not runner.running:
            is_over.set()
            await until(partial(_have_ended, runner, 0))
        return told

    monkeypatch.setattr(bench.ledger, "finish", finish_late)
    monkeypatch.setattr(bench.ledger, "claim", claim_late)
    sent = [await bench.send("list_models", {}, priority=Priority.BULK) for _ in range(12)]
    async with running_runner(bench, concurrency=4) as runner:
        for command_id in sent:
            await until_ended(bench, command_id)


async def test_nothing_is_kept_for_what_is_accepted_while_ends_of_its_lane_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.queue.pool.settling.MOST_IN_A_SCRIPT", 2)
    pool = bench.pool(concurrency=8)
    batch = [new_command(b"1-0", "new")]
    for number in range(4):
        assert pool.reserve(batch) == 1
        pool.take(1, [await bench.claim(await bench.send("list_models", {}))])
        await until(partial(_have_ended, pool, number + 1))
    assert pool.reserve(batch) == 0


async def _have_ended(runner: WorkerPool, count: int) -> bool:
    return runner.unsettled == count and not runner.running


async def test_what_is_accepted_during_a_claim_gets_none_of_the_slots_that_it_is_for(
    bench: Bench, redis: Redis, keys: Keys
) -> None:
    """Or a worker with one slot would run two commands at once."""
    slow = SlowLedger(
        redis, keys, lease_seconds=600, retention_seconds=3600, reply_retention_seconds=3600
    )
    await bench.send("list_models", {})
    async with running_runner(replace(bench, ledger=slow), concurrency=1) as runner:
        await slow.claimed.wait()
        assert runner.reserve([new_command(b"1-0", "new")]) == 0
        slow.may_answer.set()

        async def is_free() -> bool:
            return runner.slots.free == 1

        await until(is_free)


async def _none_runs(runner: WorkerPool) -> bool:
    return not runner.running


async def test_a_single_slot_serves_both_lanes_in_turn(bench: Bench) -> None:
    interactive = [await bench.send("list_models", {}) for _ in range(4)]
    bulk = [await bench.send("list_models", {}, priority=Priority.BULK) for _ in range(4)]
    async with running_runner(bench, concurrency=1):
        for command_id in interactive + bulk:
            await until_ended(bench, command_id)
    order = await ends_in_order(bench, interactive + bulk)
    lanes = [command_id in bulk for command_id in order]
    assert len(lanes) == 8
    assert all(lane is not following for lane, following in pairwise(lanes)), "strictly in turn"
    assert [each for each in order if each in interactive] == interactive, "first come, first run"
    assert [each for each in order if each in bulk] == bulk


async def test_a_single_slot_whose_one_lane_is_empty_serves_the_other(bench: Bench) -> None:
    for priority in Priority:
        sent = [await bench.send("list_models", {}, priority=priority) for _ in range(3)]
        async with running_runner(bench, concurrency=1):
            for command_id in sent:
                await until_ended(bench, command_id)
        assert await ends_in_order(bench, sent) == sent


@pytest.mark.parametrize("concurrency", [2, 3, 4, 16])
async def test_few_slots_keep_one_for_each_lane(bench: Bench, concurrency: int) -> None:
    """Neither lane may take them all, however much waits in it."""
    bench.sandbox.faults(SLOW)
    await send_slow(bench, concurrency * 2, Priority.BULK)
    await send_slow(bench, concurrency * 2, Priority.INTERACTIVE)
    async with running_runner(bench, concurrency=concurrency) as runner:

        async def full() -> bool:
            return runner.running == concurrency

        await until(full)
        lanes = [lease.lane for lease in runner._runs.leases]
    assert lanes.count(Priority.BULK) == 1
    assert lanes.count(Priority.INTERACTIVE) == concurrency - 1


@pytest.mark.parametrize("concurrency", [2, 3, 16])
async def test_bulk_leaves_a_slot_free_where_nothing_interactive_waits(
    bench: Bench, concurrency: int
) -> None:
    bench.sandbox.faults(SLOW)
    await send_slow(bench, concurrency * 2, Priority.BULK)
    async with running_runner(bench, concurrency=concurrency) as runner:

        async def filled() -> bool:
            return runner.running == concurrency - 1

        await until(filled)
        sent = await bench.send("list_models", {})
        runner.wake()
        await until_ended(bench, sent)
        assert runner.running == concurrency - 1, (
            "no slow call had to end, and no bulk took the slot"
        )


async def test_a_backlog_that_is_too_late_pauses_no_lane(bench: Bench) -> None:
    """After an outage many deadlines have passed; what is in time must not wait behind them."""
    past = "2026-01-01T00:00:00Z"
    sent = [await bench.send("list_models", {}, deadline=past) for _ in range(8)]
    share = FailureRateMonitor(commands=4, seconds=0, share=0.5)
    async with running_runner(bench, 4, share) as runner:
        for command_id in sent:
            await until_ended(bench, command_id)
        in_time = await bench.send("list_models", {})
        runner.wake()
        await until_ended(bench, in_time)
    assert await Lanes(bench.redis, bench.ledger.keys).paused() == []


def poll_long(bench: Bench) -> None:
    """Lets the bench watch trainings with requests that are held open far longer than a test."""
    dependencies = with_encord(bench.executor.dependencies, long_polls=LongPolls(4, 50))
    bench.executor = replace(bench.executor, dependencies=dependencies)


async def test_a_stop_waits_for_the_call_that_creates_and_for_no_other(bench: Bench) -> None:
    poll_long(bench)
    bench.sandbox.faults(
        {**SIMULATED, "training": "stalled"},
        {"operation": "create_training_job", "effect": "latency", "seconds": 1},
    )
    sent = await bench.send("train", train_data(bench.sandbox, bench.sandbox.create_model()))
    row = bench.ledger.keys.command(sent)
    async with running_runner(bench, 4) as runner:

        async def intended() -> bool:
            return await bench.redis.hget(row, "h") == b"intended"

        await until(intended)
        async with asyncio.timeout(50):
            await runner.close(60)
    assert await bench.states(sent) == ["accepted", "started"]
    assert await bench.state(sent) == "polling"


async def test_a_request_that_is_held_open_outlasts_no_wait(bench: Bench) -> None:
    poll_long(bench)
    bench.sandbox.faults({**SIMULATED, "training": "stalled"})
    data = train_data(bench.sandbox, bench.sandbox.create_model(), timeout_seconds=1)
    async with asyncio.timeout(50):
        terminal = await bench.end(await bench.send("train", data))
    assert terminal["data"]["error"]["code"] == "training_timeout"


async def test_a_command_that_no_worker_can_read_fails_after_its_claims(bench: Bench) -> None:
    """An older worker claims, in the middle of a deploy, what a newer one has accepted."""
    bench.executor = replace(bench.executor, max_claims=3)
    keys = bench.ledger.keys
    sent = await bench.send("list_models", {}, replyto="sender", correlationid="c")
    newer = {"type": "fly", "data": {}, "replyto": "sender", "correlationid": "c"}
    await bench.redis.set(keys.text(sent), orjson.dumps(newer))
    make_due = bench.redis.register_script(MAKE_DUE)
    async with running_runner(bench, 4) as runner:

        async def ended() -> bool:
            # Whoever can't read it leaves it alone for a while; a test doesn't wait so long.
            if await make_due(keys=[keys.command(sent), keys.due_interactive], args=[sent]):
                runner.wake()
            return RowState(await bench.state(sent)).ended

        await until(ended)
    terminal = (await events(bench.redis, keys.replies("sender")))[-1]
    assert (terminal["type"], terminal["subject"]) == ("fly.failed", sent)
    assert terminal["correlationid"] == "c"
    assert terminal["data"]["error"]["code"] == "internal_error"
    letter = await DeadLetters(bench.redis, keys).get(sent)
    assert letter is not None
    assert orjson.loads(letter.text) == newer


async def test_of_those_that_may_kill_their_worker_one_runs_at_a_time(bench: Bench) -> None:
    bench.sandbox.faults(SLOW)
    keys = bench.ledger.keys
    for _ in range(2):
        sent = await bench.send("get_model", {"model_uuid": str(uuid4())})
        for _ in range(SUSPECT_CLAIMS):
            await bench.claim(sent)
        # Its workers were killed, and their leases are over.
        await bench.redis.zadd(keys.due_interactive, {sent: 0}, xx=True)
    async with running_runner(bench, concurrency=4) as runner:

        async def runs(count: int) -> bool:
            runner.wake()
            return runner.running >= count

        await until(partial(runs, 1))
        # Whoever takes this one sees the other suspect, too.
        await send_slow(bench, 1, Priority.INTERACTIVE)
        await until(partial(runs, 2))
        assert [lease.suspect for lease in runner._runs.leases] == [True, False]


async def test_a_stop_gives_back_what_it_was_just_claiming(
    bench: Bench, redis: Redis, keys: Keys
) -> None:
    """The leases come after it has begun; kept, each would be waited for until it is over."""
    ledger = SlowLedger(
        redis, keys, lease_seconds=600, retention_seconds=600, reply_retention_seconds=600
    )
    bench = replace(bench, ledger=ledger)
    bench.sandbox.faults(SLOW)
    sent = await bench.send("get_model", {"model_uuid": str(uuid4())})
    async with running_runner(bench, concurrency=4) as runner:
        async with asyncio.timeout(60):
            await ledger.claimed.wait()
        closing = asyncio.create_task(runner.close(60))
        await asyncio.sleep(0)
        ledger.may_answer.set()
        await closing
        claims, due_at = (
            await redis.hget(keys.command(sent), "c"),
            await redis.zscore(keys.due_interactive, sent),
        )
    assert claims == b"0"
    assert due_at is not None
    assert due_at <= await now_ms(redis), "for the next worker, at once"
