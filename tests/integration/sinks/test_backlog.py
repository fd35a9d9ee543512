"""What waits of a sink: each event once and at its place, however it comes to wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.integration.integrations.published import wait_until
from tests.integration.sinks.endpoints import Endpoint, sink_config, webhook
from tests.integration.sinks.serving import serving
from trainmaster_client import Event
from worker.integrations.follower_store import NOBODY, FollowerStore
from worker.sinks import operations
from worker.sinks.backlog import Backlog
from worker.sinks.deferred import CommandQueue, DeferredEvent, SinkStore
from worker.sinks.keys import follower_name

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

COMMANDS = 20
EVENTS = 30


@pytest.fixture
async def token(redis: Redis, keys: Keys) -> int:
    """That of a leader who is gone at once."""
    follower = FollowerStore(redis, keys, follower_name("ops"))
    return (await follower.lead(NOBODY, lease_ms=1, holder="me")).token


@pytest.fixture
def store(redis: Redis, keys: Keys) -> SinkStore:
    return SinkStore(redis, keys, "ops")


def waiting(number: int, subject: str = "a", size: int = 0) -> DeferredEvent:
    attributes = {
        "id": f"{subject}/{number}",
        "type": "train.retrying",
        "subject": subject,
        "time": "2026-01-31T12:00:00Z",
        "data": {"number": number, "text": "x" * size},
    }
    text = (
        b'{"id":"%b/%d","type":"train.retrying","subject":"%b","time":"2026-01-31T12:00:00Z",'
        b'"data":{"number":%d,"text":"%b"}}'
    ) % (subject.encode(), number, subject.encode(), number, b"x" * size)
    return DeferredEvent(f"{number}-0", Event(f"{number}-0", attributes), text)


def numbers(queue: CommandQueue) -> list[str]:
    return [each.entry_id for each in queue.entries]


async def test_what_is_recovered_waits_before_what_came_after_it(
    store: SinkStore, token: int
) -> None:
    backlog = Backlog()
    assert await store.defer(token, waiting(5), CommandQueue(tries=4, since_ms=9))
    await backlog.load(store)
    assert await store.defer(token, waiting(3), None)
    await backlog.load(store)
    _, queue = backlog.oldest()
    assert numbers(queue) == ["3-0", "5-0"]
    # Those tries were of another event: this one may have all of its own.
    assert (queue.tries, queue.since_ms) == (0, 0)
    assert len(backlog) == 2


async def test_the_event_that_is_sent_at_this_moment_stays_first(
    store: SinkStore, token: int
) -> None:
    backlog = Backlog()
    assert await store.defer(token, waiting(5), CommandQueue(tries=1, since_ms=9))
    assert await store.defer(token, waiting(7), None)
    await backlog.load(store)
    _, queue = backlog.oldest()
    queue.running = True
    assert await store.defer(token, waiting(3), None)
    await backlog.load(store)
    assert numbers(queue) == ["5-0", "3-0", "7-0"]
    assert queue.tries == 1
    backlog.settle(queue)
    assert numbers(queue) == ["3-0", "7-0"]


async def test_what_is_delivered_while_all_that_waits_is_read_does_not_come_back(
    store: SinkStore, token: int
) -> None:
    backlog = Backlog()
    for number in range(1, 601):
        assert await store.defer(token, waiting(number), None)
    await backlog.load(store)
    _, queue = backlog.oldest()
    queue.running = True
    loading = asyncio.create_task(backlog.load(store))
    while not loading.done():
        first = queue.entries[0]
        assert await store.settle(token, first)
        backlog.settle(queue)
    await loading
    left = [int(each.partition("-")[0]) for each in numbers(queue)]
    assert left == list(range(601 - len(left), 601))
    assert 0 < len(left) == len(backlog) < 600


async def test_events_that_wait_in_redis_are_known_without_their_texts(
    store: SinkStore, token: int
) -> None:
    backlog = Backlog()
    for number in range(1, 101):
        assert await store.defer(token, waiting(number, size=50_000), None)
    await backlog.load(store)
    _, queue = backlog.oldest()
    assert len(queue.entries) == 100
    assert sum(len(each.text) + len(str(each.event.attributes)) for each in queue.entries) < 50_000
    whole = await store.read(queue.entries[0])
    assert whole == waiting(1, size=50_000)
    assert await store.settle(token, queue.entries[0])
    assert not (await store.read(queue.entries[0])).text


async def test_many_that_are_recovered_are_sent_once_each_and_in_order(
    redis: Redis, keys: Keys, store: SinkStore, token: int, tmp_path: Path
) -> None:
    endpoint = Endpoint()
    for number in range(1, COMMANDS * EVENTS + 1):
        each = waiting(number, f"c{number % COMMANDS}")
        assert await store.defer(token, each, None)
        assert await store.settle(token, each, "refused")
    async with endpoint.serving():
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
        async with serving(redis, keys, config):
            assert await operations.recover(redis, keys, "ops", 0) == COMMANDS * EVENTS
            await wait_until(lambda: len(endpoint.events()) >= COMMANDS * EVENTS)
            while await store.counts() != (0, 0):
                await asyncio.sleep(0.01)
    assert len(endpoint.events()) == COMMANDS * EVENTS
    for number in range(COMMANDS):
        found = endpoint.numbers(f"c{number}")
        assert found == sorted(found)
        assert len(found) == EVENTS


async def test_an_event_whose_text_was_deleted_holds_up_nobody(
    redis: Redis, keys: Keys, store: SinkStore, token: int, tmp_path: Path
) -> None:
    endpoint = Endpoint(always=500)
    for number in (1, 2):
        assert await store.defer(token, waiting(number), None)
    async with endpoint.serving():
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
        async with serving(redis, keys, config):
            await wait_until(lambda: endpoint.asked > 0)
            await redis.hdel(f"{keys.prefix}sink-waiting:ops", "1-0")
            endpoint.always = 200
            await wait_until(lambda: endpoint.numbers("a") == [2])
