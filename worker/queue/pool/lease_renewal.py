"""The leases of what runs in one process are renewed, and runs that lost theirs are ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.pool.settling import MOST_IN_A_SCRIPT

if TYPE_CHECKING:
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease
    from worker.queue.pool.runs import Runs
    from worker.queue.pool.settling import Settler


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
            # A run whose end was added a moment ago is still among the runs, by the same lease.
            if other is not None and other.token != lease.token:
                replaced.append(min(lease, other, key=lambda each: each.token))
        return list(held.values()), replaced
