"""What a sink keeps in Redis is written by whoever leads it, and by nobody who was replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from trainmaster_client import Event
from worker.integrations.follower_store import NOBODY, FollowerStore
from worker.integrations.keys import follower_key
from worker.sinks.deferred import CommandQueue, DeferredEvent, SinkStore
from worker.sinks.keys import follower_name, retries_key, unsent_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys


@pytest.fixture
async def token(redis: Redis, keys: Keys) -> int:
    follower = FollowerStore(redis, keys, follower_name("ops"))
    return (await follower.lead(NOBODY, lease_ms=60_000, holder="me")).token


def waiting(number: int = 1) -> DeferredEvent:
    attributes = {
        "id": f"e{number}",
        "type": "train.failed",
        "subject": "a",
        "time": "",
        "data": {},
    }
    text = b'{"id":"e%d","type":"train.failed","subject":"a","time":"","data":{}}' % number
    return DeferredEvent(f"{number}-0", Event(f"{number}-0", attributes), text)


async def test_a_leader_that_was_replaced_neither_puts_off_nor_settles(
    redis: Redis, keys: Keys, token: int
) -> None:
    store = SinkStore(redis, keys, "ops")
    assert await store.defer(token, waiting(1), CommandQueue(tries=1, since_ms=5))
    await redis.hincrby(follower_key(keys, follower_name("ops")), "token", 1)
    assert not await store.defer(token, waiting(2), CommandQueue(tries=1))
    assert not await store.settle(token, waiting(1))
    queues = await store.load()
    assert [each.entry_id for each in queues["a"].entries] == ["1-0"]
    assert (queues["a"].tries, queues["a"].since_ms) == (1, 5)


async def test_what_waits_is_loaded_in_the_order_of_the_stream(
    redis: Redis, keys: Keys, token: int
) -> None:
    store = SinkStore(redis, keys, "ops")
    for number in (10, 9, 100, 2):
        assert await store.defer(token, waiting(number), None)
    queues = await store.load()
    assert [each.entry_id for each in queues["a"].entries] == ["2-0", "9-0", "10-0", "100-0"]


async def test_what_could_not_be_sent_is_recovered_by_its_own_time(
    redis: Redis, keys: Keys, token: int
) -> None:
    store = SinkStore(redis, keys, "ops")
    for number in (1, 50, 100):
        assert await store.defer(token, waiting(number), None)
        assert await store.settle(token, waiting(number), "refused")
    # A repetition, whose first reply was lost, leaves no second one.
    assert await store.settle(token, waiting(100), "refused")
    assert await store.counts() == (0, 3)
    assert await store.recover(50) == 2
    assert await store.counts() == (2, 1)
    assert (await store.state()).generation == 1


async def test_what_could_not_be_sent_is_listed_newest_first_without_its_text(
    redis: Redis, keys: Keys, token: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.sinks.deferred._PAGE", 2)
    store = SinkStore(redis, keys, "ops")
    for number in range(1, 6):
        assert await store.defer(token, waiting(number), None)
        assert await store.settle(token, waiting(number), f"refused {number}")
    await redis.xadd(unsent_key(keys, "ops"), {"event": "not ours", "entry": "9-0"})
    found = [each async for each in store.unsent()]
    assert [(each.event.id, each.error) for each in found] == [
        (f"e{number}", f"refused {number}") for number in (5, 4, 3, 2, 1)
    ]
    assert found[0].event.attributes["data"] == {}
    assert [each.event.id async for each in store.unsent(found[2].id)] == ["e2", "e1"]


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"tries": "x", "since_ms": 1}'])
async def test_tries_that_others_wrote_count_as_none(
    redis: Redis, keys: Keys, token: int, text: str
) -> None:
    store = SinkStore(redis, keys, "ops")
    assert await store.defer(token, waiting(1), CommandQueue(tries=3, since_ms=5))
    await redis.hset(retries_key(keys, "ops"), "a", text)
    (queue,) = (await store.load()).values()
    assert (queue.tries, queue.since_ms, len(queue.entries)) == (0, 0, 1)


async def test_what_waits_again_while_it_is_read_is_read_whole(
    redis: Redis, keys: Keys, token: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of events that are recovered in two steps the later ones would else overtake the others."""
    store = SinkStore(redis, keys, "ops")
    for number in range(1, 7):
        assert await store.defer(token, waiting(number), None)
        if number != 1:
            assert await store.settle(token, waiting(number), "refused")
    scan = redis.hscan_iter
    begun = 0

    async def scan_late(*args: Any, **options: Any) -> AsyncIterator[tuple[bytes, bytes]]:
        nonlocal begun
        begun += 1
        async for each in scan(*args, **options):
            yield each
        if begun == 1:
            assert await SinkStore(redis, keys, "ops").recover(0) == 5

    monkeypatch.setattr(redis, "hscan_iter", scan_late)
    queues = await store.load()
    assert [each.entry_id for each in queues["a"].entries] == [f"{each}-0" for each in range(1, 7)]
    assert begun == 2
