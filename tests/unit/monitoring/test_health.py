"""Signs of life, looks at what is needed, and what is told of both."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, cast

from redis.exceptions import ConnectionError as RedisConnectionError

from worker.monitoring import health
from worker.monitoring.health import (
    ASK_SECONDS,
    STALE_SECONDS,
    STORE_SECONDS,
    Liveness,
    Readiness,
    ReadinessWatch,
    beat,
    credentials_check,
    results_check,
)
from worker.queue.heartbeat import Heartbeat
from worker.queue.pool.results import ResultStore

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from worker.encord.api.credentials_watch import CredentialsWatch


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_what_is_silent_for_too_long_is_named_with_its_limit() -> None:
    clock = Clock()
    loop, intake = Heartbeat("loop", 12, clock), Heartbeat("intake", 20, clock)
    liveness = Liveness([loop, intake])
    assert liveness.problems() == {}, "nobody expects either to beat yet"
    loop.beat()
    intake.beat()
    clock.seconds += 12
    assert liveness.problems() == {}
    clock.seconds += 1
    assert liveness.problems() == {"loop": "silent for 13 s; 12 s count"}
    loop.beat()
    assert liveness.problems() == {}


def test_what_ended_on_purpose_is_not_missed() -> None:
    clock = Clock()
    intake = Heartbeat("intake", 20, clock)
    intake.beat()
    intake.rest()
    clock.seconds += 1000
    assert not intake.is_late


def test_nothing_is_ready_before_the_first_look_nor_long_after_the_last_one() -> None:
    clock = Clock()
    readiness = Readiness(clock)
    assert readiness.problems() == {"start": "it has not met Redis yet"}
    readiness.set({})
    assert readiness.problems() == {}
    clock.seconds += STALE_SECONDS + 1
    assert readiness.problems() == {"look": "nobody has looked for 13 s"}
    readiness.set({"redis": "away"})
    assert readiness.problems() == {"redis": "away"}


async def test_a_check_that_breaks_or_hangs_is_told_beside_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "_CHECK_SECONDS", 0.05)

    async def well() -> str:
        return ""

    async def ill() -> str:
        return "full"

    async def away() -> str:
        raise RedisConnectionError("Error 111\nrefused")

    async def hangs() -> str:
        await asyncio.sleep(60)
        return ""

    async def broken() -> str:
        raise ZeroDivisionError

    checks = {"well": well, "ill": ill, "away": away, "hangs": hangs, "broken": broken}
    assert await ReadinessWatch(Readiness(), checks).look() == {
        "ill": "full",
        "away": "Redis: Error 111 refused",
        "hangs": "no answer within 0 s",
        "broken": "the check broke: ZeroDivisionError",
    }


async def test_a_loop_beats_and_tells_how_late_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "BEAT_SECONDS", 0.01)
    heartbeat = Heartbeat("loop", 12)
    lags: list[float] = []
    beating = asyncio.create_task(beat(heartbeat, lags.append))
    while len(lags) < 3:
        await asyncio.sleep(0.01)
    assert heartbeat.age_seconds is not None
    assert min(lags) >= 0
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    assert heartbeat.age_seconds is None, "a loop that ends on purpose is not missed"


async def test_a_store_that_works_is_asked_again_only_after_a_while(tmp_path: Path) -> None:
    clock = Clock()
    store = tmp_path / "results"
    check = results_check(ResultStore(str(store), 1024), clock)
    assert await check() == ""
    store.rmdir()
    store.write_text("no folder")
    assert await check() == "", "each look would cost a request of the store"
    clock.seconds += STORE_SECONDS
    assert await check() == f"can't be used: {os.strerror(errno.EEXIST)}"
    store.unlink()
    assert await check() == "", "what was ill is looked at each time"


class Undecided:
    """A watch whose API can't tell, until a test lets it."""

    def __init__(self) -> None:
        self.is_refused = self.is_proved = False
        self.asked = 0

    async def prove(self) -> bool:
        self.asked += 1
        return self.is_proved


async def test_an_api_that_can_not_tell_is_asked_again_only_after_a_while() -> None:
    clock, watch = Clock(), Undecided()
    check = credentials_check(cast("CredentialsWatch", watch), clock)
    for _ in range(3):
        assert await check() == "the API could not tell yet whether it takes them"
    assert watch.asked == 0, "it has been asked at the start"
    clock.seconds += ASK_SECONDS
    await check()
    await check()
    assert watch.asked == 1
    watch.is_proved = True
    assert await check() == ""
    watch.is_refused = True
    assert await check() == "the API refuses them"
