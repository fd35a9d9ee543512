"""Rules of the connections to Redis themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.failover import running_pair
from worker.queue.ledger.connection import connect
from worker.queue.ledger.kept_connection import KeptConnection

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis


async def test_a_connection_that_was_idle_for_long_is_asked_for_a_sign_of_life(
    redis: Redis, redis_url: str
) -> None:
    """What lies between may have forgotten it: a command would wait for its timeout in vain."""
    client = connect(redis_url)
    try:
        await client.get("a")
        (connection,) = client.connection_pool._available_connections
        for next_check, pings in ((connection.next_health_check, 0), (0.0, 1)):
            await redis.config_resetstat()
            connection.next_health_check = next_check
            await client.get("a")
            told = await redis.info("commandstats")
            assert told.get("cmdstat_ping", {"calls": 0})["calls"] == pings
    finally:
        await client.aclose()


@pytest.mark.parametrize("is_kept", [False, True], ids=["of the pool", "kept"])
async def test_what_was_the_primary_refuses_a_connection_once(
    tmp_path: Path, is_kept: bool
) -> None:
    """A planned failover closes no connection, and the replica would refuse it for ever."""
    with running_pair(tmp_path) as pair:
        client = connect(pair.url)
        script = client.register_script("#!lua\nreturn redis.call('SET', KEYS[1], 1)")
        kept = KeptConnection(client)

        async def write() -> None:
            await (kept.run(script, ["a"], []) if is_kept else script(keys=["a"]))

        try:
            await write()
            pair.fail_over()
            with pytest.raises(ReadOnlyError):
                await write()
            await write()
        finally:
            await kept.close()
            await client.aclose()


async def test_a_kept_connection_is_left_too_once_another_was_forgotten(tmp_path: Path) -> None:
    """It would else wait in vain by itself, as long as the one that told it."""
    with running_pair(tmp_path) as pair:
        client = connect(pair.url)
        client.connection_pool.connection_kwargs["socket_timeout"] = 0.3
        script = client.register_script("#!lua\nreturn 1")
        kept = KeptConnection(client)
        try:
            await kept.run(script, [], [])
            await client.ping()
            pair.forget()
            with pytest.raises(RedisTimeoutError):
                await client.ping()
            assert await kept.run(script, [], []) == 1
        finally:
            await kept.close()
            await client.aclose()
