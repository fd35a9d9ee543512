"""What Redis itself lets a worker know of its readiness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from schemas.enums import Priority
from worker.embedded import EmbeddedRedis
from worker.monitoring.checks import lanes_check, redis_check, redis_trouble
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys
from worker.queue.ledger.lanes import Lanes

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis


async def test_a_redis_that_takes_writes_is_well_and_nothing_is_left_there(
    redis: Redis, keys: Keys
) -> None:
    assert await redis_check(redis, keys)() == ""
    assert not await redis.exists(keys.trial)


async def test_a_redis_that_is_away_or_takes_no_writes_is_told_apart(tmp_path: Path) -> None:
    keys = Keys("one")
    away = connect("redis://127.0.0.1:1")
    assert await redis_trouble(away, keys) == "can't be reached"
    await away.aclose()
    with EmbeddedRedis(tmp_path) as server:
        redis = connect(server.url)
        await redis.config_set("min-replicas-to-write", "1")
        told = await redis_trouble(redis, keys)
        assert told.startswith("takes no writes: too few replicas are connected")
        await redis.config_set("min-replicas-to-write", "0")
        # What a user may not do is no trouble of the server; `doctor` tells of it.
        await redis.acl_setuser("reader", enabled=True, nopass=True, commands=["+get"], keys=["*"])
        reader = connect(f"redis://reader:x@127.0.0.1:{server.port}/0")
        assert await redis_trouble(reader, keys) == ""
        await reader.aclose()
        await redis.aclose()


@pytest.mark.parametrize(
    ("code", "is_ours"),
    [("not_authenticated", True), ("not_authorised", True), ("not_found", False), ("", False)],
)
async def test_only_a_lane_that_is_paused_for_the_key_is_the_workers_matter(
    redis: Redis, keys: Keys, code: str, *, is_ours: bool
) -> None:
    check = lanes_check(redis, keys)
    assert await check() == ""
    await Lanes(redis, keys).pause(Priority.BULK, "all fails", 30, code)
    assert await check() == ("paused, for the API refuses us: bulk" if is_ours else "")
    if is_ours:
        await Lanes(redis, keys).pause(Priority.INTERACTIVE, "all fails", 30, code)
        assert await check() == "paused, for the API refuses us: interactive, bulk"
