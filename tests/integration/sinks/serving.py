"""The sinks of a test, at work."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from worker.integrations.follower_store import follower_status
from worker.sinks.delivery_policy import DeliveryPolicy
from worker.sinks.keys import follower_name
from worker.sinks.service import SinkService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from worker.integrations.sink_config import SinkConfig
    from worker.queue.ledger.keys import Keys

QUICK: Final = DeliveryPolicy(
    first_seconds=0.1,
    longest_seconds=0.5,
    probe_seconds=0.1,
    longest_probe_seconds=0.3,
)


@asynccontextmanager
async def serving(
    redis: Redis, keys: Keys, *configs: SinkConfig, policy: DeliveryPolicy = QUICK
) -> AsyncIterator[None]:
    """Runs sinks that lead once this is entered."""
    async with running(redis, keys, *configs, policy=policy):
        async with asyncio.timeout(60):
            for each in configs:
                while not await leads(redis, keys, each.name):
                    await asyncio.sleep(0.01)
        yield


@asynccontextmanager
async def running(
    redis: Redis, keys: Keys, *configs: SinkConfig, policy: DeliveryPolicy = QUICK
) -> AsyncIterator[None]:
    """Runs sinks, which may not lead yet."""
    stop = asyncio.Event()
    service = SinkService(redis, keys, {each.name: each for each in configs}, policy=policy)
    task = asyncio.create_task(service.run(stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(60):
            await task


async def leads(redis: Redis, keys: Keys, sink: str) -> bool:
    status = await follower_status(redis, keys, follower_name(sink))
    return bool(status and status.leader)
