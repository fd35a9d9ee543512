"""Pauses a lane in which nearly everything fails, as the ends of runs tell, and resumes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.models import RowState
from worker.queue.ledger.outage import ONCE

if TYPE_CHECKING:
    from schemas.enums import Priority
    from worker.queue.ledger.lanes import FailureRateMonitor, Lanes
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import RunResult


class LanePauses:
    """What one process knows of the pauses of lanes, and does about them.

    Attributes:
        paused: the lanes that were paused when something was claimed last.

    Args:
        lanes: where a lane is paused and resumed.
        share: tells when a lane should be paused.
        probe_seconds: how often a paused lane lets a command through.
    """

    def __init__(
        self, ledger: Ledger, lanes: Lanes, share: FailureRateMonitor, probe_seconds: float
    ) -> None:
        self.paused: frozenset[Priority] = frozenset()
        self._telemetry = ledger.telemetry
        self._outage = ledger.outage
        self._lanes = lanes
        self._share = share
        self._probe_seconds = probe_seconds

    async def judge(self, finish: RunResult) -> None:
        """Judges by a recorded end how its lane does.

        A lane in which nearly everything fails is paused, and resumed when its probe succeeds.
        """
        if not (finish.state.ended or _began_waiting(finish)) or finish.late:
            return
        lane = finish.lease.lane
        failed = finish.state is RowState.FAILED
        try:
            if failed and lane not in self.paused and self._share.count(lane, failed=True):
                self._telemetry.lane_paused(lane, "nearly everything in it fails")
                await self._lanes.pause(
                    lane, "nearly everything in it fails", self._probe_seconds, finish.failure
                )
            elif not failed:
                self._share.count(lane, failed=False)
                if lane in self.paused:
                    self._telemetry.lane_resumed(lane)
                    await self._lanes.resume(lane)
                    # Hundreds may succeed before the next claim tells it.
                    self.paused -= {lane}
        except RETRYABLE_REDIS_ERRORS as exc:
            self._outage.failed(ONCE, exc)


def _began_waiting(finish: RunResult) -> bool:
    """Tells whether a probe began what it waits for: its lane works, its end may be days away."""
    waits = finish.state is RowState.POLLING
    return finish.lease.probe and waits and finish.lease.state is not RowState.POLLING
