"""Reactions: commands that follow on our own events, once each, and never for ever."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.integration.webhooks.posting import (
    MODEL,
    RETENTION_SECONDS,
    commands_in,
    integrations_of,
    letters_in,
)
from trainmaster_client.events import Event
from worker.webhooks.deliveries import Deliveries
from worker.webhooks.effects import MAX_DEPTH
from worker.webhooks.reactions import Reactor
from worker.webhooks.records import RuleResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

FOLLOW = """
[sources.follow]
scheme = "events"
[[sources.follow.rules]]
name = "look-again"
on = "get_model.succeeded"
when = "body.data.result.title"
[sources.follow.rules.command]
type = "get_model"
replyto = "'desk'"
data.model_uuid = "body.data.result.model_uuid"
"""


def event(number: int = 1, *, kind: str = "get_model.succeeded", **more: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"17000000000{number:02}-0/succeeded",
        "source": "/trainmaster",
        "type": kind,
        "subject": f"command-{number}",
        "time": "2026-11-27T06:00:00Z",
        "data": {"result": {"model_uuid": MODEL, "title": "resnet"}, "attempts": 1},
        **more,
    }


@pytest.fixture
def reactor(redis: Redis, keys: Keys, tmp_path: Path) -> Reactor:
    return reactor_of(redis, keys, tmp_path)


def reactor_of(redis: Redis, keys: Keys, folder: Path) -> Reactor:
    source = integrations_of(folder, FOLLOW).sources["follow"]
    return Reactor(redis, keys, source, retention_seconds=RETENTION_SECONDS)


async def handle(reactor: Reactor, found: dict[str, Any]) -> None:
    await reactor.handle(Event("1-1", found), orjson.dumps(found))


@asynccontextmanager
async def running(reactor: Reactor) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(reactor.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def until_followed(redis: Redis, keys: Keys) -> None:
    async with asyncio.timeout(60):
        while not await redis.exists(f"{keys.prefix}follower:webhooks.follow"):
            await asyncio.sleep(0.05)


async def test_a_reaction_happens_once_however_often_its_event_is_read(
    redis: Redis, keys: Keys, reactor: Reactor
) -> None:
    found = event(correlationid="order-1", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    for _ in range(3):
        await handle(reactor, found)

    assert await commands_in(redis, keys.commands) == [
        {
            "id": "follow/look-again/1700000000001-0/succeeded",
            "type": "get_model",
            "replyto": "desk",
            "data": {"model_uuid": MODEL},
            "correlationid": "order-1",
            "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
            "causationid": "command-1",
            "reactiondepth": 1,
        }
    ]
    recorded = await Deliveries(redis, keys, retention_seconds=600).get(
        "follow/1700000000001-0/succeeded"
    )
    assert recorded is not None
    assert orjson.loads(recorded.delivery.body) == found


async def test_an_event_that_no_rule_wants_leaves_nothing(
    redis: Redis, keys: Keys, reactor: Reactor
) -> None:
    untitled = event()
    untitled["data"]["result"]["title"] = ""
    await handle(reactor, untitled)
    assert not reactor.wants(Event("1-1", event(kind="train.succeeded")))

    assert [name async for name in redis.scan_iter(match=f"{keys.prefix}*")] == []


async def test_a_loop_ends_with_a_dead_letter(redis: Redis, keys: Keys, reactor: Reactor) -> None:
    """Each reaction's event carries the depth of its command, and makes the next one deeper."""
    found = event()
    for number in range(1, MAX_DEPTH + 5):
        await handle(reactor, found)
        (last,) = (await commands_in(redis, keys.commands))[-1:]
        if last.get("reactiondepth") == found.get("reactiondepth"):
            break
        found = event(number + 1, reactiondepth=last["reactiondepth"])

    made = await commands_in(redis, keys.commands)
    assert [one["reactiondepth"] for one in made] == list(range(1, MAX_DEPTH + 1))
    (letter,) = await letters_in(redis, keys)
    assert "at most 8 may follow" in letter["error"]["message"]
    recorded = await Deliveries(redis, keys, retention_seconds=600).get(f"follow/{found['id']}")
    assert recorded is not None
    assert [one.result for one in recorded.outcomes] == [RuleResult.LOOP]


@pytest.mark.parametrize("odd", [-100, "3", True, None, 2.5])
async def test_a_depth_that_no_reaction_wrote_counts_as_none(
    redis: Redis, keys: Keys, reactor: Reactor, odd: Any
) -> None:
    await handle(reactor, event(reactiondepth=odd))

    assert [one["reactiondepth"] for one in await commands_in(redis, keys.commands)] == [1]


async def test_an_event_of_an_item_is_none_of_the_command_with_the_same_id(
    redis: Redis, keys: Keys, reactor: Reactor
) -> None:
    await handle(reactor, event())
    await handle(reactor, event(source="/trainmaster/backfills/night"))

    assert len({one["id"] for one in await commands_in(redis, keys.commands)}) == 2


async def test_reactions_begin_with_the_events_from_when_the_source_came(
    redis: Redis, keys: Keys, reactor: Reactor
) -> None:
    await redis.xadd(keys.events, {"event": orjson.dumps(event(1))})
    async with running(reactor):
        await until_followed(redis, keys)
        await redis.xadd(keys.events, {"event": orjson.dumps(event(2))})
        async with asyncio.timeout(60):
            while not (made := await commands_in(redis, keys.commands)):
                await asyncio.sleep(0.05)

    assert [one["causationid"] for one in made] == ["command-2"]


async def test_two_processes_react_once(redis: Redis, keys: Keys, tmp_path: Path) -> None:
    """And the second one goes on where the first one has stopped."""
    pair = [reactor_of(redis, keys, tmp_path) for _ in range(2)]
    async with running(pair[0]):
        await until_followed(redis, keys)
        async with running(pair[1]):
            for number in range(20):
                await redis.xadd(keys.events, {"event": orjson.dumps(event(number))})
            async with asyncio.timeout(60):
                while len(await commands_in(redis, keys.commands)) < 20:
                    await asyncio.sleep(0.05)
    await redis.xadd(keys.events, {"event": orjson.dumps(event(50))})
    async with running(pair[1]), asyncio.timeout(60):
        while len(made := await commands_in(redis, keys.commands)) < 21:
            await asyncio.sleep(0.05)

    assert len({one["id"] for one in made}) == 21
