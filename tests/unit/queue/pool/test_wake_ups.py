"""Rules of wake-ups: many become one, and one that could not be sent is not the last."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from worker.queue.pool.wake_ups import WakeUps

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS = 60


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not reached():
            await asyncio.sleep(0.001)


async def test_others_are_called_again_once_this_machine_can_start_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[int] = []
    wake_ups = WakeUps(asyncio.get_running_loop(), lambda: sent.append(1), lambda: False)

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(threading.Thread, "start", fail)
        wake_ups.send()
    assert [line["event"] for line in logs] == ["supervisor.wake_up_failed"]
    wake_ups.send()
    await until(lambda: bool(sent))


@pytest.mark.parametrize("is_away", [True, False])
async def test_after_one_that_failed_others_follow_and_an_outage_of_redis_is_told_elsewhere(
    monkeypatch: pytest.MonkeyPatch, *, is_away: bool
) -> None:
    monkeypatch.setattr("worker.queue.pool.wake_ups.WAKE_UP_PAUSE_SECONDS", 0.0)
    tries: list[int] = []

    def publish() -> None:
        tries.append(1)
        raise OSError("connection refused")

    wake_ups = WakeUps(asyncio.get_running_loop(), publish, lambda: is_away)
    with capture_logs() as logs:
        wake_ups.send()
        await until(lambda: not wake_ups._is_pending)
        wake_ups.send()
        await until(lambda: not wake_ups._is_pending)
    assert len(tries) == 2
    assert len(logs) == (0 if is_away else 2)


async def test_while_one_is_on_its_way_further_ones_are_the_same() -> None:
    """One is enough for any number of commands, and each costs a round trip."""
    may_go, tries = threading.Event(), []

    def publish() -> None:
        tries.append(1)
        may_go.wait(PATIENCE_SECONDS)

    wake_ups = WakeUps(asyncio.get_running_loop(), publish, lambda: False)
    for _ in range(5):
        wake_ups.send()
    await until(lambda: bool(tries))
    wake_ups.send()
    may_go.set()
    assert tries == [1]
