"""Signs of life, looks at what is needed, and what is told of both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.unit.monitoring.clock import Clock
from worker.monitoring import health
from worker.monitoring.health import (
    STALE_SECONDS,
    Liveness,
    Readiness,
    beat,
)
from worker.queue.heartbeat import Heartbeat

if TYPE_CHECKING:
    import pytest


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


def test_who_is_told_to_stop_is_ready_no_more_whatever_is_found() -> None:
    readiness = Readiness()
    readiness.set({})
    readiness.stop()
    readiness.set({})
    assert readiness.problems() == {"stop": "it was told to stop, and takes nothing new"}


def test_what_is_about_to_end_is_missed_no_more_though_it_beats_once_again() -> None:
    clock = Clock()
    celery = Heartbeat("celery", 60, clock)
    celery.beat()
    celery.retire()
    celery.beat()
    clock.seconds += 1000
    assert not celery.is_late


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
