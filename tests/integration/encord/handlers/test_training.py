"""Rules of waiting for trainings: how often the API is asked, and who may hold a request open."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.integration.creations import data_of, made, train_data
from tests.integration.worker_bench import with_encord
from tests.sandbox_process import SIMULATED
from worker.encord.context import LongPolls, PollSchedule
from worker.encord.handlers.training import KEPT_BYTES, POLL_JITTER
from worker.queue.pool.results import ResultStore
from worker.queue.telemetry import RunOutcome

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.worker_bench import Bench

SHORTEST, LONGEST, SHARE = 10.0, 300.0, 0.05
STALLED = {**SIMULATED, "training": "stalled"}


@pytest.mark.parametrize(
    ("elapsed", "interval"),
    [(0, SHORTEST), (150, SHORTEST), (400, 20), (3_600, 180), (6_000, LONGEST), (600_000, LONGEST)],
)
async def test_the_next_poll_comes_after_a_share_of_the_time_within_bounds(
    bench: Bench, elapsed: float, interval: float
) -> None:
    schedule(bench, PollSchedule(SHORTEST, LONGEST, SHARE))
    sent = await waiting(bench)
    await pretend(bench, sent, elapsed)
    delays = [await polled(bench, sent) for _ in range(8)]
    for delay in delays:
        assert interval * (1 - POLL_JITTER) <= delay <= interval * (1 + POLL_JITTER) + 1
    assert len(set(delays)) > 1, "trainings that began together are not polled together"


async def test_only_the_first_run_of_a_training_has_waited_for_it(bench: Bench) -> None:
    """Each poll begins anew, with no attempt counted; its wait is none for a place."""
    bench.sandbox.reset_truth()
    bench.sandbox.faults(STALLED)
    sent = await bench.send("train", train_data(bench.sandbox, bench.sandbox.create_model()))
    ends = []
    for _ in range(3):
        finish = await bench.attempt(sent)
        assert finish is not None
        assert finish.end is not None
        assert finish.end.outcome is RunOutcome.WAITS
        ends.append(finish.end)
    assert ends[0].waited_seconds is not None
    assert 0 <= ends[0].waited_seconds < 60
    assert [each.waited_seconds for each in ends[1:]] == [None, None]


async def test_polls_that_fail_come_ever_more_rarely_and_never_more_so_than_the_longest(
    bench: Bench,
) -> None:
    schedule(bench, PollSchedule(SHORTEST, LONGEST, SHARE))
    sent = await waiting(bench)
    bench.sandbox.faults({"operation": "get_training_status", "effect": "status", "status": 500})
    for failures in range(1, 9):
        expected = min(LONGEST, SHORTEST * 2 ** min(failures - 1, 5))
        delay = await polled(bench, sent)
        assert expected * (1 - POLL_JITTER) <= delay <= min(LONGEST, expected * (1 + POLL_JITTER))
    bench.sandbox.faults()
    assert await polled(bench, sent) <= SHORTEST * (1 + POLL_JITTER), "one success, and all is well"


async def test_who_watches_a_training_waits_from_the_first_look_and_no_longer(bench: Bench) -> None:
    """Counted from the last one, its time would never be over."""
    data = data_of(bench, "train")
    bench.sandbox.faults(STALLED)
    begun = await bench.carry("train", {**data, "wait": False})
    watched = {"model_uuid": data["model_uuid"], "training_uuid": begun["training_uuid"]}
    sent = await bench.send("watch_training", {**watched, "timeout_seconds": 3600})
    await polled(bench, sent)
    await pretend(bench, sent, 3601)
    await bench.attempt(sent)
    assert await bench.states(sent) == ["accepted", "failed"]
    assert (await bench.told(sent))[-1]["data"]["error"]["code"] == "training_timeout"


async def test_what_a_training_was_sent_with_outlives_its_success_unless_it_is_large(
    bench: Bench,
) -> None:
    """So that people see of which model it was."""
    data = data_of(bench, "train")
    labels = data["labels_uuids"] * (KEPT_BYTES // 39 // len(data["labels_uuids"]) + 1)
    keys = bench.ledger.keys
    for command_type, more, is_kept in (
        ("train", {}, True),
        ("train", {"wait": False}, True),
        ("train", {"wait": False, "labels_uuids": labels}, False),
    ):
        sent = await bench.send(command_type, {**data, **more})
        text = await bench.redis.get(keys.text(sent))
        terminal = await bench.end(sent)
        assert terminal["type"] == "train.succeeded", terminal
        assert await bench.redis.get(keys.sent(sent)) == (text if is_kept else None)


async def test_a_poll_that_is_told_to_wait_waits_for_that_long(bench: Bench) -> None:
    schedule(bench, PollSchedule(SHORTEST, LONGEST, SHARE))
    sent = await waiting(bench)
    for status in (429, 503):
        bench.sandbox.faults({
            "operation": "get_training_status",
            "effect": "status",
            "status": status,
            "headers": {"Retry-After": "200"},
        })
        assert await polled(bench, sent) >= 200
        row = bench.ledger.keys.command(sent)
        # By this a release of holds finds it.
        waits_for = await bench.redis.hget(row, "w")
        assert waits_for == {429: b"rate_limited", 503: b"server_error"}[status]
    assert await bench.state(sent) == "polling"


async def test_neither_the_next_poll_nor_one_held_open_outlasts_the_wait_for_the_training(
    bench: Bench,
) -> None:
    """Or a wait of seconds would end minutes later."""
    schedule(bench, PollSchedule(SHORTEST, LONGEST, SHARE))
    timeout_seconds = int(LONGEST)
    sent = await waiting(bench, timeout_seconds=timeout_seconds)
    await pretend(bench, sent, timeout_seconds - SHORTEST / 2)
    assert await polled(bench, sent) <= SHORTEST / 2 + 1
    slots = LongPolls(1, 20)
    for rest, open_seconds in ((600, 20), (20.5, 20), (7.2, 8), (0.3, 1), (0, 0), (-5, 0)):
        with slots.slot(rest) as seconds:
            assert seconds == open_seconds, rest


async def test_no_more_requests_are_held_open_than_there_are_places(bench: Bench) -> None:
    bench.executor = replace(
        bench.executor,
        dependencies=with_encord(bench.executor.dependencies, long_polls=LongPolls(2, 2)),
    )
    ids = [await waiting(bench) for _ in range(3)]
    bench.sandbox.reset_truth()
    runs = [bench.begin(await bench.claim(command_id)) for command_id in ids]
    finishes = await asyncio.gather(*(bench.executor.carry_out(run) for run in runs))
    delays = sorted(finish.delay_seconds or 0.0 for finish in finishes)
    # Those that were held open are asked again at once; the third one takes its turn.
    assert delays[0] < 1
    assert delays[1] < 1
    assert delays[2] >= SHORTEST * (1 - POLL_JITTER)
    again = [bench.begin(run.lease) for run in runs[:2]]
    for finish in await asyncio.gather(*(bench.executor.carry_out(run) for run in again)):
        assert (finish.delay_seconds or 0.0) < 1, "a place that was left is free again"


async def test_a_place_is_free_again_after_a_poll_that_failed(bench: Bench) -> None:
    slots = LongPolls(1, 5)
    bench.executor = replace(
        bench.executor, dependencies=with_encord(bench.executor.dependencies, long_polls=slots)
    )
    sent = await waiting(bench)
    bench.sandbox.faults({"operation": "get_training_status", "effect": "reset"})
    await polled(bench, sent)
    with slots.slot(60) as seconds:
        assert seconds == 5


async def test_a_training_stays_a_training_while_its_result_cannot_be_stored(
    bench: Bench, tmp_path: Path
) -> None:
    """It was created: whoever sees `retrying` could think that it is sent again."""
    in_the_way = tmp_path / "in-the-way"
    in_the_way.write_text("no folder")
    whole = bench.executor.results
    bench.executor = replace(bench.executor, results=ResultStore(f"{in_the_way}/results", 1))
    bench.sandbox.reset_truth()
    sent = await bench.send("train", train_data(bench.sandbox, bench.sandbox.create_model()))
    for _ in range(2):
        await bench.attempt(sent)
        assert await bench.state(sent) == "polling"
    assert (await bench.states(sent))[-1] == "retrying"
    bench.executor = replace(bench.executor, results=whole)
    assert (await bench.end(sent))["type"] == "train.succeeded"
    assert bench.sandbox.truth()["calls"]["create_training_job"]["by_status"] == {"200": 1}


@pytest.mark.parametrize("command_type", ["create_model", "attach"])
async def test_what_was_created_is_retrying_while_its_result_cannot_be_stored(
    bench: Bench, tmp_path: Path, command_type: str
) -> None:
    in_the_way = tmp_path / "in-the-way"
    in_the_way.write_text("no folder")
    whole = bench.executor.results
    bench.executor = replace(bench.executor, results=ResultStore(f"{in_the_way}/results", 1))
    data = data_of(bench, command_type)
    sent = await bench.send(command_type, data)
    for _ in range(2):
        await bench.attempt(sent)
        assert await bench.state(sent) == "retrying"
    bench.executor = replace(bench.executor, results=whole)
    assert (await bench.end(sent))["type"] == f"{command_type}.succeeded"
    assert made(bench, command_type, data) == 1


def schedule(bench: Bench, polls: PollSchedule) -> None:
    bench.executor = replace(
        bench.executor, dependencies=with_encord(bench.executor.dependencies, polls=polls)
    )


async def waiting(bench: Bench, timeout_seconds: int = 10_000_000) -> str:
    """Returns the id of a command whose training exists and never ends."""
    bench.sandbox.reset_truth()
    bench.sandbox.faults(STALLED)
    model = bench.sandbox.create_model()
    data = train_data(bench.sandbox, model, timeout_seconds=timeout_seconds)
    sent = await bench.send("train", data)
    await bench.attempt(sent)
    assert await bench.state(sent) == "polling"
    return sent


async def pretend(bench: Bench, command_id: str, elapsed: float) -> None:
    """Makes a training look as if it had run for so long."""
    row = bench.ledger.keys.command(command_id)
    progress: dict[str, Any] = orjson.loads(await bench.redis.hget(row, "p") or b"{}")
    progress["at"] -= elapsed
    await bench.redis.hset(row, "p", orjson.dumps(progress).decode())


async def polled(bench: Bench, command_id: str) -> float:
    """Polls once; returns after how many seconds the next poll comes."""
    finish = await bench.attempt(command_id)
    assert finish is not None
    assert finish.delay_seconds is not None
    return finish.delay_seconds
