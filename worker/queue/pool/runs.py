"""What runs in one process, and whose leases it keeps meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.pool.settling import MOST_IN_A_SCRIPT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.commands import Command
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease
    from worker.queue.pool.settling import Settler
    from worker.queue.run_context import RunContext
    from worker.queue.telemetry import Listener


class Runs:
    """The tasks that run commands, each with its lease, and with its context once that is read."""

    def __init__(self, telemetry: Listener) -> None:
        self._telemetry = telemetry
        self._by_task: dict[asyncio.Task[None], tuple[Lease, RunContext[Command] | None]] = {}
        self._ids: set[tuple[str, int]] = set()

    def __len__(self) -> int:
        return len(self._by_task)

    @property
    def leases(self) -> list[Lease]:
        """By which they run."""
        return [lease for lease, _ in self._by_task.values()]

    def is_under_way(self, lease: Lease) -> bool:
        """Tells whether a run of this very lease is among them."""
        return (lease.row_id, lease.token) in self._ids

    def has(self, row_id: str) -> bool:
        """Tells whether a run of a command is among them, by whichever lease."""
        return any(lease.row_id == row_id for lease, _ in self._by_task.values())

    def add(self, task: asyncio.Task[None], lease: Lease) -> None:
        """Adds a run that begins."""
        self._by_task[task] = (lease, None)
        self._ids.add((lease.row_id, lease.token))

    def tell(self, task: asyncio.Task[None] | None, run: RunContext[Command]) -> None:
        """Adds the context of a run, which knows whether it can be stopped."""
        if task is not None:
            self._by_task[task] = (run.lease, run)

    def remove(self, task: asyncio.Task[None]) -> Lease:
        """Removes a run that has ended; returns its lease."""
        lease, _ = self._by_task.pop(task)
        self._ids.discard((lease.row_id, lease.token))
        return lease

    def drop(self, lost: Sequence[Lease]) -> None:
        """Ends the runs of leases that are lost, but for calls that change something."""
        gone = {(lease.row_id, lease.token) for lease in lost}
        for task, (lease, run) in list(self._by_task.items()):
            is_gone = (lease.row_id, lease.token) in gone
            if is_gone and (run is None or run.can_be_stopped):
                self._telemetry.lease_lost(lease.command_id, lease.text)
                task.cancel()

    async def stop(self, seconds: float) -> None:
        """Ends what can be stopped, and waits for the end of all others, but not for longer."""
        for task, (_, run) in list(self._by_task.items()):
            if run is not None and run.can_be_stopped:
                task.cancel()
        await asyncio.wait(list(self._by_task), timeout=seconds)


class LeaseRenewal:
    """Renews the leases of runs, and of ends that are not recorded yet.

    Args:
        lease_seconds: leases are renewed every third of it.
    """

    def __init__(self, ledger: Ledger, runs: Runs, settler: Settler, lease_seconds: float) -> None:
        self._ledger = ledger
        self._runs = runs
        self._settler = settler
        self._lease_seconds = lease_seconds

    async def run(self) -> None:
        """Renews leases until it is cancelled; drops runs that lost theirs."""
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            held, replaced = self._held()
            self._runs.drop(replaced)
            try:
                for start in range(0, len(held), MOST_IN_A_SCRIPT):
                    batch = held[start : start + MOST_IN_A_SCRIPT]
                    gone = await self._ledger.renew(batch)
                    self._runs.drop([lease for lease in batch if lease.row_id in gone])
            except RETRYABLE_REDIS_ERRORS as exc:
                self._ledger.outage.failed("renew", exc)
            else:
                if held:
                    self._ledger.outage.worked("renew")

    def _held(self) -> tuple[list[Lease], list[Lease]]:
        """Returns the leases of all runs and ends, and those that others of them have replaced.

        A process whose own lease has lapsed may have claimed the same command once more.
        """
        held: dict[str, Lease] = {}
        replaced: list[Lease] = []
        ends = [finish.lease for finish in self._settler.waiting]
        for lease in [*self._runs.leases, *ends]:
            other = held.get(lease.row_id)
            if other is None or other.token < lease.token:
                held[lease.row_id] = lease
            if other is not None:
                replaced.append(min(lease, other, key=lambda each: each.token))
        return list(held.values()), replaced
