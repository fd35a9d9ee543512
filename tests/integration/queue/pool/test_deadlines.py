"""Rules of deadlines in a worker: nothing starts past one, and whoever waits ends at it."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.console import Console, running_worker, wait_until
from tests.integration.creations import data_of, made, train_data
from tests.integration.intake_acts import until
from tests.integration.worker_bench import (
    Bench,
    encord_of,
    end_tasks,
    in_seconds,
    running_runner,
    until_ended,
    with_encord,
)
from tests.sandbox_process import SIMULATED, SandboxProcess
from worker.encord.api.throttle import ThrottledTransport
from worker.queue.circuit_breaker import CircuitBreaker
from worker.queue.lane_slots import LaneSlots
from worker.queue.ledger.dead_letters import DeadLetters
from worker.queue.ledger.deadlines import Deadlines
from worker.queue.ledger.rate_limits import RedisLimits
from worker.queue.pool.deadlines import DeadlineWatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


SOON_SECONDS = 2.5
PATIENCE_SECONDS = 60


@asynccontextmanager
async def watching(bench: Bench) -> AsyncIterator[None]:
    """Has somebody look for deadlines, as each worker process does."""
    deadlines = Deadlines(bench.redis, bench.ledger.keys, lease_seconds=30)
    watch = asyncio.create_task(DeadlineWatch(bench.ledger, deadlines, bench.executor).watch())
    try:
        yield
    finally:
        await end_tasks([watch])


def limited(bench: Bench, *, rate: float, concurrent: int) -> None:
    """Puts limits of the fleet before the API."""
    limits = RedisLimits(
        bench.redis,
        bench.ledger.keys,
        bench.ledger,
        requests_per_second=rate,
        concurrent_requests=concurrent,
    )
    dependencies = bench.executor.dependencies
    transport = ThrottledTransport(encord_of(bench).transport._transport, limits, None)
    bench.executor = replace(
        bench.executor, dependencies=with_encord(dependencies, transport=transport)
    )


def calls(bench: Bench, operation: str) -> int:
    told = bench.sandbox.truth()["calls"].get(operation, {})
    return int(told.get("total", 0))


async def end_code(bench: Bench, command_id: str) -> str:
    """Runs a command to its end; returns the code of its error.

    Who waits past the deadline fails the test by the time that it takes, for what these commands
    wait for may never come.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        code: str = (await bench.end(command_id))["data"]["error"]["code"]
    return code


async def failed_late(bench: Bench, command_id: str) -> bool:
    """Whether a command has ended for its deadline, by one event and one dead letter."""
    letter = await DeadLetters(bench.redis, bench.ledger.keys).get(command_id)
    (terminal,) = [each for each in await bench.told(command_id) if each["type"].endswith("failed")]
    code: str = terminal["data"]["error"]["code"]
    return code == "deadline_exceeded" and letter is not None and letter.reason == code


async def test_a_call_that_waits_for_its_turn_past_the_deadline_is_not_sent(bench: Bench) -> None:
    limited(bench, rate=0.05, concurrent=4)
    keys = bench.ledger.keys
    assert await bench.carry("list_models", {}) is not None
    before = calls(bench, "list_models")
    sent = await bench.send("list_models", {}, deadline=in_seconds(SOON_SECONDS))
    assert await end_code(bench, sent) == "deadline_exceeded"
    assert await bench.redis.exists(keys.rate), "its turn would come seconds later"
    assert calls(bench, "list_models") == before
    assert await bench.redis.zcard(keys.inflight) == 0, "it gave back what it had to send with"


async def test_a_call_that_waits_for_a_permit_ends_with_the_deadline(bench: Bench) -> None:
    limited(bench, rate=0, concurrent=1)
    keys = bench.ledger.keys
    await bench.redis.zadd(keys.inflight, {"another": (time.time() + 60) * 1000})
    before = calls(bench, "list_models")
    sent = await bench.send("list_models", {}, deadline=in_seconds(SOON_SECONDS))
    assert await end_code(bench, sent) == "deadline_exceeded"
    assert calls(bench, "list_models") == before
    assert await bench.redis.zrange(keys.inflight, 0, -1) == [b"another"]


async def test_a_creation_that_waits_for_a_place_ends_with_the_deadline(bench: Bench) -> None:
    dependencies = with_encord(bench.executor.dependencies, creations=LaneSlots(0))
    bench.executor = replace(bench.executor, dependencies=dependencies)
    data = data_of(bench, "create_model")
    sent = await bench.send("create_model", data, deadline=in_seconds(SOON_SECONDS))
    assert await end_code(bench, sent) == "deadline_exceeded"
    assert made(bench, "create_model", data) == 0


async def test_an_intent_whose_turn_comes_too_late_leaves_no_doubt(bench: Bench) -> None:
    """The turn for the list is there at once, the one for the POST comes past the deadline."""
    limited(bench, rate=0.05, concurrent=4)
    data = data_of(bench, "create_model")
    sent = await bench.send("create_model", data, deadline=in_seconds(4))
    assert await end_code(bench, sent) == "deadline_exceeded"
    assert await bench.states(sent) == ["accepted", "failed"]
    assert made(bench, "create_model", data) == 0
    pattern = f"{bench.ledger.keys.prefix}lock:creating*"
    assert not [key async for key in bench.redis.scan_iter(match=pattern, count=1000)]


async def test_a_hold_of_the_api_ends_nobody_later_than_the_deadline(bench: Bench) -> None:
    await bench.ledger.hold(60)
    sent = await bench.send("list_models", {}, deadline=in_seconds(SOON_SECONDS))
    async with running_runner(bench, concurrency=4), watching(bench):
        await until_ended(bench, sent)
        assert await bench.redis.pttl(bench.ledger.keys.hold) > 0
    assert await failed_late(bench, sent)


async def test_an_open_breaker_ends_nobody_later_than_the_deadline(bench: Bench) -> None:
    async def is_away() -> bool:
        return False

    breaker = CircuitBreaker(is_away, failures=1, minimum_seconds=60, maximum_seconds=60)
    await breaker.examine()
    bench.executor = replace(bench.executor, breaker=breaker)
    sent = await bench.send("list_models", {}, deadline=in_seconds(SOON_SECONDS))
    async with running_runner(bench, concurrency=4), watching(bench):
        await until_ended(bench, sent)
        assert breaker.is_open
    await breaker.aclose()
    assert await failed_late(bench, sent)


async def test_full_places_end_nobody_later_than_the_deadline(bench: Bench) -> None:
    bench.sandbox.faults({"operation": "list_models", "effect": "latency", "seconds": 60})
    await bench.send("list_models", {})
    async with running_runner(bench, concurrency=1) as runner, watching(bench):

        async def full() -> bool:
            return runner.running == 1

        await until(full)
        sent = await bench.send("list_models", {}, deadline=in_seconds(SOON_SECONDS))
        runner.wake()
        await until_ended(bench, sent)
        assert runner.running == 1
    assert await failed_late(bench, sent)


async def test_whoever_knows_a_far_deadline_sees_a_nearer_one_that_comes_later(
    bench: Bench,
) -> None:
    await bench.send("list_models", {}, deadline=in_seconds(3600))
    async with watching(bench):
        for _ in range(2):
            sent = await bench.send("list_models", {}, deadline=in_seconds(-1))
            await until_ended(bench, sent)
            assert await failed_late(bench, sent)


async def test_a_command_that_nobody_here_can_read_is_late_like_any_other(bench: Bench) -> None:
    sent = await bench.send("list_models", {}, deadline=in_seconds(SOON_SECONDS))
    newer = {"type": "segment", "id": sent, "data": {}, "correlationid": "c"}
    await bench.redis.set(bench.ledger.keys.text(sent), json.dumps(newer))
    async with watching(bench):
        await until_ended(bench, sent)
    assert await failed_late(bench, sent)
    assert (await bench.told(sent))[-1]["correlationid"] == "c"


async def test_past_its_deadline_a_training_is_asked_for_no_more(bench: Bench) -> None:
    bench.sandbox.faults({**SIMULATED, "training": "stalled"})
    model = bench.sandbox.create_model()
    deadline = time.time() + 8
    sent = await bench.send(
        "train", train_data(bench.sandbox, model), deadline=in_seconds(deadline - time.time())
    )
    await bench.attempt(sent)
    assert await bench.state(sent) == "polling"
    due = await bench.redis.zscore(bench.ledger.keys.due_interactive, sent)
    assert due is not None
    assert due / 1000 < deadline - 0.5, "the last poll comes before the deadline"
    polls = calls(bench, "get_training_status")

    async def passed() -> bool:
        return time.time() > deadline

    await until(passed)
    terminal = await bench.end(sent)
    assert terminal["data"]["error"]["code"] == "deadline_exceeded"
    assert "goes on at the API" in terminal["data"]["error"]["message"]
    assert calls(bench, "get_training_status") == polls


async def test_who_is_in_doubt_asks_the_api_once_more_though_the_deadline_has_passed(
    bench: Bench,
) -> None:
    """Else a worker that comes back too late would call unknown what can be known."""
    data = data_of(bench, "create_model")
    lost = {"operation": "create_model", "effect": "commit_then_fail", "count": 1}
    bench.sandbox.faults(lost)
    deadline = time.time() + 4
    sent = await bench.send("create_model", data, deadline=in_seconds(4))
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"

    async def passed() -> bool:
        return time.time() > deadline

    await until(passed)
    assert (await bench.end(sent))["type"] == "create_model.succeeded"
    assert made(bench, "create_model", data) == 1


def test_a_worker_that_is_told_to_wait_a_minute_ends_what_is_late_meanwhile(
    redis_url: str, namespace: str, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    """A whole worker process, told by a 429 to hold everything back."""
    sandbox.faults({
        "operation": "list_models",
        "effect": "status",
        "status": 429,
        "headers": {"Retry-After": "60"},
    })
    console = Console(
        redis_url,
        namespace,
        ENCORD_DOMAIN=sandbox.told["domain"],
        ENCORD_SSH_KEY_FILE=sandbox.told["key_file"],
        TRAINMASTER_RESULT_STORE=str(tmp_path / "results"),
    )

    def status(command_id: str) -> dict[str, Any]:
        lines = console.run("status", command_id, "--json").lines
        return lines[0] if lines else {}

    with running_worker(console, tmp_path / "worker.log"):
        console.run("submit", "list_models", "--id", "first")
        wait_until(lambda: status("first").get("state") == "retrying", "the hold")
        said = console.run("submit", "--wait", "list_models", "--deadline", "2s", "--json")
        assert said.code == 1
        assert said.lines[-1]["data"]["error"]["code"] == "deadline_exceeded"
        assert status("first")["state"] == "retrying", "the hold is not over"
        assert console.run("cancel", "first").code == 0
