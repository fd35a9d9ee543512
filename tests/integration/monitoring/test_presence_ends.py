"""What a process told of itself is taken back when it stops."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from worker.monitoring.monitor import Monitor
from worker.monitoring.presence import Presence
from worker.queue.ledger.workers import Workers

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.monitoring.presence import Watched
    from worker.queue.ledger.keys import Keys


async def test_a_process_that_stops_is_gone_at_once(redis: Redis, keys: Keys) -> None:
    watched = SimpleNamespace(
        pool=SimpleNamespace(running=0),
        slots=1,
        breaker=SimpleNamespace(is_open=False),
        monitor=Monitor(None, None),
    )
    workers = Workers(redis, keys)
    presence = Presence(workers, "one", cast("Watched", watched), time.time, ())
    telling = asyncio.create_task(presence.keep())
    async with asyncio.timeout(30):
        while not await workers.list():
            await asyncio.sleep(0.01)
    telling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await telling
    assert await workers.list() == []
