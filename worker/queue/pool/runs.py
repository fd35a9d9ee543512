"""What runs in one process, and by which leases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.commands import Command
    from worker.queue.ledger.models import Lease
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
        """The leases by which they run."""
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

    def set_context(self, task: asyncio.Task[None] | None, run: RunContext[Command]) -> None:
        """Keeps the context of a run, which knows whether it can be stopped."""
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
