"""Rules of the renewal: it holds what is this process' own, and raises no false alarm."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.integration.intake_acts import until
from tests.integration.ledger_acts import accept_one, lease_one, open_group
from tests.integration.settlers import settler_of
from tests.integration.worker_bench import end_tasks
from worker.queue.ledger.models import RowState, RunResult
from worker.queue.pool import lease_renewal
from worker.queue.pool.lease_renewal import LeaseRenewal
from worker.queue.pool.runs import Runs
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    import pytest
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


async def test_of_more_leases_than_go_into_one_script_all_are_renewed(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_renewal, "MOST_IN_A_SCRIPT", 2)
    await open_group(redis, keys)
    for number in range(5):
        await accept_one(redis, ledger, f"c{number}")
    leases = (await ledger.claim(5, bulk_most=0)).leases
    told = Lost()
    runs = Runs(told)
    tasks = [asyncio.create_task(asyncio.Event().wait()) for _ in leases]
    for task, lease in zip(tasks, leases, strict=True):
        runs.add(task, lease)  # type: ignore[arg-type]
    # One of the last is another's by now.
    await redis.hset(keys.command("c4"), "n", "9")
    others = ["c0", "c1", "c2", "c3"]
    before = [await redis.zscore(keys.due_interactive, each) for each in others]

    async def all_others_are_renewed() -> bool:
        due = [await redis.zscore(keys.due_interactive, each) for each in others]
        return all(now != then for now, then in zip(due, before, strict=True))

    renewing = asyncio.create_task(LeaseRenewal(ledger, runs, settler_of(ledger), 0.03).run())
    await until(all_others_are_renewed)
    assert told.ids == ["c4"]
    await end_tasks([renewing, *tasks])
