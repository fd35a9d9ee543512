"""Rules of the bridge from lists: it waits for nothing while one of its lists has more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from worker.queue.intake.list_bridge import ListForwarder, ListSource

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

PATIENCE_SECONDS = 30
PRIORITIES = range(3)


@pytest.mark.parametrize("priority", PRIORITIES)
async def test_while_less_urgent_messages_come_none_waits_for_an_urgent_one(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, priority: int
) -> None:
    """Else a full list of them would be emptied by one batch in two seconds."""
    monkeypatch.setattr("worker.queue.intake.list_bridge.BLOCK_MILLISECONDS", 60_000)
    pushed = ListSource.celery(keys)
    await redis.lpush(pushed.low_names[priority], "a")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await ListForwarder(redis, keys, pushed, batch=1).move_once()
    assert await redis.xlen(keys.bulk_commands) == 1
