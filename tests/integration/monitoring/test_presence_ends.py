"""What a process tells of itself again and again, and takes back when it stops."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from redis.exceptions import (
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from worker.monitoring import presence as module
from worker.monitoring.monitor import Monitor
from worker.monitoring.presence import Presence
from worker.queue.ledger.workers import Workers, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from worker.monitoring.presence import Watched
    from worker.queue.ledger.keys import Keys


def parts() -> SimpleNamespace:
    return SimpleNamespace(
        pool=SimpleNamespace(running=0),
        slots=1,
        breaker=SimpleNamespace(is_open=False),
        monitor=Monitor(None, None),
    )


class Noting(Workers):
    """The workers of a namespace, with what was told and how often somebody looked."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        super().__init__(redis, keys)
        self.told: list[WorkerStatus] = []
        # How many had been told at each look.
        self.looks: list[int] = []

    async def tell(self, status: WorkerStatus) -> None:
        await super().tell(status)
        self.told.append(status)

    async def forget_silent(self, now_ms: int) -> None:
        await super().forget_silent(now_ms)
        self.looks.append(len(self.told))


@asynccontextmanager
async def telling(workers: Workers, watched: Any, *partitions: str) -> AsyncIterator[None]:
    """Has a process tell of itself until the block ends."""
    presence = Presence(workers, "one", cast("Watched", watched), time.time, partitions)
    task = asyncio.create_task(presence.keep())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until(holds: Any) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.005)


async def test_a_process_that_stops_is_gone_at_once(redis: Redis, keys: Keys) -> None:
    workers = Noting(redis, keys)
    async with telling(workers, parts()):
        await until(lambda: workers.told)
        assert [each.name for each in await workers.list()] == ["one"]
    assert await workers.list() == []


async def test_it_tells_how_it_is_at_that_moment(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TELL_SECONDS", 0.05)
    watched, workers = parts(), Noting(redis, keys)
    watched.monitor._observe_lag(1.5)
    begun_ms = int(time.time() * 1000)
    async with telling(workers, watched, "a", "b"):
        await until(lambda: workers.told)
        watched.pool.running, watched.breaker.is_open = 1, True
        watched.monitor.stopping()
        known = len(workers.told)
        await until(lambda: len(workers.told) > known + 1)
        (shown,) = await workers.list()
    first, last = workers.told[0], workers.told[-1]
    assert (first.slots, first.slots_used, first.breaker_open, first.stopping) == (
        *(1, 0, False, False),
    )
    assert (last.slots_used, last.breaker_open, last.stopping) == (1, True, True)
    assert (first.loop_lag_seconds, last.loop_lag_seconds) == (1.5, 0)
    assert (shown.host, shown.pid) == (socket.gethostname(), os.getpid())
    assert shown.partitions == ("a", "b")
    assert begun_ms <= first.started_ms <= first.seen_ms < last.seen_ms
    assert last.started_ms == first.started_ms


async def test_it_looks_for_those_that_died_at_its_first_word_and_then_now_and_then(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TELL_SECONDS", 0.001)
    workers = Noting(redis, keys)
    async with telling(workers, parts()):
        await until(lambda: len(workers.looks) >= 3)
    assert workers.looks[:3] == [1, 13, 25]


async def test_that_redis_does_not_take_it_is_told_once_until_it_does(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TELL_SECONDS", 0.005)
    workers = Noting(redis, keys)
    with capture_logs() as lines:
        await redis.set(keys.workers, "something else")
        async with telling(workers, parts()):
            await until(lambda: lines)
            await asyncio.sleep(0.1)
            assert len(lines) == 1
            await redis.delete(keys.workers)
            await until(lambda: workers.told)
            await redis.rename(keys.workers, f"{keys.workers}:kept")
            await redis.set(keys.workers, "something else")
            await until(lambda: len(lines) == 2)
    assert {each["event"] for each in lines} == {"worker.presence_refused"}
    assert "WRONGTYPE" in lines[0]["error"]


class Refused(Noting):
    """The workers of a namespace in a Redis that answers with an error."""

    def __init__(self, redis: Redis, keys: Keys, error: RedisError) -> None:
        super().__init__(redis, keys)
        self.asked = 0
        self._error = error

    async def tell(self, status: WorkerStatus) -> None:
        del status
        self.asked += 1
        raise self._error


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (NoPermissionError("this user has no permissions"), 1),
        (ResponseError("WRONGTYPE Operation against a key"), 1),
        # Of an outage all others tell.
        (RedisConnectionError("gone"), 0),
        (BusyLoadingError("Redis is loading"), 0),
    ],
)
async def test_only_what_lasts_until_somebody_acts_is_told_here(
    redis: Redis,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    error: RedisError,
    lines: int,
) -> None:
    monkeypatch.setattr(module, "TELL_SECONDS", 0.001)
    workers = Refused(redis, keys, error)
    with capture_logs() as told:
        async with telling(workers, parts()):
            await until(lambda: workers.asked > 5)
    assert [each["event"] for each in told] == ["worker.presence_refused"] * lines
