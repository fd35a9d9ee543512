"""What the ledger holds, as a scrape and the overview tell it: each number by its unit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.enums import Priority
from worker.monitoring import ledger_sample
from worker.monitoring.ledger_sample import ROWS, LedgerCollector, LedgerSampler
from worker.queue.ledger.connection import connect
from worker.queue.ledger.lanes import Lanes

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

BULK, INTERACTIVE = ("bulk",), ("interactive",)


async def test_an_empty_ledger_is_told_by_zeros_and_has_every_metric(
    redis: Redis, keys: Keys
) -> None:
    found = await LedgerSampler(redis, keys).sample()
    assert found.pop("redis_up") == {(): 1}
    assert {value for values in found.values() for value in values.values()} == {0}
    assert {f"trainmaster_{name}" for name in found} | {"trainmaster_redis_up"} == {
        row.name for row in ROWS
    }
    for row in ROWS:
        for labels in found.get(row.name.removeprefix("trainmaster_"), {}):
            assert len(labels) == len(row.labels), row.name


async def test_each_number_is_of_what_it_says(redis: Redis, keys: Keys) -> None:
    """All differ, so that none can stand in another's place."""
    seconds, _ = await redis.time()
    now_ms = int(seconds) * 1000
    later = now_ms + 3_600_000
    await redis.zadd(
        keys.due_interactive, {"i1": now_ms - 90_000, "i2": now_ms - 1000, "i3": later}
    )
    await redis.zadd(keys.due_bulk, {"b1": now_ms - 7_000, **{f"b{n}": later for n in range(2, 6)}})
    await redis.zadd(keys.due_suspect, {f"s{n}": later for n in range(4)})
    for stream, length in (
        (keys.commands, 7),
        (keys.bulk_commands, 8),
        (keys.events, 9),
        (keys.dead_letters, 10),
    ):
        for _ in range(length):
            await redis.xadd(stream, {"x": "y"})
    await redis.rpush(keys.inbox, *["{}"] * 6)
    await redis.set(keys.hold, "429", px=120_000)
    await Lanes(redis, keys).pause(Priority.BULK, "all fails", 30)
    found = await LedgerSampler(redis, keys).sample()
    oldest, hold = found.pop("oldest_due_seconds"), found.pop("hold_seconds")
    assert 90 <= oldest[INTERACTIVE] < 120
    assert 7 <= oldest[BULK] < 37
    assert 90 < hold[()] <= 120
    assert found == {
        "redis_up": {(): 1},
        # 21 unread, 2 due, and one of the paused lane.
        "worker_demand": {(): 24},
        "due_now": {INTERACTIVE: 2, BULK: 1},
        "open": {INTERACTIVE: 3, BULK: 5},
        "suspects": {(): 4},
        "unread_messages": {("common",): 7, BULK: 8},
        "inbox_messages": {(): 6},
        "events_kept": {(): 9},
        "dead_letters_kept": {(): 10},
        "lane_paused": {INTERACTIVE: 0, BULK: 1},
    }


async def test_what_is_due_in_the_future_has_waited_for_nothing(redis: Redis, keys: Keys) -> None:
    seconds, _ = await redis.time()
    await redis.zadd(keys.due_bulk, {"one": (int(seconds) + 3600) * 1000})
    found = await LedgerSampler(redis, keys).read()
    assert found["oldest_due_seconds"] == {INTERACTIVE: 0, BULK: 0}


async def test_a_redis_that_is_away_is_told_by_one_value(keys: Keys) -> None:
    away = connect("redis://127.0.0.1:1")
    sampler = LedgerSampler(away, keys)
    assert await sampler.sample() == {"redis_up": {(): 0}}
    with pytest.raises(RedisConnectionError):
        await sampler.read()
    await away.aclose()


async def test_a_scrape_from_another_thread_takes_a_sample_on_the_loop(
    redis: Redis, keys: Keys
) -> None:
    await redis.xadd(keys.events, {"x": "y"})
    collector = LedgerCollector()
    registry = CollectorRegistry()
    registry.register(collector)
    assert b"events_kept" not in await asyncio.to_thread(generate_latest, registry)
    collector.use(LedgerSampler(redis, keys))
    told = (await asyncio.to_thread(generate_latest, registry)).decode().splitlines()
    assert "trainmaster_redis_up 1.0" in told
    assert "trainmaster_events_kept 1.0" in told
    assert 'trainmaster_lane_paused{lane="bulk"} 0.0' in told


class Slow(LedgerSampler):
    """A sampler whose Redis does not answer."""

    ended = False

    async def sample(self) -> ledger_sample.Sample:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True
        return {}


async def test_a_scrape_does_not_wait_for_a_redis_that_does_not_answer(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_sample, "SAMPLE_SECONDS", 0.05)
    collector, slow = LedgerCollector(), Slow(redis, keys)
    collector.use(slow)
    registry = CollectorRegistry()
    registry.register(collector)
    told = (await asyncio.to_thread(generate_latest, registry)).decode().splitlines()
    assert [line for line in told if not line.startswith("#")] == ["trainmaster_redis_up 0.0"]
    await asyncio.sleep(0)
    assert slow.ended, "what nobody waits for any more goes on"


def test_after_its_loop_a_scrape_tells_that_there_is_no_redis(keys: Keys) -> None:
    collector = LedgerCollector()

    async def use() -> None:
        away = connect("redis://127.0.0.1:1")
        collector.use(LedgerSampler(away, keys))
        await away.aclose()

    asyncio.run(use())
    (family,) = list(collector.collect())
    assert [(each.name, each.value) for each in family.samples] == [("trainmaster_redis_up", 0)]
