"""`GET /v1/workers`: those that run, as they have told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import orjson

from tests.integration.ledger_acts import WORKER_STATUS
from worker.gateway.access.tokens import Scope
from worker.queue.ledger.workers import SILENT_SECONDS, TELL_SECONDS, Workers

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken
    from worker.queue.ledger.keys import Keys

STATUS = replace(WORKER_STATUS, slots_used=3, breaker_open=True)


async def now_ms(redis: Redis) -> int:
    seconds, microseconds = await redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def named(gateway: GatewayServer) -> list[str]:
    return [each["name"] for each in gateway.http.get("/v1/workers").json()["items"]]


async def test_each_worker_is_shown_as_it_told_of_itself(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    assert gateway.http.get("/v1/workers").json() == {"items": [], "demand": 0}
    workers, now = Workers(redis, keys), await now_ms(redis)
    await workers.tell(replace(STATUS, seen_ms=now))
    await workers.tell(replace(STATUS, name="also", seen_ms=now, stopping=True))
    also, first = gateway.http.get("/v1/workers").json()["items"]
    assert (also["name"], also["stopping"]) == ("also", True)
    seen = first.pop("seen_at")
    assert seen.endswith("Z")
    assert first == {
        "name": "host-1-ab",
        "host": "host",
        "pid": 1,
        "version": "1.2.3",
        "python": "3.12.1",
        "started_at": "1970-01-01T00:00:01Z",
        "slots": 20,
        "slots_used": 3,
        "loop_lag_seconds": 0.25,
        "breaker_open": True,
        "stopping": False,
    }
    await workers.leave("also")
    assert named(gateway) == ["host-1-ab"]


async def test_a_worker_that_fell_silent_is_not_shown(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    """Nor one whose word is of the future, for the clock of Redis went back since."""
    workers, now = Workers(redis, keys), await now_ms(redis)
    silent_ms = int(SILENT_SECONDS * 1000)
    assert 2 * TELL_SECONDS < SILENT_SECONDS <= 15
    told = {"lives": now - silent_ms + 3_000, "died": now - silent_ms, "later": now + 600_000}
    for name, seen_ms in told.items():
        await workers.tell(replace(STATUS, name=name, seen_ms=seen_ms))
    assert named(gateway) == ["lives"]
    await workers.forget_silent(now + 40_000)
    assert sorted(await redis.hkeys(keys.workers)) == [b"died", b"lives"]
    assert 0 < await redis.ttl(keys.workers) <= 60


async def test_what_is_no_word_of_a_worker_is_passed_over(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    """A newer version may tell more; somebody may write anything there."""
    workers, now = Workers(redis, keys), await now_ms(redis)
    await workers.tell(replace(STATUS, seen_ms=now))
    raw = cast("bytes", await cast("Awaitable[Any]", redis.hget(keys.workers, STATUS.name)))
    newer = orjson.dumps({**orjson.loads(raw), "colour": "red"})
    odd: dict[str, bytes] = {
        "newer": newer,
        "none": b"",
        "list": b"[1]",
        "text": b'"x"',
        "some": b'{"host": "h"}',
        "endless": raw.replace(b'"pid":1', b'"pid":"x"'),
    }
    await cast("Awaitable[Any]", redis.hset(keys.workers, mapping=cast("Any", odd)))
    assert named(gateway) == [STATUS.name, "newer"]
    await workers.forget_silent(now)
    assert sorted(await redis.hkeys(keys.workers)) == [STATUS.name.encode(), b"newer"]


async def test_workers_are_shown_to_those_who_may_read(
    gateway: GatewayServer, make_token: MakeToken
) -> None:
    with gateway.client(make_token(Scope.READ)) as http:
        assert http.get("/v1/workers").json() == {"items": [], "demand": 0}
    # They work on commands of every type.
    for token in (make_token(Scope.SUBMIT), make_token(Scope.READ, types=["train"])):
        with gateway.client(token) as http:
            assert http.get("/v1/workers").status_code == 403
