"""Rules of the sweep: a clock of Redis that went back is mended, and only once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import LEASE_SECONDS, REPLY_SECONDS
from tests.integration.intake_acts import intake_of
from tests.integration.ledger_acts import lease_one, now_ms
from worker.clock import Clock
from worker.queue.ledger.epoch import Epoch
from worker.queue.ledger.event_retention import EventRetention
from worker.queue.ledger.models import RowState, RunResult
from worker.queue.ledger.redis_clock import RedisClock
from worker.queue.pool.sweep import Sweep

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.ledger import Ledger

HOUR_MS = 3_600_000


def sweep_of(ledger: Ledger) -> Sweep:
    redis, keys = ledger.redis, ledger.keys
    return Sweep(
        ledger,
        Epoch(redis, keys),
        RedisClock(redis, keys, lease_seconds=LEASE_SECONDS),
        Clock(),
        intake_of(redis, ledger),
        notify=lambda _: None,
        every_seconds=1,
        event_retention=EventRetention(REPLY_SECONDS, REPLY_SECONDS, 60),
        api_ahead_seconds=lambda: 0.0,
    )


async def test_what_was_due_too_late_is_moved_back_once(redis: Redis, ledger: Ledger) -> None:
    """Moved at every sweep, each retry and each poll would come at once, for ever."""
    keys = ledger.keys
    lease = await lease_one(redis, ledger)
    later = RunResult(lease, RowState.RETRYING, 1, delay_seconds=3 * HOUR_MS / 1000)
    assert await ledger.finish([later]) == [True]
    before = await redis.zscore(keys.due_interactive, "one") or 0
    # As a worker left it before the clock went back by an hour.
    await redis.set(keys.clock, f"{await now_ms(redis) + HOUR_MS} 0")
    sweep = sweep_of(ledger)
    await sweep.mind_clock()
    moved = await redis.zscore(keys.due_interactive, "one") or 0
    assert HOUR_MS * 0.9 < before - moved < HOUR_MS * 1.1
    await sweep.mind_clock()
    assert await redis.zscore(keys.due_interactive, "one") == moved
