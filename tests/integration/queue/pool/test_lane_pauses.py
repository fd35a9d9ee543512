"""Rules of who pauses a lane: failures tell that it does not work, and lateness tells nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.ledger_acts import lease_one
from worker.queue.ledger.lanes import FailureRateMonitor, Lanes
from worker.queue.ledger.models import RowState, RunResult
from worker.queue.pool.lane_pauses import LanePauses

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.ledger import Ledger

ENDS = 3


@pytest.mark.parametrize("late", [True, False])
async def test_commands_that_end_for_their_deadlines_pause_no_lane(
    redis: Redis, ledger: Ledger, *, late: bool
) -> None:
    """After a night without a worker a backlog may be late as a whole, and the API be well."""
    lease = await lease_one(redis, ledger)
    lanes = Lanes(redis, ledger.keys)
    share = FailureRateMonitor(commands=ENDS, seconds=0, share=0.5)
    pauses = LanePauses(ledger, lanes, share, probe_seconds=10)
    for _ in range(ENDS):
        await pauses.judge(RunResult(lease, RowState.FAILED, 1, late=late))
    assert bool(await lanes.paused()) is not late


async def test_a_lane_is_resumed_once_however_many_of_its_commands_succeed(
    redis: Redis, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would wait for Redis before the next end is recorded."""
    lease = await lease_one(redis, ledger)
    lanes = Lanes(redis, ledger.keys)
    await lanes.pause(lease.lane, "tests", 10)
    share = FailureRateMonitor(commands=ENDS, seconds=0, share=0.5)
    told: list[object] = []
    monkeypatch.setattr(ledger.telemetry, "lane_resumed", told.append)
    pauses = LanePauses(ledger, lanes, share, probe_seconds=10)
    pauses.paused = frozenset({lease.lane})
    for _ in range(ENDS):
        await pauses.judge(RunResult(lease, RowState.SUCCEEDED, 1))
    assert told == [lease.lane]
    assert await lanes.paused() == []
