"""Ends commands whose deadline passes while they wait, whatever it is that they wait for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import structlog
from structlog.contextvars import bound_contextvars

from schemas.parsing import InvalidCommandError
from trainmaster_client.steps import passes
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.redis_retry import keep_trying
from worker.queue.pool.incompatible import give_up_late
from worker.queue.pool.run_start import hears_runs, start_of
from worker.queue.pool.settling import fields_of, finish_each

if TYPE_CHECKING:
    from worker.queue.ledger.deadlines import Deadlines
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease, RunResult
    from worker.queue.pool.executor import Executor
    from worker.queue.run_context import RunContext

log = structlog.get_logger(__name__)

# What was accepted a moment ago may have a deadline before all that are known.
LONGEST_LOOK_SECONDS: Final = 1.0
MOST_IN_A_SCRIPT: Final = 256


class DeadlineWatch:
    """Looks for deadlines that have passed; takes no slot, and nothing of the API."""

    def __init__(self, ledger: Ledger, deadlines: Deadlines, executor: Executor) -> None:
        self._ledger = ledger
        self._deadlines = deadlines
        self._executor = executor
        self._hears_runs = hears_runs(ledger.telemetry)
        self._ends: list[RunResult] = []
        self._pause_seconds = LONGEST_LOOK_SECONDS

    async def watch(self) -> None:
        """Ends what is late, at its deadline, until it is cancelled."""
        while True:
            pause = await keep_trying(self._end_late, self._ledger.outage, "deadlines")
            await asyncio.sleep(pause)

    async def _end_late(self) -> float:
        """Returns in how many seconds to look again."""
        if not self._ends:
            late = await self._deadlines.claim(MOST_IN_A_SCRIPT)
            self._ends = [self._finish(lease) for lease in late.leases]
            rest = LONGEST_LOOK_SECONDS if late.next_seconds is None else late.next_seconds
            self._pause_seconds = min(LONGEST_LOOK_SECONDS, rest)
        if self._ends:
            try:
                await finish_each(self._ledger, self._ends)
            except RETRYABLE_REDIS_ERRORS as exc:
                # Recorded once Redis is back: they are claimed again only when their lease ends.
                if not passes(exc):
                    self._ends = []
                raise
            self._ends = []
        return self._pause_seconds

    def _finish(self, lease: Lease) -> RunResult:
        try:
            run = self._executor.begin(lease)
        except Exception as exc:
            if not isinstance(exc, InvalidCommandError):
                log.exception("command.unreadable", **fields_of(lease))
            return give_up_late(lease, self._executor.last_word())
        try:
            with bound_contextvars(**fields_of(lease)):
                if self._hears_runs:
                    return self._told(run)
                return self._executor.late(run)
        except Exception as exc:
            log.exception("run.end_untold", **fields_of(lease))
            return self._executor.unrecordable(lease, exc)

    def _told(self, run: RunContext[Any]) -> RunResult:
        telemetry = self._ledger.telemetry
        telemetry.run_begun(start_of(run))
        try:
            return self._executor.late(run)
        finally:
            telemetry.run_over(True)
