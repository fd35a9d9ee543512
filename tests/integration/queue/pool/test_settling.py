"""Rules of the settler: what it is given is recorded, however late; no lane waits for the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from schemas.enums import Priority
from tests.integration.intake_acts import until
from tests.integration.ledger_acts import accept_one, lease_one
from tests.integration.worker_bench import end_tasks
from worker.queue.ledger.lanes import FailureRateMonitor, Lanes
from worker.queue.ledger.models import Lease, RowState, RunResult
from worker.queue.pool.lane_pauses import LanePauses
from worker.queue.pool.settling import Settler

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@pytest.mark.parametrize("first", list(Priority))
async def test_the_ends_of_one_lane_wait_for_none_of_the_other(
    redis: Redis, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, first: Priority
) -> None:
    """A script that records hundreds of bulk ends keeps no interactive one from its event."""
    (other,) = set(Priority) - {first}
    stuck = await lease_one(redis, ledger, "stuck", lane=first)
    await accept_one(redis, ledger, "free", lane=other)
    (free,) = (await ledger.claim(10, bulk_most=10)).leases
    finish, over = ledger.finish, asyncio.Event()

    async def finish_slowly(ends: Sequence[RunResult]) -> list[bool]:
        if ends[0].lease.row_id == "stuck":
            await over.wait()
        return await finish(ends)

    monkeypatch.setattr(ledger, "finish", finish_slowly)
    settler = settler_of(ledger)
    settling = asyncio.create_task(settler.run())
    settler.add(RunResult(stuck, RowState.SUCCEEDED, 1, event=b"{}"))
    settler.add(RunResult(free, RowState.SUCCEEDED, 1, event=b"{}"))

    async def waits_alone() -> bool:
        return [end.lease.row_id for end in settler.waiting] == ["stuck"]

    await until(waits_alone)
    assert await redis.hget(ledger.keys.command("free"), "s") == b"succeeded"
    over.set()
    await settler.flush(PATIENCE_SECONDS)
    assert settler.waiting == []
    await end_tasks([settling])
