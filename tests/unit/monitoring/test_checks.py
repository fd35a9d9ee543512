"""What a worker needs, and what is told of each thing that is missing."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, cast

from redis.exceptions import ConnectionError as RedisConnectionError

from tests.unit.monitoring.clock import Clock
from worker.errors import LedgerLostError, NewerLedgerError
from worker.monitoring import checks
from worker.monitoring.checks import (
    ASK_SECONDS,
    STORE_SECONDS,
    ReadinessWatch,
    credentials_check,
    epoch_check,
    results_check,
)
from worker.queue.pool.results import ResultStore

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from worker.encord.api.credentials_watch import CredentialsWatch
    from worker.queue.ledger.epoch import Epoch


async def test_a_check_that_breaks_or_hangs_is_told_beside_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "_CHECK_SECONDS", 0.05)

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

    others = {"well": well, "ill": ill, "away": away, "hangs": hangs, "broken": broken}
    assert await ReadinessWatch(well, others).look() == {
        "ill": "full",
        "away": "Redis: Error 111 refused",
        "hangs": "no answer within 0 s",
        "broken": "the check broke: ZeroDivisionError",
    }
    # What stands in Redis can't be told without it, and would hide the one reason.
    assert await ReadinessWatch(away, others).look() == {"redis": "Redis: Error 111 refused"}


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


class KnownEpoch:
    """An epoch whose check says what a test wants."""

    def __init__(self, known: str, error: Exception | None = None) -> None:
        self.known = known
        self.error = error

    async def check(self) -> None:
        if self.error is not None:
            raise self.error


async def test_a_ledger_that_is_lost_or_too_new_is_no_longer_ours() -> None:
    async def told(known: str, error: Exception | None = None) -> str:
        return await epoch_check(cast("Epoch", KnownEpoch(known, error)))()

    assert await told("") == "Redis has not been met yet"
    assert await told("one") == ""
    for error in (LedgerLostError("it was flushed"), NewerLedgerError("it has format 9")):
        assert await told("one", error) == error.message


async def test_looks_go_on_and_each_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LOOK_SECONDS", 0.001)
    problems = iter(["", "away", ""])
    told: list[dict[str, str]] = []
    heard = asyncio.Event()

    async def look() -> str:
        return next(problems, "")

    def tell(found: dict[str, str]) -> None:
        told.append(found)
        if len(told) == 3:
            heard.set()

    watching = asyncio.create_task(ReadinessWatch(look, {}).watch(tell))
    await asyncio.wait_for(heard.wait(), 30)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert told[:3] == [{}, {"redis": "away"}, {}]
