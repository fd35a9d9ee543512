"""Rules of the gate before every request: permits, holds, deadlines, and whom a 401 concerns."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.stub_api import Answer, reply
from worker.encord.api.credentials_watch import Admission, CredentialsWatch
from worker.encord.api.signing import BearerToken
from worker.encord.api.throttle import ThrottledTransport
from worker.encord.api.transport import Transport
from worker.errors import DeadlineExceededError, TrainmasterError
from worker.http.timeouts import Timeouts
from worker.queue.circuit_breaker import CircuitBreaker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schemas.enums import Priority
    from tests.stub_api import StubApi

HOUR = 3600.0


class Limits:
    """Limits that let everything through, and know who has not come back."""

    def __init__(self) -> None:
        self.inside: set[str] = set()
        self.holds: list[float] = []
        self._permits = iter(range(1_000))

    async def enter(self, lane: Priority) -> str:  # noqa: ARG002 - the protocol's
        permit = f"permit {next(self._permits)}"
        self.inside.add(permit)
        return permit

    async def leave(self, permit: str) -> None:
        self.inside.remove(permit)

    async def hold(self, seconds: float, reason: str) -> None:
        assert "429" in reason
        self.holds.append(seconds)


class Board:
    """Nobody looks at it."""

    async def refuse(self, reason: str) -> None: ...

    async def admit(self) -> None: ...

    async def is_told(self) -> bool:
        return True


@pytest.fixture
async def transport(stub: StubApi) -> AsyncIterator[Transport]:
    timeouts = Timeouts(connect=60, read=60, write=60, pool=60)
    async with Transport(stub.url, BearerToken("t"), timeouts=timeouts) as made:
        yield made


@pytest.mark.parametrize(
    "answer",
    [reply(200, b"[]"), reply(404), reply(429), reply(500), Answer(b"", "reset")],
    ids=["200", "404", "429", "500", "reset"],
)
async def test_a_permit_is_given_back_whatever_comes_of_the_request(
    stub: StubApi, transport: Transport, answer: Answer
) -> None:
    """Else each failure would take one from the fleet until permits run out."""
    limits = Limits()
    stub.default = answer
    try:
        await ThrottledTransport(transport, limits, None).send("GET", "/x")
    except TrainmasterError:
        assert answer.raw != reply(200, b"[]").raw
    assert stub.recorded
    assert limits.inside == set()


async def test_a_permit_is_given_back_by_who_is_cancelled_or_late(
    stub: StubApi, transport: Transport
) -> None:
    limits = Limits()
    with pytest.raises(DeadlineExceededError):
        await ThrottledTransport(transport, limits, None).until(time.time() - 1).send("GET", "/x")
    assert limits.inside == set()
    stub.default = Answer(b"", "hang")
    asking = asyncio.create_task(ThrottledTransport(transport, limits, None).send("GET", "/x"))
    async with asyncio.timeout(60):
        while not stub.recorded:
            await asyncio.sleep(0.01)
    assert len(limits.inside) == 1
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert limits.inside == set()


async def test_a_429_holds_the_fleet_for_as_long_as_it_asks_for(
    stub: StubApi, transport: Transport
) -> None:
    limits = Limits()
    for wait in ("7", "86400"):
        stub.default = reply(429, b"", retry_after=wait)
        with pytest.raises(TrainmasterError):
            await ThrottledTransport(transport, limits, None).send("GET", "/x")
    assert limits.holds == [7, 300]


async def test_a_deadline_is_judged_by_the_clock_that_the_throttle_has(
    stub: StubApi, transport: Transport
) -> None:
    """This machine's own may be an hour fast or slow."""
    stub.default = reply(200, b"[]")
    true = time.time() - HOUR
    fast = ThrottledTransport(transport, Limits(), None, now=lambda: time.time() - HOUR)
    assert (await fast.until(true + 300).send("GET", "/x")).status == 200
    slow = ThrottledTransport(transport, Limits(), None, now=lambda: time.time() + HOUR)
    with pytest.raises(DeadlineExceededError):
        await slow.until(time.time() + HOUR - 300).send("GET", "/x")
    assert len(stub.recorded) == 1


async def test_a_401_and_nothing_else_has_the_worker_ask_for_itself(
    stub: StubApi, transport: Transport
) -> None:
    """Polls of trainings live through a 401, so that nobody but the gate tells of theirs."""
    asked = asyncio.Event()

    async def ask() -> tuple[Admission, str]:
        asked.set()
        return Admission.TAKEN, ""

    watch = CredentialsWatch(ask, Board(), minimum_seconds=0.01, maximum_seconds=0.01)
    gate = ThrottledTransport(transport, None, None, credentials=watch).until(time.time() + HOUR)
    for status in (200, 400, 403, 404, 429, 500, 401):
        assert not asked.is_set(), "nobody has said anything of our key"
        stub.default = reply(status, b"[]")
        try:
            await gate.send("GET", "/x")
        except TrainmasterError:
            await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await asked.wait()
    await watch.aclose()


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 422])
async def test_whatever_the_api_answers_ends_its_failures_in_a_row(
    stub: StubApi, transport: Transport, status: int
) -> None:
    """Else a failure now and then among many refusals would pass for an outage."""
    asked = asyncio.Event()

    async def works() -> bool:
        asked.set()
        return True

    breaker = CircuitBreaker(works, failures=2, minimum_seconds=0.01, maximum_seconds=0.01)
    throttled = ThrottledTransport(transport, None, breaker)
    for each in (500, status, 500, 500):
        assert not asked.is_set(), "there was an answer between the two failures"
        stub.default = reply(each, b"[]")
        try:
            await throttled.send("GET", "/x")
        except TrainmasterError:
            # Whoever is asked is asked in a task of its own.
            await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await asked.wait()
    await breaker.aclose()
