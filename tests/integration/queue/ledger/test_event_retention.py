"""How long events stay in their stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.ledger_acts import accept_one, open_group
from worker.queue.ledger.event_retention import EventRetention, trim_events

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger


async def test_old_events_are_trimmed_and_new_ones_stay(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    pipe = redis.pipeline(transaction=False)
    for number in range(1000):
        pipe.xadd(keys.events, {"event": b"{}"}, id=f"{1000 + number}-0")
    await pipe.execute()
    await open_group(redis, keys)
    await accept_one(redis, ledger)
    await trim_events(redis, keys, EventRetention(3600, 3600, 3600))
    assert 1 <= await redis.xlen(keys.events) < 200


async def test_events_stay_for_a_follower_that_lives_and_not_for_one_that_is_gone(
    redis: Redis, keys: Keys
) -> None:
    (now_seconds, _) = await redis.time()
    now_ms = now_seconds * 1000
    pipe = redis.pipeline(transaction=False)
    for number in range(1000):
        pipe.xadd(keys.events, {"event": b"{}"}, id=f"{now_ms - 7_000_000 + number}-0")
    await pipe.execute()
    await redis.hset(keys.followers, "slow", f"{now_ms - 7_000_000} {now_ms - 60_000}")
    await redis.hset(keys.followers, "odd", "no number")
    await trim_events(redis, keys, EventRetention(3600, 100 * 3600, 3600))
    assert await redis.xlen(keys.events) == 1000
    await redis.hset(keys.followers, "slow", f"{now_ms - 7_000_000} {now_ms - 4_000_000}")
    await trim_events(redis, keys, EventRetention(3600, 100 * 3600, 3600))
    assert await redis.xlen(keys.events) < 200


async def test_no_event_stays_longer_than_the_most_whoever_follows(
    redis: Redis, keys: Keys
) -> None:
    (now_seconds, _) = await redis.time()
    now_ms = now_seconds * 1000
    pipe = redis.pipeline(transaction=False)
    for number in range(1000):
        pipe.xadd(keys.events, {"event": b"{}"}, id=f"{now_ms - 9_000_000 + number}-0")
    await pipe.execute()
    await redis.hset(keys.followers, "slow", f"{now_ms - 9_000_000} {now_ms}")
    await trim_events(redis, keys, EventRetention(3600, 7200, 3600))
    assert await redis.xlen(keys.events) < 200
