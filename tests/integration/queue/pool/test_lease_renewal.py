"""Rules of the renewal: it holds what is this process' own, and raises no false alarm."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.integration.intake_acts import until
from tests.integration.ledger_acts import lease_one
from tests.integration.settlers import settler_of
from tests.integration.worker_bench import end_tasks
from worker.queue.ledger.models import RowState, RunResult
from worker.queue.pool.lease_renewal import LeaseRenewal
from worker.queue.pool.runs import Runs
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger


class Lost(Listener):
    """Hears which commands were lost to another holder."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def lease_lost(self, command_id: str, _text: bytes) -> None:
        """Keeps the id."""
        self.ids.append(command_id)


async def test_a_run_that_ended_a_moment_ago_has_not_lost_its_lease(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Its end waits to be recorded already, and it is still among the runs, by one lease."""
    lease = await lease_one(redis, ledger)
    told, settler = Lost(), settler_of(ledger)
    runs = Runs(told)
    run = asyncio.create_task(asyncio.Event().wait())
    runs.add(run, lease)  # type: ignore[arg-type]
    settler.add(RunResult(lease, RowState.SUCCEEDED, 1, event=b"{}"))
    before = await redis.zscore(keys.due_interactive, "one")

    async def is_renewed() -> bool:
        return await redis.zscore(keys.due_interactive, "one") != before

    renewing = asyncio.create_task(LeaseRenewal(ledger, runs, settler, 0.03).run())
    await until(is_renewed)
    assert (told.ids, run.cancelling()) == ([], 0)
    await end_tasks([renewing, run])
