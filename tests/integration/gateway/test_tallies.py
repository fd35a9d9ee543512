"""What a gateway counts: handed over now and then, and nothing lost for a Redis that is away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.gateway import tallies as module
from worker.gateway.keys import tallies_key
from worker.gateway.tallies import Tallies
from worker.queue.ledger.connection import connect

if TYPE_CHECKING:
    import pytest
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys


async def test_processes_count_together_and_what_is_handed_over_is_not_again(
    redis: Redis, keys: Keys
) -> None:
    one, other = Tallies(redis, keys), Tallies(redis, keys)
    await one.flush()
    assert not await redis.exists(tallies_key(keys)), "nothing was counted"
    for _ in range(3):
        one.add("requests", "GET", "/a b\u00e9", "200")
    one.add("requests", "GET", "/c", "200")
    other.add("requests", "GET", "/c", "200")
    for _ in range(2):
        await one.flush()
        await other.flush()
    assert await one.read() == {
        ("requests", "GET", "/a b\u00e9", "200"): 3,
        ("requests", "GET", "/c", "200"): 2,
    }


async def test_what_redis_did_not_take_is_handed_over_later_with_what_came_since(
    redis: Redis, keys: Keys
) -> None:
    away = connect("redis://127.0.0.1:1")
    tallies = Tallies(away, keys)
    tallies.add("requests", "a")
    for asked in (away, redis):
        tallies._redis = asked
        handing_over = asyncio.create_task(tallies.flush())
        await asyncio.sleep(0)
        # Redis has been asked, and has not answered yet.
        tallies.add("requests", "a")
        tallies.add("requests", "b")
        await handing_over
    await tallies.flush()
    assert await tallies.read() == {("requests", "a"): 3, ("requests", "b"): 2}
    await away.aclose()


async def test_it_hands_over_now_and_then_and_once_more_at_the_end(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.01)
    tallies, stop = Tallies(redis, keys), asyncio.Event()
    running = asyncio.create_task(tallies.run(stop))
    tallies.add("requests", "a")
    async with asyncio.timeout(30):
        while not await tallies.read():
            await asyncio.sleep(0.01)
    monkeypatch.setattr(module, "FLUSH_SECONDS", 60)
    await asyncio.sleep(0.05)
    tallies.add("requests", "a")
    stop.set()
    await running
    assert await tallies.read() == {("requests", "a"): 2}


async def test_what_others_put_there_is_passed_over(redis: Redis, keys: Keys) -> None:
    await redis.hset(tallies_key(keys), mapping={"requests\na": "7", "odd": "many", "neg": "-1"})
    assert await Tallies(redis, keys).read() == {("requests", "a"): 7}
