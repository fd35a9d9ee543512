"""Rules of the settler: what it was given is recorded before a stop, however late it came."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.integration.ledger_acts import lease_one
from tests.integration.worker_bench import end_tasks
from worker.queue.ledger.lanes import FailureRateMonitor, Lanes
from worker.queue.ledger.models import Lease, RowState, RunResult
from worker.queue.pool.lane_pauses import LanePauses
from worker.queue.pool.settling import Settler

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.ledger import Ledger

PATIENCE_SECONDS = 60


def settler_of(ledger: Ledger) -> Settler:
    share = FailureRateMonitor(commands=1000, seconds=1000, share=1)
    pauses = LanePauses(ledger, Lanes(ledger.redis, ledger.keys), share, probe_seconds=10)

    def unrecordable(lease: Lease, error: Exception) -> RunResult:
        raise AssertionError(lease, error)

    return Settler(ledger, pauses, unrecordable)


async def test_an_end_of_the_last_moment_is_recorded_before_a_stop_goes_on(
    redis: Redis, ledger: Ledger
) -> None:
    """It comes when all that came before has long been recorded; unrecorded, it would run again."""
    lease = await lease_one(redis, ledger)
    settler = settler_of(ledger)
    settling = asyncio.create_task(settler.run())
    await settler.flush(PATIENCE_SECONDS)
    settler.add(RunResult(lease, RowState.SUCCEEDED, 1, event=b"{}"))
    await settler.flush(PATIENCE_SECONDS)
    assert settler.waiting == []
    assert await redis.hget(ledger.keys.command("one"), "s") == b"succeeded"
    await end_tasks([settling])
