"""Creating exactly once: intent, refusal, doubt, adoption, and the end of a doubt."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.integration.creations import KINDS, OPERATIONS, data_of, made
from tests.integration.ledger_acts import now_ms
from tests.integration.worker_bench import Bench, open_bench, with_encord
from tests.sandbox_process import SIMULATED, SandboxProcess
from worker.encord.creation.keys import ambiguous_key, orphan_key
from worker.errors import FencedError
from worker.queue.lane_slots import LaneSlots
from worker.queue.ledger.cancellation import cancel
from worker.queue.ledger.ledger import ENDED_HOLDER_SECONDS, LOCK_SECONDS
from worker.queue.ledger.models import Phase

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.ledger import Ledger

HIDDEN: dict[str, object] = {"operation": "*", "effect": "running_trainings", "shown": "hidden"}
LISTED: dict[str, object] = {"operation": "*", "effect": "running_trainings", "shown": "listed"}
# A training may be waited for longer than a lock is kept.
LONG_SECONDS = 60 * 24 * 3600


def fail(command_type: str, effect: str, **more: Any) -> dict[str, Any]:
    """Returns the rule by which the POST of a command goes wrong, once unless told otherwise."""
    return {"operation": OPERATIONS[command_type], "effect": effect, "count": 1, **more}


async def locks(bench: Bench) -> list[bytes]:
    """Returns the locks that keep identical creations from being sent."""
    pattern = f"*{bench.ledger.keys.namespace}*lock:creating-*"
    return [key async for key in bench.redis.scan_iter(match=pattern, count=1000)]


async def lookalikes(bench: Bench) -> list[bytes]:
    """Returns where commands stand that others have to reckon with: each may have created one."""
    return [key async for key in bench.redis.scan_iter(ambiguous_key(bench.ledger.keys, "*"))]


LOST: dict[str, dict[str, Any]] = {
    "commit, then 502": {"effect": "commit_then_fail", "status": 502},
    "commit, then a redirect": {"effect": "commit_then_fail", "status": 302},
    "commit, then 499": {"effect": "commit_then_fail", "status": 499},
    "commit, then 600": {"effect": "commit_then_fail", "status": 600},
    "commit, then a reset": {"effect": "commit_then_fail"},
    "a truncated answer": {"effect": "truncated"},
}


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("command_type", KINDS)
async def test_what_a_lost_answer_created_is_found_and_adopted(
    bench: Bench, command_type: str, lost: str
) -> None:
    data = data_of(bench, command_type)
    bench.sandbox.faults(SIMULATED, fail(command_type, **LOST[lost]))
    sent = await bench.send(command_type, data)
    terminal = await bench.end(sent)
    assert terminal["type"] == f"{command_type}.succeeded", terminal
    assert made(bench, command_type, data) == 1
    states = await bench.states(sent)
    assert [state for state in states if state != "started"] == [
        "accepted",
        "in_doubt",
        "succeeded",
    ]
    assert states.count("started") == (command_type == "train")
    assert await locks(bench) == []


@pytest.mark.parametrize("command_type", KINDS)
async def test_what_was_lost_before_it_was_created_is_never_sent_again(
    redis: Redis, ledger: Ledger, sandbox: SandboxProcess, tmp_path: Path, command_type: str
) -> None:
    async with open_bench(redis, ledger, sandbox, tmp_path, doubt_seconds=0.3) as bench:
        data = data_of(bench, command_type)
        if command_type == "train":
            data["timeout_seconds"] = 1
        sandbox.faults(SIMULATED, fail(command_type, "reset"))
        sent = await bench.send(command_type, data)
        terminal = await _end_of_doubt(bench, sent)
        error = terminal["data"]["error"]
        assert (terminal["type"], error["code"]) == (f"{command_type}.failed", "outcome_unknown")
        assert "Check the" in error["message"]
        assert made(bench, command_type, data) == 0
        assert sandbox.truth()["calls"][OPERATIONS[command_type]]["by_status"]["reset"] >= 1
        assert await locks(bench) == []


async def _end_of_doubt(bench: Bench, sent: str) -> dict[str, Any]:
    """Runs a command in doubt until its time is up; the row's due times are not waited for."""
    deadline = time.monotonic() + 120
    while True:
        finish = await bench.attempt(sent)
        if finish is not None and finish.state.ended:
            return (await bench.told(sent))[-1]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("status", [429, 503, 400])
async def test_only_a_refusal_is_sent_again_or_fails_at_once(bench: Bench, status: int) -> None:
    """A 429 proves that nothing happened; a 503 doesn't; after a 400 nothing helps."""
    data = data_of(bench, "train")
    bench.sandbox.faults(SIMULATED, fail("train", "status", status=status))
    before = bench.sandbox.truth()["calls"].get("create_training_job", {"total": 0})["total"]
    # Only a doubt needs an end; the others must not be late on a slow machine.
    ends = {"deadline": _in_seconds(5)} if status == 503 else {}
    sent = await bench.send("train", data, **ends)
    terminal = await _end_of_doubt(bench, sent)
    posts = bench.sandbox.truth()["calls"]["create_training_job"]["total"]
    expected = {
        429: ("train.succeeded", 1, ["accepted", "retrying", "started", "succeeded"]),
        503: ("train.failed", 0, ["accepted", "in_doubt", "failed"]),
        400: ("train.failed", 0, ["accepted", "failed"]),
    }[status]
    assert (terminal["type"], made(bench, "train", data)) == expected[:2]
    assert await bench.states(sent) == expected[2]
    assert posts - before == (2 if status == 429 else 1)
    assert await locks(bench) == []


@pytest.mark.parametrize("effect", ["status", "reset"])
async def test_a_creation_that_fails_keeps_no_other_from_its_slot(
    bench: Bench, effect: str
) -> None:
    """In whatever way it failed: else a worker would create nothing any more after a few."""
    dependencies = with_encord(bench.executor.dependencies, creations=LaneSlots(1))
    bench.executor = replace(bench.executor, dependencies=dependencies)
    more = {"status": 400} if effect == "status" else {}
    bench.sandbox.faults(SIMULATED, fail("create_model", effect, **more))
    await bench.attempt(await bench.send("create_model", data_of(bench, "create_model")))
    async with asyncio.timeout(60):
        await bench.carry("create_model", data_of(bench, "create_model"))


def _in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def test_a_connection_that_never_stood_proves_that_nothing_happened(
    redis: Redis, ledger: Ledger, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    async with open_bench(redis, ledger, sandbox, tmp_path) as bench:
        data = data_of(bench, "create_model")
        sent = await bench.send("create_model", data)
        told = dict(sandbox.told)
        sandbox.told["domain"] = "http://127.0.0.1:9"
        try:
            async with open_bench(redis, ledger, sandbox, tmp_path) as cut_off:
                await cut_off.attempt(sent)
        finally:
            sandbox.told = told
        assert await bench.states(sent) == ["accepted", "retrying"]
        assert (await bench.end(sent))["type"] == "create_model.succeeded"
        assert made(bench, "create_model", data) == 1


async def test_a_running_training_that_is_listed_is_adopted_before_it_ends(bench: Bench) -> None:
    data = data_of(bench, "train")
    bench.sandbox.faults(
        {**SIMULATED, "training": "stalled"}, LISTED, fail("train", "commit_then_fail", status=504)
    )
    sent = await bench.send("train", data)
    for _ in range(3):
        await bench.attempt(sent)
    assert await bench.state(sent) == "polling"
    assert await bench.states(sent) == ["accepted", "in_doubt", "started"]


async def test_a_hidden_training_is_adopted_once_the_api_shows_it(bench: Bench) -> None:
    data = data_of(bench, "train")
    hidden = {**SIMULATED, "training": "simulated", "seconds": 1}
    bench.sandbox.faults(hidden, HIDDEN, fail("train", "commit_then_fail", status=504))
    sent = await bench.send("train", data)
    for _ in range(3):
        await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    bench.sandbox.faults(HIDDEN)
    terminal = await _end_of_doubt(bench, sent)
    assert terminal["type"] == "train.succeeded"
    assert made(bench, "train", data) == 1


async def test_no_trouble_in_asking_ends_a_doubt(bench: Bench) -> None:
    data = data_of(bench, "train")
    bench.sandbox.faults(
        SIMULATED,
        fail("train", "commit_then_fail", status=500),
        {"operation": "get_model", "effect": "status", "status": 403, "after": 1, "count": 8},
    )
    sent = await bench.send("train", data)
    assert (await bench.end(sent))["type"] == "train.succeeded"
    assert made(bench, "train", data) == 1


async def test_what_existed_before_or_belongs_to_another_command_is_never_adopted(
    redis: Redis, ledger: Ledger, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    async with open_bench(redis, ledger, sandbox, tmp_path) as bench:
        sandbox.faults(SIMULATED)
        data = data_of(bench, "train") | {"timeout_seconds": 1}
        strangers = bench.sandbox.create_training(data["model_uuid"])
        sandbox.faults(SIMULATED, fail("train", "reset"))
        lost = await bench.send("train", data, id="lost")
        await bench.attempt(lost)
        owner = await bench.carry("train", {**data, "timeout_seconds": 60}, id="owner")
        terminal = await _end_of_doubt(bench, lost)
        assert terminal["data"]["error"]["code"] == "outcome_unknown"
        assert owner["training_uuid"] != strangers
        assert made(bench, "train", data) == 2


async def test_an_owner_is_known_for_as_long_as_its_training_may_stay_hidden(
    bench: Bench,
) -> None:
    data = data_of(bench, "train") | {"timeout_seconds": LONG_SECONDS}
    result = await bench.carry("train", data)
    owner = bench.ledger.keys.lock(f"training:{result['training_uuid']}")
    assert await bench.redis.ttl(owner) > LONG_SECONDS + LOCK_SECONDS - 60


async def test_what_another_command_owned_once_is_never_adopted_though_its_lock_lapsed(
    bench: Bench,
) -> None:
    """A doubt lasts as long as the command's timeout, which may be longer than any lock."""
    data = data_of(bench, "train") | {"timeout_seconds": LONG_SECONDS}
    bench.sandbox.faults(SIMULATED, fail("train", "reset"))
    lost = await bench.send("train", data, id="lost")
    await bench.attempt(lost)
    owned = await bench.carry("train", {**data, "timeout_seconds": 60}, id="owner")
    await bench.attempt(lost)
    assert await bench.redis.delete(bench.ledger.keys.lock(f"training:{owned['training_uuid']}"))
    for _ in range(2):
        await bench.attempt(lost)
        assert await bench.state(lost) == "in_doubt"


async def test_a_model_that_existed_before_is_never_taken_for_the_lost_one(
    redis: Redis, ledger: Ledger, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    async with open_bench(redis, ledger, sandbox, tmp_path, doubt_seconds=0.3) as bench:
        data = data_of(bench, "create_model")
        sandbox.create_model(title=data["title"])
        sandbox.faults(fail("create_model", "reset"))
        terminal = await _end_of_doubt(bench, await bench.send("create_model", data))
        assert terminal["data"]["error"]["code"] == "outcome_unknown"


async def test_identical_creations_go_one_after_the_other_and_each_gets_its_own(
    bench: Bench,
) -> None:
    data = data_of(bench, "train")
    bench.sandbox.faults(
        SIMULATED, {"operation": "create_training_job", "effect": "latency", "seconds": 2}
    )
    ids = [await bench.send("train", data, id=f"twin-{number}") for number in range(2)]
    runs = [bench.begin(await bench.claim(command_id)) for command_id in ids]
    finishes = await asyncio.gather(*(bench.executor.carry_out(run) for run in runs))
    await bench.ledger.finish(finishes)
    states = sorted([await bench.state(command_id) for command_id in ids])
    assert states == ["accepted", "succeeded"], "one of them had to wait"
    results = []
    for command_id in ids:
        if await bench.state(command_id) == "accepted":
            await bench.end(command_id)
        results.append((await bench.told(command_id))[-1]["data"]["result"]["training_uuid"])
    assert len(set(results)) == 2
    assert made(bench, "train", data) == 2


async def test_two_identical_doubts_adopt_one_training_each(bench: Bench) -> None:
    data = data_of(bench, "train")
    bench.sandbox.faults(SIMULATED, fail("train", "commit_then_fail", status=502, count=2))
    ids = [await bench.send("train", data, id=f"doubt-{number}") for number in range(2)]
    for command_id in ids:
        await bench.attempt(command_id)
        assert await bench.state(command_id) == "in_doubt"
    adopted = [(await bench.end(each))["data"]["result"]["training_uuid"] for each in ids]
    assert len(set(adopted)) == 2
    assert made(bench, "train", data) == 2


async def test_a_worker_that_died_after_its_intent_leaves_a_doubt_not_a_second_post(
    bench: Bench,
) -> None:
    """The next holder of the lease finds the intent, and the training that was made for it."""
    data = data_of(bench, "train")
    sent = await bench.send("train", data)
    bench.sandbox.faults(
        SIMULATED, {"operation": "create_training_job", "effect": "latency", "seconds": 2}
    )
    run = bench.begin(await bench.claim(sent))
    dying = asyncio.create_task(bench.executor.carry_out(run))
    while not run.changing:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    terminal = await _end_of_doubt(bench, sent)
    assert terminal["type"] == "train.succeeded"
    assert made(bench, "train", data) == 1
    assert (await bench.states(sent)).count("in_doubt") == 1


@pytest.mark.parametrize("command_type", ["train", "create_model"])
async def test_who_lost_its_lease_during_the_post_leaves_word_for_the_next(
    bench: Bench, command_type: str
) -> None:
    """Even where the API lists nothing the next holder knows, with the whole result."""
    data = data_of(bench, command_type)
    if command_type == "train":
        data["timeout_seconds"] = LONG_SECONDS
    sent = await bench.send(command_type, data)
    operation = OPERATIONS[command_type]
    bench.sandbox.faults(
        SIMULATED,
        HIDDEN,
        {"operation": operation, "effect": "latency", "seconds": 2},
    )
    slow = bench.begin(await bench.claim(sent))
    first = asyncio.create_task(bench.executor.carry_out(slow))
    while not slow.changing:
        await asyncio.sleep(0.005)
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    with pytest.raises(FencedError):
        await first
    kept_seconds = await bench.redis.ttl(orphan_key(bench.ledger.keys, sent))
    assert kept_seconds > LOCK_SECONDS - 60 + (LONG_SECONDS if command_type == "train" else 0)
    bench.sandbox.faults({
        "operation": ["get_model", "list_models"],
        "effect": "status",
        "status": 503,
    })
    terminal = await bench.end(sent)
    assert terminal["type"] == f"{command_type}.succeeded"
    if command_type == "create_model":
        assert terminal["data"]["result"]["model_group"]["title"] == data["title"]
    bench.sandbox.faults()
    assert made(bench, command_type, data) == 1
    assert await lookalikes(bench) == []


async def test_a_command_cancelled_during_its_post_lets_an_identical_one_go_on(
    bench: Bench,
) -> None:
    """And owns what it made, so that the other one never adopts it."""
    data = data_of(bench, "train")
    cancelled = await bench.send("train", data, id="cancelled")
    other = await bench.send("train", data, id="other")
    bench.sandbox.faults(
        SIMULATED, {"operation": "create_training_job", "effect": "latency", "seconds": 2}
    )
    run = bench.begin(await bench.claim(cancelled))
    first = asyncio.create_task(bench.executor.carry_out(run))
    while run.phase is not Phase.INTENDED:
        await asyncio.sleep(0.005)
    outcome = await cancel(
        bench.redis, bench.ledger.keys, cancelled, retention_seconds=60, reply_retention_seconds=60
    )
    assert outcome.in_doubt
    await bench.attempt(other)
    assert await bench.states(other) == ["accepted"], "it waits for the call that is under way"
    # No call takes that long: a run that was killed in the middle of one keeps nobody for hours.
    long_ago = await now_ms(bench.redis) - ENDED_HOLDER_SECONDS * 1000
    await bench.redis.hset(bench.ledger.keys.command(cancelled), "e", long_ago)
    await bench.attempt(other)
    assert (await bench.states(other))[:2] == ["accepted", "started"]
    with pytest.raises(FencedError):
        await first
    assert await locks(bench) == []
    assert await lookalikes(bench) == []
    assert (await bench.told(other))[-1]["type"] == "train.succeeded"
    assert made(bench, "train", data) == 2


async def test_a_second_run_of_a_created_training_only_waits_for_it(bench: Bench) -> None:
    data = data_of(bench, "train")
    bench.sandbox.faults({**SIMULATED, "training": "stalled"})
    sent = await bench.send("train", data)
    for _ in range(3):
        await bench.attempt(sent)
    assert await bench.states(sent) == ["accepted", "started"]
    assert made(bench, "train", data) == 1
    lease = await bench.claim(sent)
    assert lease.phase is Phase.APPLIED
    assert lease.claims == 1, "progress starts the count of claims anew"
    assert await lookalikes(bench) == [], "should it fail, it keeps nobody else in doubt"


async def test_a_training_goes_on_though_the_file_that_named_its_data_is_gone(
    bench: Bench, tmp_path: Path
) -> None:
    """It was begun: the file is looked for again, and the command does not fail for it."""
    data = data_of(bench, "train")
    file = tmp_path / "train.json"
    file.write_bytes(orjson.dumps(data))
    unanswered = {
        "operation": "get_training_status",
        "effect": "status",
        "status": 503,
        "count": 1,
    }
    bench.sandbox.faults(SIMULATED, unanswered)
    sent = await bench.send("train", None, dataref=str(file))
    await bench.attempt(sent)
    assert await bench.states(sent) == ["accepted", "started"]
    text = file.read_bytes()
    file.unlink()
    await bench.attempt(sent)
    *_, told = await bench.told(sent)
    assert told["type"] == "train.retrying"
    assert told["data"]["error"]["code"] == "data_unavailable"
    assert await bench.state(sent) == "polling"
    file.write_bytes(text)
    assert (await bench.end(sent))["type"] == "train.succeeded"
    assert made(bench, "train", data) == 1
