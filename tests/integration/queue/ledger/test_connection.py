"""Rules of the connections to Redis themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.queue.ledger.connection import connect

if TYPE_CHECKING:
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
