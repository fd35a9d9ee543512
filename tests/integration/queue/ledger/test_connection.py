"""Rules of the connections to Redis themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.failover import running_pair
from worker.queue.ledger.connection import connect

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


async def test_what_was_the_primary_refuses_a_connection_once(tmp_path: Path) -> None:
    """A planned failover closes no connection, and the replica would refuse it for ever."""
    with running_pair(tmp_path) as pair:
        client = connect(pair.url)
        script = client.register_script("#!lua\nreturn redis.call('SET', KEYS[1], 1)")
        try:
            await script(keys=["a"])
            pair.fail_over()
            with pytest.raises(ReadOnlyError):
                await script(keys=["a"])
            await script(keys=["a"])
        finally:
            await client.aclose()


async def test_a_connection_at_rest_is_left_too_once_another_was_forgotten(tmp_path: Path) -> None:
    """It would else wait in vain by itself, as long as the one that told it."""
    with running_pair(tmp_path) as pair:
        client = connect(pair.url)
        client.connection_pool.connection_kwargs["socket_timeout"] = 0.3
        try:
            await asyncio.gather(client.ping(), client.ping())
            assert len(client.connection_pool._available_connections) == 2
            pair.forget()
            with pytest.raises(RedisTimeoutError):
                await client.ping()
            assert await asyncio.gather(client.ping(), client.ping())
        finally:
            await client.aclose()
