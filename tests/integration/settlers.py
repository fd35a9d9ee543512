"""A settler that stands alone, for tests of what it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.queue.ledger.lanes import FailureRateMonitor, Lanes
from worker.queue.pool.lane_pauses import LanePauses
from worker.queue.pool.settling import Settler

if TYPE_CHECKING:
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease, RunResult


def settler_of(ledger: Ledger) -> Settler:
    """Returns one to whom every end can be recorded, and no lane is paused."""
    share = FailureRateMonitor(commands=1000, seconds=1000, share=1)
    pauses = LanePauses(ledger, Lanes(ledger.redis, ledger.keys), share, probe_seconds=10)

    def unrecordable(lease: Lease, error: Exception) -> RunResult:
        raise AssertionError(lease, error)

    return Settler(ledger, pauses, unrecordable)
