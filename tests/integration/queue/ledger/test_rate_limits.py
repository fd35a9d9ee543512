"""Rules of the fleet's limits: turns at the rate, permits for what is under way."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.testing import capture_logs

from schemas.enums import Priority
from tests.integration.ledger_acts import every_server
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.outage import Outage
from worker.queue.ledger.rate_limits import PERMIT_PAUSE_SECONDS, RedisLimits
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

pytestmark = every_server


async def test_turns_of_several_workers_are_spaced_by_the_rate(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Measured at the moment a request may go out: never more than the rate in any second."""
    fleet = [
        RedisLimits(redis, keys, ledger, requests_per_second=100, concurrent_requests=0)
        for _ in range(3)
    ]
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def work(limits: RedisLimits) -> None:
        for _ in range(50):
            await limits.enter()
            times.append(loop.time())

    await asyncio.gather(*(work(limits) for limits in fleet))
    times.sort()
    fullest = max(
        sum(begin <= at < begin + 1 for at in times[index:]) for index, begin in enumerate(times)
    )
    assert fullest <= 100


async def test_a_worker_gets_turns_though_another_asks_a_moment_before_it_each_time(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ask once a turn; at a turn in ten seconds it would have none for a day."""
    monkeypatch.setattr("worker.queue.ledger.rate_limits.LONGEST_AHEAD_SECONDS", 0.0)
    fleet = [
        RedisLimits(redis, keys, ledger, requests_per_second=4, concurrent_requests=0)
        for _ in range(2)
    ]
    turns = [0, 0]

    async def work(number: int) -> None:
        while True:
            await fleet[number].enter()
            turns[number] += 1

    async with asyncio.timeout(60):
        first = [asyncio.create_task(work(0)) for _ in range(5)]
        while turns[0] < 3:
            await asyncio.sleep(0.01)
        # Half a turn behind the other.
        await asyncio.sleep(0.15)
        second = [asyncio.create_task(work(1)) for _ in range(5)]
        while turns[0] < 15 and not turns[1]:
            await asyncio.sleep(0.01)
    for task in (*first, *second):
        task.cancel()
    await asyncio.gather(*first, *second, return_exceptions=True)
    assert turns[1]


async def test_a_turn_that_was_missed_is_not_used_for_it_would_meet_the_next_ones(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    limits = RedisLimits(redis, keys, ledger, requests_per_second=100, concurrent_requests=0)
    limits._turns = [asyncio.get_running_loop().time() - 1]
    await asyncio.wait_for(limits.enter(), 60)
    assert await redis.exists(keys.rate), "another one was taken"


async def test_permits_are_never_more_than_the_limit_and_those_of_the_dead_expire(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=3)
    held = [await limits.enter() for _ in range(3)]
    fourth = asyncio.create_task(limits.enter())
    for _ in range(5):
        await redis.ping()
    assert not fourth.done()
    assert await redis.zcard(keys.inflight) == 3
    await limits.leave(held[0])
    assert await asyncio.wait_for(fourth, 10)
    await redis.zadd(keys.inflight, {held[1]: 1}, xx=True)
    assert await asyncio.wait_for(limits.enter(), 10)


async def test_a_turn_is_taken_once_the_permit_is_there(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Taken before, it would be over by then, and all who waited would go out at once."""
    limits = RedisLimits(redis, keys, ledger, requests_per_second=100, concurrent_requests=1)
    held = await asyncio.wait_for(limits.enter(), 60)
    await redis.delete(keys.rate)
    second = asyncio.create_task(limits.enter())
    for _ in range(5):
        await redis.ping()
    assert not await redis.exists(keys.rate)
    await limits.leave(held)
    await limits.leave(await asyncio.wait_for(second, 60))
    assert await redis.exists(keys.rate)
    await limits.aclose()


async def test_a_permit_whose_reply_was_lost_is_given_to_who_has_it_and_to_nobody_else(
    redis: Redis, keys: Keys
) -> None:
    take = load_script(redis, "take_permit")
    given = [await take(keys=[keys.inflight], args=[name, 1, 60_000]) for name in "aab"]
    assert given == [1, 1, 0]


async def test_renewing_permits_is_nothing_that_the_command_does_which_took_the_first(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is logged of it for as long as the process lives would carry that command's id."""
    bound = []

    class Listening(Listener):
        def redis_lost(self, *_: object) -> None:
            bound.append(get_contextvars())

    monkeypatch.setattr("worker.queue.ledger.rate_limits.PERMIT_SECONDS", 0.3)
    ledger.outage = Outage(telemetry=Listening())
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=1)
    with bound_contextvars(command_id="one"):
        await limits.enter()
        await redis.set(keys.inflight, "someone wrote over it")
        async with asyncio.timeout(60):
            while not bound:
                await asyncio.sleep(0.01)
    await limits.aclose()
    assert bound == [{}]


async def test_permits_are_renewed_while_their_requests_are_under_way(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request may take minutes; what was given back is not taken again."""
    monkeypatch.setattr("worker.queue.ledger.rate_limits.PERMIT_SECONDS", 0.9)
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=3)
    held, left, leaving = [await limits.enter() for _ in range(3)]
    await limits.leave(left)
    # As one whose return reaches Redis a moment before the renewal that was under way.
    await redis.zrem(keys.inflight, leaving)
    taken = await redis.zscore(keys.inflight, held)
    async with asyncio.timeout(30):
        while (await redis.zscore(keys.inflight, held) or taken) == taken:
            await asyncio.sleep(0.05)
    assert await redis.zrange(keys.inflight, 0, -1) == [held.encode()]
    assert limits._held == {held, leaving}, "each renewal would name all that there ever were"
    await limits.aclose()


async def test_a_renewal_that_finds_nothing_to_renew_any_more_is_no_loss_of_redis(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last permit may be given back while Redis tells its time."""
    monkeypatch.setattr("worker.queue.ledger.rate_limits.PERMIT_SECONDS", 0.3)
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=2)
    held = await limits.enter()
    asked = asyncio.Event()
    tell_time = redis.time

    async def time() -> Any:
        told = await tell_time()
        await limits.leave(held)
        asked.set()
        return told

    monkeypatch.setattr(redis, "time", time)
    with structlog.testing.capture_logs() as logs:
        await asyncio.wait_for(asked.wait(), 30)
        await asyncio.sleep(0)
        await limits.aclose()
    assert logs == []


async def test_permits_of_a_worker_that_was_killed_are_free_within_half_a_minute(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """It may have held all that there are."""
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=1)
    held = await limits.enter()
    await limits.aclose()
    now = 1000 * int((await redis.time())[0])
    assert (await redis.zscore(keys.inflight, held) or 0) - now <= 31_000


async def test_however_many_of_a_process_wait_for_a_permit_one_asks_for_all(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Hundreds that ask fifty times a second leave no time for what they wait for."""
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=1)
    held = await limits.enter()
    waiting = [asyncio.create_task(limits.enter()) for _ in range(200)]
    # Each has asked once at most by the time at which the next asks a second time.
    before = await _scripts_run(redis)
    while await _scripts_run(redis) < before + 200 + 20:
        await asyncio.sleep(0.01)
    begun, loop = await _scripts_run(redis), asyncio.get_running_loop()
    until = loop.time() + 40 * PERMIT_PAUSE_SECONDS
    while loop.time() < until:
        await asyncio.sleep(PERMIT_PAUSE_SECONDS)
    assert await _scripts_run(redis) - begun <= 2 * 40
    for _ in range(200):
        await limits.leave(held)
        done, _ = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1
        held = done.pop().result()
        waiting = [task for task in waiting if not task.done()]
    assert not waiting


@pytest.mark.parametrize(("rate", "concurrent"), [(0, 1), (4, 0)])
async def test_an_interactive_command_waits_for_the_limits_behind_few_bulk_ones(
    redis: Redis,
    ledger: Ledger,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    *,
    rate: float,
    concurrent: int,
) -> None:
    """Hundreds of a process may wait there, for an hour where the limits are low."""
    monkeypatch.setattr("worker.queue.ledger.rate_limits.LATE_SECONDS", math.inf)
    limits = RedisLimits(
        redis, keys, ledger, requests_per_second=rate, concurrent_requests=concurrent
    )
    held = await limits.enter()
    entered: list[str] = []
    bulk = await _line_up(limits, entered, [f"bulk-{number}" for number in range(40)])
    urgent = asyncio.create_task(_pass(limits, entered, "urgent"))
    await asyncio.sleep(0)
    if held:
        await limits.leave(held)
    await asyncio.wait_for(urgent, 60)
    # Turns are given for a second ahead.
    assert entered.index("urgent") <= 1 + 2 * rate
    for task in bulk:
        task.cancel()
    await asyncio.gather(*bulk, return_exceptions=True)
    await limits.aclose()


async def test_a_bulk_command_waits_for_the_limits_behind_none_that_comes_later(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=1)
    held = await limits.enter()
    entered: list[str] = []
    names = ["before-1", "before-2", "bulk", *(f"later-{number}" for number in range(5))]
    tasks = await _line_up(limits, entered, names)
    await limits.leave(held)
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert entered == names
    await limits.aclose()


async def _line_up(
    limits: RedisLimits, entered: list[str], names: list[str]
) -> list[asyncio.Task[None]]:
    """Has commands wait for the limits, in this order."""
    first = asyncio.create_task(_pass(limits, entered, names[0]))
    async with asyncio.timeout(30):
        while not (limits._asking.is_full or limits._taking.is_full):
            await asyncio.sleep(0)
    return [first, *(asyncio.create_task(_pass(limits, entered, name)) for name in names[1:])]


async def _pass(limits: RedisLimits, entered: list[str], name: str) -> None:
    lane = Priority.BULK if name.startswith("bulk") else Priority.INTERACTIVE
    permit = await limits.enter(lane)
    entered.append(name)
    if permit:
        await limits.leave(permit)


async def test_a_permit_that_was_given_to_one_who_gave_up_is_given_back(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=4)
    await limits.leave(await limits.enter())
    for turns in range(20):
        task = asyncio.create_task(limits.enter())
        # At one of them its call is sent, and not answered yet.
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            await limits.leave(task.result())
    assert await asyncio.wait_for(limits.enter(), 10)
    assert await redis.zcard(keys.inflight) == 1


async def test_a_key_of_the_turns_that_holds_something_else_is_written_over(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Or it would stop all requests of the fleet, and there is nothing in it to be kept."""
    limits = RedisLimits(redis, keys, ledger, requests_per_second=1000, concurrent_requests=0)
    await redis.hset(keys.rate, "of", "somebody else")
    await asyncio.wait_for(limits.enter(), 10)
    assert await redis.type(keys.rate) == b"string"


async def test_permits_that_redis_refuses_are_told_once_though_others_get_through(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Else each of 50 questions a second would tell that Redis was lost and is back."""
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=4)
    await redis.set(keys.inflight, "of somebody else")
    asked = await _scripts_run(redis)
    with capture_logs() as logs:
        waiting = asyncio.create_task(limits.enter())
        while await _scripts_run(redis) < asked + 3:
            ledger.outage.worked("claim")
            await asyncio.sleep(0.01)
        assert [line["event"] for line in logs] == ["redis.lost"]
        await redis.delete(keys.inflight)
        assert await asyncio.wait_for(waiting, 10)
    assert [line["event"] for line in logs] == ["redis.lost", "redis.back"]
    await limits.aclose()


async def _scripts_run(redis: Redis) -> int:
    told: dict[str, Any] = await redis.info("commandstats")
    return int(told["cmdstat_evalsha"]["calls"])


@pytest.mark.parametrize(("rate", "concurrent"), [(0, 1), (0.01, 0)])
async def test_who_waits_for_the_limits_ends_though_a_call_swallowed_the_cancellation(
    redis: Redis,
    ledger: Ledger,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    *,
    rate: float,
    concurrent: int,
) -> None:
    """A command would wait for its turn long past its deadline."""
    # On a busy machine the first turn would be missed, and the next one comes after minutes.
    monkeypatch.setattr("worker.queue.ledger.rate_limits.LATE_SECONDS", math.inf)
    limits = RedisLimits(
        redis, keys, ledger, requests_per_second=rate, concurrent_requests=concurrent
    )
    await limits.enter()
    asleep = asyncio.Event()

    async def enter() -> None:
        try:
            asleep.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
        await limits.enter()

    task = asyncio.create_task(enter())
    await asleep.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=30)
    ended = task.cancelled()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ended
