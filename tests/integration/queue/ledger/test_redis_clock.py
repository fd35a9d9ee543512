"""Rules of a server whose clock goes back: nothing stored holds anything longer than its window."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from schemas.enums import Priority, SourceFormat
from tests.conftest import LEASE_SECONDS, REPLY_SECONDS, RETENTION_SECONDS
from tests.console import wait_until
from tests.integration.intake_acts import until
from tests.integration.ledger_acts import (
    TEXT,
    accept_one,
    lease_one,
    new_command,
    now_ms,
    open_group,
    raw_events,
    read_entry,
)
from tests.moved_clock import NEEDED, MovedClock, can_move, make_clock
from tests.security.stubbed import stubbed_worker
from worker.backfill.plan import Plan, SourcePlan
from worker.backfill.status import Origin
from worker.backfill.store import NOBODY, BackfillStore
from worker.embedded import EmbeddedRedis
from worker.queue.intake.consumer import StreamConsumer
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import COMMAND_FIELD, GROUP, CommandStream, Keys
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.ledger import ENDED_HOLDER_SECONDS, CheckpointStatus, Ledger
from worker.queue.ledger.models import SUSPECT_CLAIMS, Phase, RowState, RunResult
from worker.queue.ledger.rate_limits import RedisLimits
from worker.queue.ledger.redis_clock import PAGE, RedisClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from redis.asyncio import Redis

HOUR = 3600
SOON_SECONDS = 60
# Also twice the time between two looks for entries of others.
IDLE_SECONDS = 5

pytestmark = pytest.mark.skipif(not can_move(), reason=NEEDED)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> MovedClock:
    return make_clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def server(clock: MovedClock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), server=clock.server) as running:
        yield running


@pytest.fixture
async def redis(server: EmbeddedRedis, clock: MovedClock) -> AsyncIterator[Redis]:
    clock.move(0)
    client = connect(server.url)
    yield client
    clock.move(0)
    await client.aclose()


@pytest.fixture
def ledger(redis: Redis, keys: Keys) -> Ledger:
    return Ledger(
        redis,
        keys,
        lease_seconds=LEASE_SECONDS,
        retention_seconds=RETENTION_SECONDS,
        reply_retention_seconds=REPLY_SECONDS,
    )


def of(ledger: Ledger) -> RedisClock:
    return RedisClock(ledger.redis, ledger.keys, lease_seconds=LEASE_SECONDS)


async def go_back(clock: MovedClock, ledger: Ledger) -> int:
    """Sets the clock an hour back and does what each worker's sweep does; returns rows moved."""
    clock.move(-HOUR)
    _, back_ms = await of(ledger).mind()
    assert abs(back_ms - HOUR * 1000) < 10_000
    moved = await of(ledger).move_back(back_ms)
    assert (await of(ledger).mind(back_ms))[1] == 0
    return moved


async def rest_ms(redis: Redis, due: str, member: str) -> float:
    """Returns in how many ms a row is due, or a permit is lost."""
    score = await redis.zscore(due, member)
    assert score is not None
    return float(score) - await now_ms(redis)


async def test_the_clock_is_found_to_have_gone_back_once_and_no_matter_how_little_time_passed(
    redis: Redis, ledger: Ledger, clock: MovedClock
) -> None:
    now, back = await of(ledger).mind()
    assert back == 0
    assert abs(now - await now_ms(redis)) < 5_000
    clock.move(-1)
    assert (await of(ledger).mind())[1] == 0, "NTP sets a clock back by as much"
    clock.move(-HOUR)
    back = (await of(ledger).mind())[1]
    assert abs(back - HOUR * 1000) < 10_000
    assert (await of(ledger).mind())[1] == back, "who found it may have died over it"
    assert (await of(ledger).mind(back))[1] == 0


async def test_a_clock_that_goes_back_once_more_meanwhile_is_not_taken_for_mended(
    ledger: Ledger, clock: MovedClock
) -> None:
    """Who moved the due times did so by the first step alone; another worker moves the rest."""
    await of(ledger).mind()
    clock.move(-HOUR)
    first = (await of(ledger).mind())[1]
    clock.move(-2 * HOUR)
    both = (await of(ledger).mind())[1]
    assert abs(both - 2 * HOUR * 1000) < 60_000
    assert (await of(ledger).mind(first))[1] == both
    assert (await of(ledger).mind(both))[1] == 0


async def test_what_was_due_is_due_though_the_clock_went_back(
    redis: Redis, ledger: Ledger, keys: Keys, clock: MovedClock
) -> None:
    await open_group(redis, keys)
    await of(ledger).mind()
    entry = await read_entry(redis, keys)
    # More than one page of the script, with many of the same moment.
    for start in range(0, 1200, 200):
        await ledger.accept([new_command(entry, f"c-{start + more}") for more in range(200)])
    assert await go_back(clock, ledger) == 1200
    assert await ledger.count_due() == (1200, 0, 0)


async def test_many_that_wait_for_one_moment_keep_nothing_behind_them_from_being_moved(
    redis: Redis, ledger: Ledger, keys: Keys, clock: MovedClock
) -> None:
    """More of them than one page of the script has stay where they are."""
    await open_group(redis, keys)
    await of(ledger).mind()
    await accept_one(redis, ledger, "retry")
    (lease,) = (await ledger.claim(1)).leases
    await ledger.finish([RunResult(lease, RowState.RETRYING, 1, delay_seconds=1200)])
    later = await now_ms(redis) + 600_000
    entry = await read_entry(redis, keys)
    for start in range(0, 3 * PAGE, PAGE):
        batch = [
            new_command(entry, f"c-{start + more}", not_before_ms=later) for more in range(PAGE)
        ]
        await ledger.accept(batch)
    async with asyncio.timeout(60):
        assert await go_back(clock, ledger) == 1
    assert 1_100_000 < await rest_ms(redis, keys.due_interactive, "retry") < 1_201_000
    assert await redis.zcount(keys.due_interactive, later, later) == 3 * PAGE


async def test_a_suspect_waits_no_longer_than_a_lease_though_the_clock_went_back(
    redis: Redis, ledger: Ledger, keys: Keys, clock: MovedClock
) -> None:
    await open_group(redis, keys)
    await of(ledger).mind()
    await accept_one(redis, ledger, "one")
    for _ in range(SUSPECT_CLAIMS):
        assert len((await ledger.claim(1)).leases) == 1
        await redis.zadd(keys.due_interactive, {"one": 0}, xx=True)
    assert (await ledger.claim(1)).leases == []
    assert await redis.zcard(keys.due_suspect) == 1
    await go_back(clock, ledger)
    assert await rest_ms(redis, keys.due_suspect, "one") <= LEASE_SECONDS * 1000


async def test_a_retry_is_due_when_it_was_to_be_and_a_notbefore_stays(
    redis: Redis, ledger: Ledger, keys: Keys, clock: MovedClock
) -> None:
    await open_group(redis, keys)
    await of(ledger).mind()
    await accept_one(redis, ledger, "retry")
    (lease,) = (await ledger.claim(1)).leases
    await ledger.finish([RunResult(lease, RowState.RETRYING, 1, delay_seconds=60)])
    later = await now_ms(redis) + 600_000
    await accept_one(redis, ledger, "later", not_before_ms=later)
    await go_back(clock, ledger)
    assert 40_000 < await rest_ms(redis, keys.due_interactive, "retry") < 61_000
    assert await redis.zscore(keys.due_interactive, "later") == later


async def test_a_row_whose_times_are_none_keeps_no_other_from_being_moved(
    redis: Redis, ledger: Ledger, keys: Keys, clock: MovedClock
) -> None:
    await open_group(redis, keys)
    await of(ledger).mind()
    for name in ("bad", "good"):
        await accept_one(redis, ledger, name)
    await redis.hset(keys.command("bad"), "m", "many")
    await go_back(clock, ledger)
    assert await rest_ms(redis, keys.due_interactive, "good") <= 0


async def test_a_lease_ends_after_its_length_at_most(
    redis: Redis, ledger: Ledger, keys: Keys, clock: MovedClock
) -> None:
    await open_group(redis, keys)
    await of(ledger).mind()
    await accept_one(redis, ledger, "dead", lane=Priority.BULK)
    await ledger.claim(1, bulk_most=1)
    clock.move(-HOUR)
    await accept_one(redis, ledger, "alive")
    await ledger.claim(1)
    await go_back(clock, ledger)
    dead = await rest_ms(redis, keys.due_bulk, "dead")
    assert LEASE_SECONDS * 900 < dead <= LEASE_SECONDS * 1000
    alive = await rest_ms(redis, keys.due_interactive, "alive")
    assert LEASE_SECONDS * 900 < alive <= LEASE_SECONDS * 1000, "a live lease is not cut"


async def test_what_stays_on_one_page_passes_nothing_over_on_the_next(
    redis: Redis, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for its own `notbefore`; behind them stands one that is an hour late."""
    monkeypatch.setattr("worker.queue.ledger.redis_clock.PAGE", 2)
    lease = await lease_one(redis, ledger, "late")
    late = RunResult(lease, RowState.RETRYING, 1, delay_seconds=3 * HOUR)
    assert await ledger.finish([late]) == [True]
    now = await now_ms(redis)
    for hours in (1, 2):
        await accept_one(redis, ledger, f"c-{hours}", not_before_ms=now + hours * HOUR * 1000)
    assert await of(ledger).move_back(HOUR * 1000) == 1


async def test_turns_go_on_though_the_next_one_was_stored_an_hour_ahead(
    redis: Redis, ledger: Ledger, keys: Keys, clock: MovedClock
) -> None:
    limits = RedisLimits(redis, keys, ledger, requests_per_second=20, concurrent_requests=2)
    await limits.leave(await limits.enter())
    clock.move(-HOUR)
    async with asyncio.timeout(SOON_SECONDS):
        for _ in range(5):
            await limits.leave(await limits.enter())


async def test_permits_of_the_dead_are_held_no_longer_than_any_other(
    redis: Redis, ledger: Ledger, keys: Keys, clock: MovedClock
) -> None:
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=1)
    permit = await limits.enter()
    clock.move(-HOUR)
    waiting = asyncio.create_task(limits.enter())
    try:
        async with asyncio.timeout(SOON_SECONDS):
            while await rest_ms(redis, keys.inflight, permit) > 300_000:
                await asyncio.sleep(0.02)
        await limits.leave(permit)
        assert await asyncio.wait_for(waiting, SOON_SECONDS)
    finally:
        waiting.cancel()


async def test_a_hold_and_a_paused_lane_last_no_longer_than_they_were_to(
    redis: Redis, ledger: Ledger, keys: Keys, clock: MovedClock
) -> None:
    await open_group(redis, keys)
    await of(ledger).mind()
    await accept_one(redis, ledger)
    await ledger.hold(5)
    await Lanes(redis, keys).pause(Priority.INTERACTIVE, "nearly everything fails", 1)
    await go_back(clock, ledger)
    assert await redis.pttl(keys.hold) > HOUR * 900, "so Redis counts"
    assert (await ledger.claim(1)).held_seconds <= 5
    assert 0 < await redis.pttl(keys.hold) <= 5_000
    await redis.delete(keys.hold)
    assert (await ledger.claim(1)).leases == []
    async with asyncio.timeout(SOON_SECONDS):
        while not (await ledger.claim(1)).leases:
            await asyncio.sleep(0.05)


async def test_a_lock_of_a_command_that_ended_lapses_after_its_time(
    redis: Redis, ledger: Ledger, keys: Keys, clock: MovedClock
) -> None:
    await open_group(redis, keys)
    for command_id in ("first", "second"):
        await accept_one(redis, ledger, command_id)
    first, second = (await ledger.claim(2)).leases
    lock = keys.lock("creating")
    await ledger.checkpoint(first, {}, phase=Phase.INTENDED, take_lock=lock, lock_lapses=True)
    await ledger.finish([RunResult(first, RowState.FAILED, 1)])
    clock.move(-HOUR)

    async def recorded() -> CheckpointStatus:
        return (
            await ledger.checkpoint(
                second, {}, phase=Phase.INTENDED, take_lock=lock, lock_lapses=True
            )
        )[0]

    assert await recorded() is CheckpointStatus.LOCKED
    clock.move(-HOUR + ENDED_HOLDER_SECONDS + 1)
    assert await recorded() is CheckpointStatus.DONE


async def begun_backfill(redis: Redis, keys: Keys) -> BackfillStore:
    """Begins a backfill with the id night."""
    store = BackfillStore(redis, keys, retention_seconds=60, reply_retention_seconds=60)
    source = SourcePlan(location="/items.jsonl", format=SourceFormat.JSONL)
    plan = Plan(common={}, source=source, output="/results")
    await store.open("night", plan, Origin.CONSOLE, "1-1")
    return store


async def test_the_progress_of_a_backfill_is_told_though_the_clock_went_back(
    redis: Redis, keys: Keys, clock: MovedClock
) -> None:
    """The pause since the last time it was told is seconds, not the hour that comes once more."""
    store = await begun_backfill(redis, keys)
    token, _ = await store.lead("night", NOBODY, lease_ms=HOUR * 1000, progress=(b"1", "one"))
    clock.move(-HOUR)
    await store.lead("night", token, lease_ms=HOUR * 1000, progress=(b"2", "two"))
    assert await raw_events(redis, keys.events) == [b"1", b"2"]


@pytest.mark.parametrize("lease_ms", [2_000, 0], ids=["a dead leader", "a leader that gave up"])
async def test_the_lead_of_a_backfill_is_free_after_its_lease(
    redis: Redis, keys: Keys, clock: MovedClock, lease_ms: int
) -> None:
    store = await begun_backfill(redis, keys)
    token, _ = await store.lead("night", NOBODY, lease_ms=2_000)
    if not lease_ms:
        await store.lead("night", token, lease_ms=0)
    clock.move(-HOUR)
    async with asyncio.timeout(SOON_SECONDS):
        while not (await store.lead("night", NOBODY, lease_ms=2_000))[0]:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("stream", CommandStream)
async def test_entries_of_a_consumer_that_died_are_taken_over_after_the_clock_went_back(
    redis: Redis, ledger: Ledger, keys: Keys, clock: MovedClock, stream: CommandStream
) -> None:
    key = keys.stream(stream)
    await redis.xgroup_create(key, GROUP, id="0", mkstream=True)
    await redis.xadd(key, {COMMAND_FIELD: TEXT})
    await redis.xreadgroup(GROUP, "dead", {key: ">"})
    clock.move(-HOUR)
    intake = StreamConsumer(
        redis,
        ledger,
        consumer="heir",
        batch=9,
        consumer_idle_seconds=1,
        on_accepted=lambda _: None,
    )
    intake.take_all_over()
    # The other stream has no group yet, so that the first pass breaks off.
    taking = asyncio.create_task(intake.take_over())

    async def none_is_pending() -> bool:
        return int((await redis.xpending(key, GROUP))["pending"]) == 0

    await until(none_is_pending)
    taking.cancel()
    await asyncio.wait({taking})


def test_a_worker_takes_over_what_a_dead_one_had_read_though_the_clock_went_back(
    server: EmbeddedRedis, clock: MovedClock, tmp_path: Path
) -> None:
    """By Redis' clock nothing of it is idle for an hour."""
    clock.move(0)
    idle = str(IDLE_SECONDS)
    with stubbed_worker(
        server.url, "heirs", tmp_path, TRAINMASTER_CONSUMER_IDLE_SECONDS=idle
    ) as stubbed:
        stream = stubbed.keys.commands
        with stubbed.client.pipeline(transaction=True) as pipe:
            pipe.xadd(stream, {COMMAND_FIELD: TEXT})
            pipe.xreadgroup(GROUP, "dead", {stream: ">"})
            pipe.execute()
        clock.move(-HOUR)
        try:
            wait_until(lambda: bool(stubbed.events()), "it is accepted")
        finally:
            clock.move(0)
