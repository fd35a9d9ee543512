"""Rules of what runs in a process: nothing is kept of what has ended."""

from __future__ import annotations

import asyncio

from schemas.enums import Priority
from tests.unit.queue.pool.leases import lease_of
from worker.queue.log_listener import LOGS
from worker.queue.pool.runs import Runs


async def test_of_a_run_that_has_ended_nothing_is_left() -> None:
    """Of each a worker would keep a little for ever."""
    runs = Runs(LOGS)
    lease = lease_of(Priority.BULK)
    task = asyncio.create_task(asyncio.sleep(0))
    runs.add(task, lease)
    assert runs.has(lease.row_id)
    assert runs.is_under_way(lease)
    await task
    assert runs.remove(task) is lease
    assert (len(runs), runs.leases) == (0, [])
    assert not runs.has(lease.row_id)
    assert not runs.is_under_way(lease)
