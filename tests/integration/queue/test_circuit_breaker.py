"""Rules of the breaker: how many failures open it, how it asks, and what waits meanwhile."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from tests.integration.intake_acts import until
from tests.integration.worker_bench import encord_of, running_runner, until_ended
from worker.encord.api.client import MlModelsApi
from worker.encord.api.throttle import ThrottledTransport
from worker.errors import TrainmasterError
from worker.queue.circuit_breaker import CircuitBreaker, CircuitState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.worker_bench import Bench

FAILURES = 5
BROKEN = {"operation": "list_models", "effect": "status", "status": 503}


@dataclass
class Asked:
    """The probe of a breaker: what it says, and when it was asked."""

    works: bool = False
    breaks: bool = False
    at: list[float] = field(default_factory=list)

    async def __call__(self) -> bool:
        self.at.append(time.monotonic())
        if self.breaks:
            raise RuntimeError("can't start new thread")
        return self.works


@pytest.fixture
async def asked() -> Asked:
    return Asked()


@pytest.fixture
async def breaker(asked: Asked) -> AsyncIterator[CircuitBreaker]:
    made = CircuitBreaker(asked, failures=FAILURES, minimum_seconds=0.05, maximum_seconds=0.2)
    yield made
    await made.aclose()


@pytest.fixture
def api(bench: Bench, breaker: CircuitBreaker) -> MlModelsApi:
    """The API through a gate with that breaker."""
    return MlModelsApi(ThrottledTransport(encord_of(bench).transport._transport, None, breaker))


async def call(api: MlModelsApi) -> None:
    try:
        async for _ in api.list_models():
            break
    except TrainmasterError:
        pass


async def let_run() -> None:
    """Lets whatever was started begin."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_its_probes_are_nothing_that_the_command_does_whose_failure_was_the_last() -> None:
    """They go on for as long as an outage lasts, and their lines would carry that command's id."""
    bound = []

    async def works() -> bool:
        bound.append(get_contextvars())
        return True

    breaker = CircuitBreaker(works, failures=1, minimum_seconds=0.05, maximum_seconds=0.2)
    with bound_contextvars(command_id="one"):
        await breaker.examine()
    assert bound == [{}]


async def test_each_examination_waits_for_a_probe_of_its_own(
    breaker: CircuitBreaker, asked: Asked
) -> None:
    """Or what fails in a second outage counts, as if nobody knew of that."""
    opened = []
    for works in (True, False):
        asked.works = works
        await breaker.examine()
        opened.append(breaker.is_open)
    assert opened == [False, True]


async def test_it_opens_after_exactly_so_many_failures_in_a_row(
    bench: Bench, api: MlModelsApi, breaker: CircuitBreaker, asked: Asked
) -> None:
    bench.sandbox.faults(BROKEN)
    for _ in range(FAILURES - 1):
        await call(api)
    await let_run()
    assert (asked.at, breaker.health) == ([], CircuitState.CLOSED)
    await call(api)
    await until(lambda: _is(breaker.is_open))


async def test_one_answer_in_between_starts_the_count_anew(
    bench: Bench, api: MlModelsApi, breaker: CircuitBreaker, asked: Asked
) -> None:
    bench.sandbox.faults(BROKEN)
    for _ in range(FAILURES - 1):
        await call(api)
    bench.sandbox.faults()
    await call(api)
    bench.sandbox.faults(BROKEN)
    for _ in range(FAILURES - 1):
        await call(api)
    await let_run()
    assert (asked.at, breaker.health) == ([], CircuitState.CLOSED)
    await call(api)
    await until(lambda: _is(breaker.is_open))


async def test_a_refusal_is_an_answer_and_no_failure(
    bench: Bench, api: MlModelsApi, breaker: CircuitBreaker, asked: Asked
) -> None:
    for status in (400, 403, 404, 409, 429):
        bench.sandbox.faults({**BROKEN, "status": status})
        for _ in range(FAILURES + 1):
            await call(api)
    await let_run()
    assert (asked.at, breaker.health) == ([], CircuitState.CLOSED)


async def test_failures_open_nothing_while_the_probe_succeeds(
    breaker: CircuitBreaker, asked: Asked
) -> None:
    asked.works = True
    for _ in range(FAILURES):
        breaker.failed()
    await until(lambda: _is(len(asked.at) == 1))
    await let_run()
    assert not breaker.is_open
    for _ in range(FAILURES - 1):
        breaker.failed()
    await let_run()
    assert len(asked.at) == 1, "a probe that succeeded starts the count anew"


async def test_it_asks_after_pauses_that_double_up_to_the_longest(
    breaker: CircuitBreaker, asked: Asked
) -> None:
    for _ in range(FAILURES):
        breaker.failed()
    await until(lambda: _is(len(asked.at) >= 9))
    pauses = [later - earlier for earlier, later in pairwise(asked.at)]
    assert pauses[0] >= 0.045
    assert pauses[1] >= 0.095
    assert min(pauses[2:]) >= 0.195
    # Any of them may be late on a busy machine, but not all.
    assert min(pauses[3:]) < 0.38, "no pause is longer than the longest"


async def test_it_closes_after_a_probe_that_succeeds_and_opens_anew_after_as_many_failures(
    breaker: CircuitBreaker, asked: Asked
) -> None:
    for _ in range(2):
        asked.works = False
        for _ in range(FAILURES):
            breaker.failed()
        await until(lambda: _is(breaker.is_open))
        asked.works = True
        await until(lambda: _is(not breaker.is_open))
        asked.works = False
        for _ in range(FAILURES - 1):
            breaker.failed()
        await let_run()
        assert not breaker.is_open
        breaker.succeeded()


async def test_a_probe_that_breaks_tells_nothing_and_is_not_the_last(
    breaker: CircuitBreaker, asked: Asked
) -> None:
    asked.breaks = True
    for _ in range(FAILURES):
        breaker.failed()
    await let_run()
    assert (len(asked.at), breaker.is_open) == (1, False)
    asked.breaks = False
    for _ in range(FAILURES):
        breaker.failed()
    await until(lambda: _is(breaker.is_open))
    asked.breaks = True
    before = len(asked.at)
    await until(lambda: _is(len(asked.at) > before + 1))
    assert breaker.is_open
    asked.breaks, asked.works = False, True
    await until(lambda: _is(not breaker.is_open))


async def test_nothing_is_claimed_while_it_is_open(
    bench: Bench, breaker: CircuitBreaker, asked: Asked
) -> None:
    bench.executor = replace(bench.executor, breaker=breaker)
    for _ in range(FAILURES):
        breaker.failed()
    await until(lambda: _is(breaker.is_open))
    sent = await bench.send("list_models", {})
    async with running_runner(bench, concurrency=4) as runner:
        before = len(asked.at)

        async def asked_often() -> bool:
            runner.wake()
            return len(asked.at) >= before + 6

        # Longer than the pause after which a runner looks again.
        await until(asked_often)
        claims = await bench.redis.hget(bench.ledger.keys.command(sent), "n")
        assert (claims, runner.running) == (b"0", 0)
        asked.works = True
        await until_ended(bench, sent)


async def _is(holds: bool) -> bool:
    return holds
