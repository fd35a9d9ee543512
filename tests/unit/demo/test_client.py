"""Commands of the demo and their ends, on a real Redis whose events the test writes itself."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from demo.client import DemoClient
from demo.errors import CommandFailedError
from demo.plan import DETECTION, FULL
from demo.scenario import Scenario
from trainmaster_client import AsyncClient
from worker.queue.ledger.keys import COMMAND_FIELD
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys


class Told:
    """An demo_client that follows the events, and what it wrote down of them."""

    def __init__(self, redis: Redis, keys: Keys, client: AsyncClient) -> None:
        self._redis = redis
        self._keys = keys
        self.journal = BytesIO()
        self.seen: list[str] = []
        self.demo_client = DemoClient(
            client, self.journal, lambda event: self.seen.append(event["type"])
        )

    async def tell(self, event_type: str, subject: str, **data: Any) -> None:
        event = orjson.dumps({
            "id": f"{subject}/{event_type}",
            "type": event_type,
            "subject": subject,
            "time": "2026-01-31T12:00:00.000Z",
            "data": data,
        })
        await self._redis.xadd(self._keys.events, {"event": event})

    async def commands(self) -> list[dict[str, Any]]:
        """Waits for commands on the stream, and returns them."""
        while not (entries := await entries_between(self._redis, self._keys.commands, "-", "+")):
            await asyncio.sleep(0.01)
        return [orjson.loads(fields[COMMAND_FIELD]) for _, fields in entries]


@pytest.fixture
async def told(redis: Redis, redis_url: str, keys: Keys, namespace: str) -> AsyncIterator[Told]:
    async with AsyncClient(redis_url, namespace=namespace) as client:
        one = Told(redis, keys, client)
        following = asyncio.create_task(one.demo_client.follow())
        yield one
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_command_goes_to_the_stream_and_its_result_comes_from_its_own_event(
    told: Told,
) -> None:
    end = asyncio.create_task(told.demo_client.carry_out("get_model", "mine", {"model_uuid": "m"}))
    assert await told.commands() == [
        {"type": "get_model", "id": "mine", "data": {"model_uuid": "m"}}
    ]
    await told.tell("get_model.succeeded", "another", result="wrong")
    await told.tell("get_model.accepted", "mine")
    await told.tell("get_model.retrying", "mine", error={"code": "server_error"})
    await told.tell("get_model.succeeded", "mine", result={"title": "right"})
    assert await asyncio.wait_for(end, 10) == {"title": "right"}
    assert [
        orjson.loads(line)["type"] for line in told.journal.getvalue().splitlines()
    ] == told.seen
    assert told.seen == [
        "get_model.succeeded",
        "get_model.accepted",
        "get_model.retrying",
        "get_model.succeeded",
    ]


async def test_an_end_that_is_told_twice_keeps_nobody_from_reading_on(told: Told) -> None:
    """A Redis that was restored may have the same event once more."""
    first = asyncio.create_task(told.demo_client.carry_out("get_model", "mine", {}))
    await told.commands()
    for _ in range(2):
        await told.tell("get_model.succeeded", "mine", result="right")
    assert await asyncio.wait_for(first, 60) == "right"
    second = asyncio.create_task(told.demo_client.carry_out("get_model", "another", {}))
    while "another" not in {command["id"] for command in await told.commands()}:
        await asyncio.sleep(0.01)
    await told.tell("get_model.succeeded", "another", result="too")
    assert await asyncio.wait_for(second, 60) == "too"


@pytest.mark.parametrize("state", ["failed", "cancelled", "rejected"])
async def test_any_other_end_is_an_error_that_names_the_command(told: Told, state: str) -> None:
    end = asyncio.create_task(told.demo_client.carry_out("train", "mine", {}))
    await told.commands()
    await told.tell(f"train.{state}", "mine", error={"code": "poison", "message": "it kills"})
    with pytest.raises(CommandFailedError, match=f"mine: train.{state}, poison: it kills"):
        await asyncio.wait_for(end, 10)


async def test_who_waits_for_a_training_to_exist_is_told_before_its_end(told: Told) -> None:
    started = asyncio.Event()
    end = asyncio.create_task(told.demo_client.carry_out("train", "mine", {}, started))
    await told.commands()
    await told.tell("train.started", "another", training_uuid="t")
    await told.tell("train.accepted", "mine")
    while len(told.seen) < 2:
        await asyncio.sleep(0.01)
    assert not started.is_set()
    await told.tell("train.started", "mine", training_uuid="t")
    await asyncio.wait_for(started.wait(), 10)
    assert not end.done()
    end.cancel()


async def test_each_training_of_a_model_shows_epochs_of_its_own(told: Told) -> None:
    losses = {"t-1": {"1": 0.5, "2": 0.4}, "t-2": {"1": 0.3}}
    told.demo_client.trainings.update({"detection-train-1": "t-1", "detection-train-2": "t-2"})
    said: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()
    scenario = Scenario(
        DETECTION,
        FULL,
        (),
        told.demo_client,
        lambda who, step, done: said.put_nowait((who, step, done)),
        asyncio.Event(),
        asyncio.Event(),
        losses.__getitem__,
    )
    for part, shown in enumerate(("epoch 2 of 4", "epoch 1 of 4")):
        showing = asyncio.create_task(scenario._show_epochs("training", part, 4))
        async with asyncio.timeout(60):
            assert await said.get() == ("detection", "training", shown)
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
        while not said.empty():
            said.get_nowait()


async def test_a_model_that_can_t_be_made_lets_the_next_one_train(told: Told) -> None:
    """The others are no worse for it, and the demo ends with what became of them."""
    said: list[tuple[str, str, str]] = []
    under_way = asyncio.Event()
    scenario = Scenario(
        DETECTION,
        FULL,
        (),
        told.demo_client,
        lambda *what: said.append(what),
        asyncio.Event(),
        under_way,
        lambda _: {},
    )
    running = asyncio.create_task(scenario.run())
    (command,) = await told.commands()
    error = {"code": "invalid_arguments", "message": "no such model"}
    await told.tell("create_model.failed", command["id"], error=error)
    async with asyncio.timeout(60):
        await running
        await under_way.wait()
    assert scenario.failure is not None
    assert said[-1] == ("detection", "failed", "")
