"""The command `cancel`: what it ends, what it does not, and what it says of both."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.sandbox_process import SIMULATED
from trainmaster_client import AsyncClient, CommandCancelledError, CommandFailedError
from worker.queue.ledger.keys import member_row_id

if TYPE_CHECKING:
    from tests.console import Served
    from tests.integration.worker_bench import Bench

LATER = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
TERMINAL = {"succeeded", "failed", "cancelled"}


async def test_a_command_that_waits_is_ended_with_the_one_event_of_its_end(bench: Bench) -> None:
    sent = await bench.send("list_models", {}, notbefore=LATER)
    said = await bench.carry("cancel", {"command_id": sent})
    assert said == {"cancelled": True, "state": "cancelled"}
    assert await bench.states(sent) == ["accepted", "cancelled"]


async def test_a_training_that_runs_is_ended_and_its_event_says_that_it_goes_on(
    bench: Bench,
) -> None:
    bench.sandbox.faults({**SIMULATED, "training": "stalled"})
    body = bench.sandbox.training_body()
    sent = await bench.send(
        "train",
        {
            "model_uuid": bench.sandbox.create_model(),
            "batch_size": body["batchSize"],
            "epochs": body["epochs"],
            "features_mapping": body["featuresMapping"],
            "labels_uuids": body["labelsUuids"],
        },
    )
    await bench.attempt(sent)
    assert (await bench.carry("cancel", {"command_id": sent}))["cancelled"]
    *_, last = await bench.told(sent)
    assert last["type"] == "train.cancelled"
    assert "goes on at the API" in last["data"]["note"]


@pytest.mark.parametrize("end", ["succeeded", "failed"])
async def test_what_has_ended_stays_as_it_ended(bench: Bench, end: str) -> None:
    if end == "succeeded":
        sent = await bench.send("list_models", {})
    else:
        sent = await bench.send("get_model", {"model_uuid": str(uuid4())})
    await bench.end(sent)
    before = await bench.states(sent)
    said = await bench.carry("cancel", {"command_id": sent})
    assert said == {"cancelled": False, "state": end}
    assert await bench.states(sent) == before


async def test_a_second_cancel_finds_it_cancelled_as_one_that_is_run_again_does(
    bench: Bench,
) -> None:
    sent = await bench.send("list_models", {}, notbefore=LATER)
    for _ in range(2):
        said = await bench.carry("cancel", {"command_id": sent})
        assert said == {"cancelled": True, "state": "cancelled"}
    assert await bench.states(sent) == ["accepted", "cancelled"]


async def test_what_commands_belong_to_is_cancelled_though_its_end_is_still_to_come(
    bench: Bench,
) -> None:
    """As a backfill is that was begun: whoever leads it writes first what its items came to."""
    sent = await bench.send("list_models", {}, notbefore=LATER)
    keys = bench.ledger.keys
    entry = await bench.redis.hget(keys.command(sent), "q")
    assert entry is not None
    await bench.redis.hset(keys.group(sent), mapping={"state": "running", "entry": entry})
    for _ in range(2):
        said = await bench.carry("cancel", {"command_id": sent})
        assert said == {"cancelled": True, "state": "cancelling"}
    assert await bench.states(sent) == ["accepted"]


@pytest.mark.parametrize(
    ("command_id", "code", "said"),
    [
        ("nobody", "not_found", "no command has the id 'nobody'"),
        ("itself", "invalid_input", "can't cancel itself"),
        ("night/7", "invalid_input", "cancel the backfill"),
    ],
)
async def test_what_can_not_be_cancelled_is_a_failure_that_says_why(
    bench: Bench, command_id: str, code: str, said: str
) -> None:
    row = bench.ledger.keys.command(member_row_id("night", "7"))
    await bench.redis.hset(row, mapping={"s": "accepted", "t": "predict"})
    own_id = "itself" if command_id == "itself" else "another"
    sent = await bench.send("cancel", {"command_id": command_id}, id=own_id)
    end = await bench.end(sent)
    assert end["type"] == "cancel.failed"
    assert end["data"]["error"]["code"] == code
    assert said in end["data"]["error"]["message"]


async def test_of_many_races_with_the_end_each_has_one_end_and_the_answer_is_true(
    served: Served, redis_url: str
) -> None:
    async with AsyncClient(redis_url, namespace=served.console.namespace) as client:

        async def race(number: int) -> tuple[str, bool]:
            command_id = await client.submit("list_models", {}, id=f"raced-{number}-{uuid4()}")
            while await client.status(command_id) is None:
                await asyncio.sleep(0.005)
            await asyncio.sleep(number % 20 * 0.003)
            said = await client.cancel(command_id)
            ending = await client.wait(command_id)
            assert said["state"] == ending.state
            return ending.state, said["cancelled"]

        ends = await asyncio.gather(*(race(number) for number in range(60)))
        assert all(cancelled == (state == "cancelled") for state, cancelled in ends)
        subjects: dict[str, list[str]] = {}
        async for event in client.events(["list_models"]):
            if event.command_id.startswith("raced-") and event.is_end:
                subjects.setdefault(event.command_id, []).append(event.state)
        assert len(subjects) == 60
        assert all(len(states) == 1 for states in subjects.values())


async def test_the_client_cancels_for_whoever_waits(served: Served, redis_url: str) -> None:
    async with AsyncClient(redis_url, namespace=served.console.namespace) as client:
        command_id = await client.submit("list_models", {}, id=f"w-{uuid4()}", notbefore=LATER)
        waiting = asyncio.create_task(client.wait(command_id))
        while await client.status(command_id) is None:
            await asyncio.sleep(0.02)
        assert await client.cancel(command_id) == {"cancelled": True, "state": "cancelled"}
        with pytest.raises(CommandCancelledError):
            (await waiting).result()
        with pytest.raises(CommandFailedError, match="not accepted yet"):
            await client.cancel(f"nobody-{uuid4()}")
