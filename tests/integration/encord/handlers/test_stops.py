"""Rules of a stop, or a cancellation, of changes that wait for their turn: none is sent."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from tests.integration.intake_acts import until
from tests.integration.ledger_acts import now_ms
from tests.integration.worker_bench import (
    encord_of,
    end_tasks,
    open_bench,
    running_runner,
    until_ended,
    with_encord,
)
from tests.stub_api import reply
from worker.encord.api.signing import BearerToken
from worker.encord.api.throttle import ThrottledTransport
from worker.encord.api.transport import Transport
from worker.encord.creation.keys import ambiguous_key, unsent_key
from worker.errors import FencedError
from worker.http.timeouts import Timeouts
from worker.queue.lane_slots import LaneSlots
from worker.queue.ledger.cancellation import cancel
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.models import Phase
from worker.queue.ledger.rate_limits import RedisLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.integration.worker_bench import Bench
    from tests.stub_api import StubApi
    from worker.queue.ledger.ledger import CheckpointStatus

CREATE = {"features": ["aB3dE5fG"], "model": "fasterRcnn", "title": "once"}
DELETE = {"model_uuid": str(UUID(int=1))}
NO_MODELS = reply(200, orjson.dumps({"results": [], "nextPageToken": None}))


def model_of(number: int) -> dict[str, Any]:
    """Returns what the API says of a model that was created."""
    group = {
        **CREATE,
        "createdAt": "2026-01-02T03:04:05Z",
        "description": "",
        "modelUuid": str(UUID(int=number)),
        "type": "objectDetection",
    }
    return {"modelGroup": group, "modelIterations": []}


@pytest.fixture
async def bench(
    redis: Redis, ledger: Ledger, stub: StubApi, tmp_path: Path
) -> AsyncIterator[Bench]:
    """A worker with one slot for creations, whose API has no models."""
    stub.default = NO_MODELS
    async with open_bench(redis, ledger, None, tmp_path, domain=stub.url) as opened:
        yield opened


@asynccontextmanager
async def one_turn_in_hours(bench: Bench, stub: StubApi) -> AsyncIterator[RedisLimits]:
    """Has each request after the next one wait for its turn as good as for ever."""
    limits = RedisLimits(
        bench.redis,
        bench.ledger.keys,
        bench.ledger,
        requests_per_second=0.0001,
        concurrent_requests=4,
    )
    transport = Transport(stub.url, BearerToken("of-the-test"), timeouts=Timeouts())
    dependencies = with_encord(
        bench.executor.dependencies,
        transport=ThrottledTransport(transport, limits, None),
        creations=LaneSlots(1),
    )
    bench.executor = replace(bench.executor, dependencies=dependencies)
    try:
        yield limits
    finally:
        await limits.aclose()
        await transport.aclose()


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
@pytest.mark.parametrize("command_type", ["create_model", "delete_model"])
async def test_a_change_that_waits_for_its_turn_is_handed_back_as_if_it_had_not_begun(
    bench: Bench, stub: StubApi, monkeypatch: pytest.MonkeyPatch, command_type: str, lane: str
) -> None:
    """Its intent, left there, would have the next worker doubt for days what was never sent."""
    # On a busy machine the first turn would be missed, and the next one comes after hours.
    monkeypatch.setattr("worker.queue.ledger.rate_limits.LATE_SECONDS", math.inf)
    data: dict[str, Any] = CREATE if command_type == "create_model" else DELETE
    keys = bench.ledger.keys
    sent = await bench.send(command_type, data, priority=lane)
    row = keys.command(sent)
    async with one_turn_in_hours(bench, stub) as limits:
        if command_type == "delete_model":
            await limits.leave(await limits.enter())

        async def waits() -> bool:
            # It is recorded before it is sent.
            return bool(await bench.redis.hget(row, "p"))

        async with running_runner(bench, concurrency=2) as runner:
            await until(waits)
            await runner.close(60)
        assert [each.method for each in stub.recorded] == ["GET"] * (command_type != "delete_model")
        state, phase, progress, claims = await bench.redis.hmget(row, "s", "h", "p", "c")
        assert (state, phase, progress, claims) == (b"accepted", b"idle", b"{}", b"0")
        due_at = await bench.redis.zscore(f"{keys.prefix}due:{lane}", sent)
        assert due_at is not None
        assert due_at <= await now_ms(bench.redis), "for the next worker, at once"
        for pattern in (keys.lock("*"), ambiguous_key(keys, "*")):
            assert not [key async for key in bench.redis.scan_iter(pattern)]
        assert await bench.redis.zcard(keys.inflight) == 0
        assert not encord_of(bench).creations.is_full


async def test_a_creation_that_is_cancelled_while_it_waits_for_its_turn_is_never_sent(
    bench: Bench, stub: StubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody wants it any more, and a training costs money."""
    monkeypatch.setattr("worker.queue.ledger.rate_limits.LATE_SECONDS", math.inf)
    redis, keys = bench.redis, bench.ledger.keys
    sent = await bench.send("create_model", CREATE)
    async with one_turn_in_hours(bench, stub):

        async def waits() -> bool:
            return bool(await redis.hget(keys.command(sent), "p"))

        async with running_runner(bench, concurrency=2, lease_seconds=0.1) as runner:
            renewing = asyncio.create_task(runner.renew())
            await until(waits)
            await cancel(redis, keys, sent, retention_seconds=60, reply_retention_seconds=60)

            async def is_over() -> bool:
                return not runner.running

            await until(is_over)
            await end_tasks([renewing])
        assert [each.method for each in stub.recorded] == ["GET"]
        assert not [key async for key in redis.scan_iter(ambiguous_key(keys, "*"))]
        assert await redis.zcard(keys.inflight) == 0
        assert not encord_of(bench).creations.is_full
    assert await bench.states(sent) == ["accepted", "cancelled"]


async def test_a_run_is_not_dropped_for_an_earlier_one_of_its_command_that_goes_on(
    bench: Bench, stub: StubApi
) -> None:
    """A process whose lease has lapsed may claim the same command once more, as after a pause."""
    redis, keys = bench.redis, bench.ledger.keys
    model = model_of(7)
    created = replace(reply(200, orjson.dumps(model)), delay_seconds=3)
    found = replace(reply(200, orjson.dumps({"results": [model]})), delay_seconds=0.5)
    stub.answers.extend([NO_MODELS, created, found])
    sent = await bench.send("create_model", CREATE)

    async def phase_is(wanted: bytes, requests: int) -> bool:
        phase = await redis.hget(keys.command(sent), "h")
        return phase == wanted and len(stub.recorded) == requests

    async with running_runner(bench, concurrency=2, lease_seconds=0.1) as runner:
        renewing = asyncio.create_task(runner.renew())
        await until(partial(phase_is, b"intended", 2))

        async def is_in_doubt() -> bool:
            # A renewal may come between this and the claim, and put it off again.
            await redis.zadd(keys.due_interactive, {sent: 0})
            runner.wake()
            return await phase_is(b"in_doubt", 2)

        await until(is_in_doubt)
        await redis.zadd(keys.due_interactive, {sent: 0})
        runner.wake()
        await until_ended(bench, sent)
        await end_tasks([renewing])
    assert await bench.states(sent) == ["accepted", "in_doubt", "succeeded"]
    assert [each.method for each in stub.recorded] == ["GET", "POST", "GET"]


async def test_a_creation_that_waits_for_its_turn_without_its_lease_is_left_to_who_has_that(
    bench: Bench, stub: StubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent later, it would be a second one where a person has said that nothing was created."""
    monkeypatch.setattr("worker.queue.ledger.rate_limits.LATE_SECONDS", math.inf)
    redis, keys = bench.redis, bench.ledger.keys
    other = replace(bench)
    sent = await bench.send("create_model", CREATE)

    async def waits() -> bool:
        return bool(await redis.hget(keys.command(sent), "p"))

    async with one_turn_in_hours(bench, stub):
        async with running_runner(bench, concurrency=2, lease_seconds=0.1) as runner:
            await until(waits)
            finish = await other.attempt(sent)
            assert finish is not None
            assert finish.state == "in_doubt"
            renewing = asyncio.create_task(runner.renew())

            async def is_over() -> bool:
                return not runner.running

            await until(is_over)
            await end_tasks([renewing])
        assert not encord_of(bench).creations.is_full
    assert [each.method for each in stub.recorded] == ["GET"]
    stub.answers.extend([NO_MODELS, reply(200, orjson.dumps(model_of(7)))])
    assert (await other.end(sent))["type"] == "create_model.succeeded"
    assert [each.method for each in stub.recorded] == ["GET", "GET", "POST"]
    assert not await redis.exists(unsent_key(keys, sent))
    assert not [key async for key in redis.scan_iter(ambiguous_key(keys, "*"))]


async def test_what_is_created_for_a_command_that_is_cancelled_meanwhile_is_named_in_the_log(
    bench: Bench, stub: StubApi
) -> None:
    """Its event came before it, and a training that nobody knows of costs money to its end."""
    redis, keys = bench.redis, bench.ledger.keys
    created = reply(200, orjson.dumps(model_of(7)))
    stub.answers.extend([NO_MODELS, replace(created, delay_seconds=0.2)])
    sent = await bench.send("create_model", CREATE)
    run = bench.begin(await bench.claim(sent))
    with capture_logs() as logs:
        running = asyncio.create_task(bench.executor.carry_out(run))

        async def is_sent() -> bool:
            return len(stub.recorded) == 2

        await until(is_sent)
        await cancel(redis, keys, sent, retention_seconds=60, reply_retention_seconds=60)
        with pytest.raises(FencedError):
            await running
    (told,) = (each for each in logs if each["event"] == "creation.unwanted")
    assert told["uuid"] == str(UUID(int=7))
    assert await bench.states(sent) == ["accepted", "cancelled"]


@pytest.mark.parametrize("status", [400, 429])
async def test_a_refusal_that_comes_after_the_lease_was_lost_ends_the_doubt_of_who_has_it(
    bench: Bench, stub: StubApi, status: int
) -> None:
    """A training's would last for seven days, and its deadline ends it as unknown."""
    stub.answers.extend([NO_MODELS, replace(reply(status), delay_seconds=0.3)])
    sent = await bench.send("create_model", CREATE)
    running = asyncio.create_task(bench.executor.carry_out(bench.begin(await bench.claim(sent))))

    async def is_sent() -> bool:
        return len(stub.recorded) == 2

    await until(is_sent)
    finish = await bench.attempt(sent)
    assert finish is not None
    assert finish.state == "in_doubt"
    with pytest.raises(FencedError):
        await running
    stub.answers.extend([NO_MODELS, reply(200, orjson.dumps(model_of(7)))])
    assert (await bench.end(sent))["type"] == "create_model.succeeded"
    assert [each.method for each in stub.recorded] == ["GET", "POST", "GET", "POST"]


class LosingIntents(Ledger):
    """A ledger whose reply to an intent is lost, and comes back once another has the command."""

    meanwhile: Callable[[], Awaitable[object]]

    async def checkpoint(self, *args: Any, **options: Any) -> tuple[CheckpointStatus, str]:
        told = await super().checkpoint(*args, **options)
        if options.get("phase") is Phase.INTENDED:
            await self.meanwhile()
            raise RedisConnectionError("the reply is lost")
        return told


async def test_an_intent_whose_reply_was_lost_is_no_doubt_to_who_has_its_command_by_then(
    bench: Bench, stub: StubApi
) -> None:
    """Redis was away for longer than a lease: nothing was sent, and only the first one knows."""
    losing = LosingIntents(
        bench.redis,
        bench.ledger.keys,
        lease_seconds=30,
        retention_seconds=3600,
        reply_retention_seconds=3600,
    )
    sent = await bench.send("create_model", CREATE)
    losing.meanwhile = partial(bench.attempt, sent)
    run = bench.begin(await bench.claim(sent))
    run.dependencies = replace(run.dependencies, ledger=losing)
    with pytest.raises(FencedError):
        await bench.executor.carry_out(run)
    assert await bench.states(sent) == ["accepted", "in_doubt"]
    stub.answers.extend([NO_MODELS, reply(200, orjson.dumps(model_of(7)))])
    await bench.attempt(sent)
    assert await bench.states(sent) == ["accepted", "in_doubt", "succeeded"]
    assert [each.method for each in stub.recorded] == ["GET", "GET", "POST"]


@pytest.mark.parametrize("is_sent", [True, False])
async def test_a_creation_whose_row_someone_wrote_over_meanwhile_ends(
    bench: Bench, stub: StubApi, monkeypatch: pytest.MonkeyPatch, *, is_sent: bool
) -> None:
    """It would keep its slot, and each stop waiting, for as long as the worker lives."""
    monkeypatch.setattr("worker.queue.ledger.rate_limits.LATE_SECONDS", math.inf)
    created = reply(200, orjson.dumps(model_of(7)))
    stub.answers.extend([NO_MODELS, replace(created, delay_seconds=0.3)])
    sent = await bench.send("create_model", CREATE)
    limits = nullcontext() if is_sent else one_turn_in_hours(bench, stub)
    async with limits, asyncio.timeout(30):
        run = bench.begin(await bench.claim(sent))
        running = asyncio.create_task(bench.executor.carry_out(run))

        async def is_under_way() -> bool:
            return run.changing and (len(stub.recorded) == 2 or run.waits_for_turn)

        await until(is_under_way)
        await bench.redis.delete(bench.ledger.keys.command(sent))
        await bench.redis.set(bench.ledger.keys.command(sent), "someone's")
        if not is_sent:
            running.cancel()
        with pytest.raises(FencedError):
            await running
    assert not encord_of(bench).creations.is_full
