"""Whoever misses Redis tells so, waits, and tries again until Redis is back or nobody wants it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from worker.queue.ledger import redis_retry
from worker.queue.ledger.outage import Outage
from worker.queue.ledger.redis_retry import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    keep_trying,
    next_pause,
)
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FOR_EVER_SECONDS = 3600.0
# Of a busy machine; a wait that hangs lasts for ever.
PATIENCE_SECONDS = 60.0


class Heard(Listener):
    """What is told of Redis."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def redis_lost(self, _event: str, part: str, error: str, kind: str) -> None:
        self.told.append(f"lost by {part}: {kind}: {error}")

    def redis_back(self, _seconds: float) -> None:
        self.told.append("back")


class Act:
    """Fails so many times, then returns how often it was called."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.calls = 0
        self.begun = asyncio.Event()
        self._failures = failures
        self._error = error or RedisConnectionError("refused")

    async def __call__(self) -> int:
        self.calls += 1
        self.begun.set()
        if self.calls <= self._failures:
            # A new one each time: the same would gather the traceback of every try.
            raise type(self._error)(*self._error.args)
        return self.calls


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def outage(heard: Heard) -> Outage:
    return Outage(telemetry=heard)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_retry, "FIRST_PAUSE_SECONDS", 1e-6)
    monkeypatch.setattr(redis_retry, "LONGEST_PAUSE_SECONDS", 1e-6)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_retry, "FIRST_PAUSE_SECONDS", FOR_EVER_SECONDS)
    monkeypatch.setattr(redis_retry, "LONGEST_PAUSE_SECONDS", FOR_EVER_SECONDS)


def test_pauses_double_up_to_the_longest_and_stay_there_however_long_redis_is_away() -> None:
    """An hour of tries; 2 to the power of their number would be more than a float holds."""
    pauses, pause = [], 0.0
    for _ in range(4000):
        pause = next_pause(pause)
        pauses.append(pause)
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    assert set(pauses[3:]) == {LONGEST_PAUSE_SECONDS}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("refused"),
        ResponseError("OOM command not allowed"),
        ConnectionResetError("reset"),
        TimeoutError("late"),
    ],
)
async def test_what_redis_refuses_is_tried_until_it_is_taken_and_told_once(
    outage: Outage, heard: Heard, error: Exception
) -> None:
    """More tries than redis-py's own backoff lives through."""
    assert await keep_trying(Act(1100, error), outage, "read") == 1101
    assert heard.told == [f"lost by read: {type(error).__name__}: {error}", "back"]


@pytest.mark.usefixtures("slow")
async def test_what_is_no_trouble_of_redis_is_raised_at_once(outage: Outage, heard: Heard) -> None:
    act = Act(1, ValueError("a defect"))
    with pytest.raises(ValueError, match="a defect"):
        await asyncio.wait_for(keep_trying(act, outage, "read"), PATIENCE_SECONDS)
    assert act.calls == 1
    assert not heard.told


@pytest.mark.usefixtures("slow")
async def test_a_stop_ends_the_wait_at_once(outage: Outage) -> None:
    act = Act(10)
    task = asyncio.create_task(keep_trying(act, outage, "read"))
    await act.begun.wait()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
    assert done, "it waits though it was stopped"
    assert task.cancelled()
    assert act.calls == 1


def swallowing(begun: asyncio.Event) -> Callable[[], Awaitable[None]]:
    """Returns a call that loses a cancellation as redis-py may: it comes out as a timeout."""

    async def call() -> None:
        begun.set()
        try:
            await asyncio.sleep(FOR_EVER_SECONDS)
        except asyncio.CancelledError:
            raise TimeoutError("of the socket") from None

    return call


@pytest.mark.usefixtures("quick")
async def test_a_stop_that_a_call_swallows_ends_it_all_the_same(outage: Outage) -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(keep_trying(swallowing(begun), outage, "read"))
    await begun.wait()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
    if not done:
        task.cancel()
    assert done, "it goes on though it was stopped"
    assert task.cancelled()


@pytest.mark.usefixtures("quick")
async def test_a_stop_that_was_lost_before_does_not_keep_a_checkpoint_from_being_made(
    outage: Outage,
) -> None:
    """Else the answer to a call that has changed something would be recorded nowhere."""
    begun, checkpoint = asyncio.Event(), Act(3)

    async def run() -> int:
        with pytest.raises(TimeoutError):
            await swallowing(begun)()
        return await keep_trying(checkpoint, outage, "checkpoint")

    task = asyncio.create_task(run())
    await begun.wait()
    task.cancel()
    assert await asyncio.wait_for(task, PATIENCE_SECONDS) == 4


@pytest.mark.usefixtures("slow")
async def test_trouble_that_was_mended_is_neither_told_nor_waited_for(
    outage: Outage, heard: Heard
) -> None:
    seen: list[str] = []

    async def mend(exc: Exception) -> bool:
        seen.append(str(exc))
        return True

    act = Act(2, ResponseError("NOGROUP"))
    trying = keep_trying(act, outage, "read", on_trouble=mend)
    assert await asyncio.wait_for(trying, PATIENCE_SECONDS) == 3
    assert seen == ["NOGROUP", "NOGROUP"]
    assert not heard.told
