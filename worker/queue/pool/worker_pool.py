"""Runs claimed commands side by side on one loop, a slot for each.

A drain is the licence to claim: while one is open, every slot that falls free is filled again
from the ledger. It is a Celery task that lasts a time slice; the runs themselves outlive it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog
from structlog.contextvars import bind_contextvars

from schemas.enums import Priority
from schemas.parsing import InvalidCommandError
from trainmaster_client.steps import passes
from worker.errors import FencedError
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.outage import ONCE
from worker.queue.ledger.redis_retry import FIRST_PAUSE_SECONDS
from worker.queue.pool.lease_renewal import LeaseRenewal
from worker.queue.pool.run_start import hears_runs, start_of
from worker.queue.pool.runs import Runs
from worker.queue.pool.settling import MOST_IN_A_SCRIPT, fields_of
from worker.queue.telemetry import context_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schemas.commands import Command
    from worker.queue.circuit_breaker import CircuitBreaker
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease, NewCommand, RunResult
    from worker.queue.pool.executor import Executor
    from worker.queue.pool.lane_pauses import LanePauses
    from worker.queue.pool.settling import Settler
    from worker.queue.pool.slots import Slots
    from worker.queue.run_context import RunContext

log = structlog.get_logger(__name__)

# So long free slots are gathered, to be filled by one script; whoever is due waits no longer.
GATHER_SECONDS = 0.02
# While more ends of a lane wait than a script records nothing of it is claimed, or leases would
# lapse before they are recorded; it is looked so often whether that is over.
SETTLE_PAUSE_SECONDS = 0.02
CLOSE_PAUSE_SECONDS = 0.2
CLAIM_PAUSE_SECONDS = 0.01
# What could not be recorded by then is run again once its lease has ended.
SETTLE_SECONDS = 5.0
BREAKER_PAUSE_SECONDS = 0.5
# Enough that a run for which Redis closes each connection keeps nobody busy.
LOST_PAUSE_SECONDS = 1.0
# A hold stands in Redis and is looked at so often: what a person lifts there goes on at once.
HOLD_LOOK_SECONDS = 0.5


class WorkerPool:
    """Claims what is due for the slots of one process, and runs it.

    Attributes:
        slots: what runs, and what may run besides.

    Args:
        pauses: told which lanes are paused.
        settler: records how runs ended.
        lease_seconds: leases of runs are renewed every third of it.
    """

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        ledger: Ledger,
        executor: Executor,
        breaker: CircuitBreaker,
        *,
        slots: Slots,
        pauses: LanePauses,
        settler: Settler,
        lease_seconds: float,
    ) -> None:
        self.slots = slots
        self._ledger = ledger
        self._executor = executor
        self._telemetry = executor.dependencies.telemetry
        self._hears_runs = hears_runs(self._telemetry)
        self._breaker = breaker
        self._pauses = pauses
        self._settler = settler
        self._lease_seconds = lease_seconds
        self._runs = Runs(self._telemetry)
        self._renewal = LeaseRenewal(ledger, self._runs, settler, lease_seconds)
        self._held_until = 0.0
        self._signal = asyncio.Event()
        self._draining = False
        self._stopping = asyncio.Event()
        self._more = False
        # By the last claim, for too many of its ends wait.
        self._bulk_left_out = False
        # Ends of suspects, as long as they may not be recorded yet; by the last claim, for that.
        self._suspect_ends: list[RunResult] = []
        self._suspects_left_out = False

    @property
    def can_claim(self) -> bool:
        """Whether what is due now may be claimed now."""
        is_behind = self._settler.is_behind(Priority.INTERACTIVE)
        return not (self.slots.is_full or is_behind or self._held_seconds())

    @property
    def running(self) -> int:
        """How many commands run."""
        return len(self._runs)

    @property
    def unsettled(self) -> int:
        """How many ends wait to be recorded."""
        return len(self._settler.waiting)

    @property
    def draining(self) -> bool:
        """Whether a drain is open, so that `wake` suffices to have a command run."""
        return self._draining

    def wake(self) -> None:
        """Says that something is due."""
        self._more = True
        self._signal.set()

    @property
    def takes_turns(self) -> bool:
        """Whether both lanes share one slot, so that neither can have one of its own."""
        return self.slots.takes_turns

    def reserve(self, commands: Sequence[NewCommand]) -> int:
        """Keeps slots for those that may be claimed as they are accepted; returns for how many.

        They are the first of these. `take` ends the reservation, whatever came of it.
        """
        if self._stopping.is_set() or not self.can_claim:
            return 0
        return self.slots.reserve(commands)

    def take(self, reserved: int, leases: Iterable[Lease], regained: Iterable[Lease] = ()) -> None:
        """Runs what was claimed as it was accepted.

        Args:
            reserved: what `reserve` returned.
            leases: of commands that nobody has begun.
            regained: of those that may run here already, or have run.
        """
        self.slots.release(reserved)
        for lease in leases:
            # Where its lane is paused nothing is claimed so; no claim may come to tell it.
            if lease.lane in self._pauses.paused:
                self._pauses.paused -= {lease.lane}
            self._start(lease)
        for lease in regained:
            if not self._has(lease.row_id):
                self._start(lease)
        if self._more:
            self._signal.set()

    def _has(self, row_id: str) -> bool:
        """Tells whether a command runs here, or has an end that is not recorded yet."""
        return self._runs.has(row_id) or any(
            finish.lease.row_id == row_id for finish in self._settler.waiting
        )

    def stop(self) -> None:
        """Claims nothing more; open drains end."""
        self._stopping.set()
        self._signal.set()

    async def drain(self, slice_seconds: float) -> bool:
        """Fills slots with what is due for a time slice; returns whether more was due then.

        A second drain of the same process returns at once.
        """
        if self._draining or self._stopping.is_set():
            return False
        self._draining = True
        self._more = True
        end = time.monotonic() + slice_seconds
        try:
            while not self._stopping.is_set():
                rest = end - time.monotonic()
                if rest <= 0:
                    return self._more
                self._signal.clear()
                held = self._held_seconds()
                if self._more and self.can_claim:
                    await self._gather()
                    if not self._stopping.is_set():
                        await self._fill()
                    continue
                # While the intake is behind, what it claims itself wakes nobody for bulk ones; nor
                # does an end that is recorded.
                is_behind = (
                    self._bulk_left_out
                    or self._suspects_left_out
                    or self._settler.is_behind(Priority.INTERACTIVE)
                )
                pause = SETTLE_PAUSE_SECONDS if is_behind else self.slots.bulk_pause_seconds
                if not await self._signalled(min(rest, held or rest, pause or rest)) and pause:
                    self._more = True
        finally:
            self._draining = False
        return False

    async def _signalled(self, seconds: float) -> bool:
        """Waits for the signal; returns whether it came in time."""
        # Not by `wait_for`, which makes a task of each wait before Python 3.12.
        try:
            async with asyncio.timeout(seconds):
                await self._signal.wait()
        except TimeoutError:
            return False
        return True

    async def _gather(self) -> None:
        """Waits a moment for more free slots where others run, for a script costs the same."""
        end = time.monotonic() + GATHER_SECONDS
        while not self.slots.is_worth_a_claim and self._runs and not self._stopping.is_set():
            if not await self._signalled(end - time.monotonic()):
                return
            self._signal.clear()

    async def _fill(self) -> None:
        slots = self.slots
        asked = min(slots.free, MOST_IN_A_SCRIPT)
        if asked < 1:
            # What was accepted while slots were gathered has them.
            return
        self._bulk_left_out = self._settler.is_behind(Priority.BULK)
        self._suspects_left_out = self._awaits_suspect()
        bulk_first, bulk_most = (0, 0) if self._bulk_left_out else slots.bulk_bounds()
        self._more = False
        claim = None
        slots.keep(asked)
        try:
            claim = await self._ledger.claim(
                asked,
                bulk_first=bulk_first,
                bulk_most=bulk_most,
                suspects=0 if slots.suspects or self._suspects_left_out else 1,
                most_bytes=slots.free_bytes,
                bulk_bytes=slots.free_bulk_bytes,
            )
        except RETRYABLE_REDIS_ERRORS as exc:
            self._ledger.outage.failed("claim", exc)
        finally:
            slots.release(asked)
        if claim is None:
            # Once: the drain may have to end meanwhile.
            await asyncio.sleep(FIRST_PAUSE_SECONDS)
            return
        self._ledger.outage.worked("claim")
        # A full answer may hide more; so may one that the bulk lane's bound cut short.
        leases = claim.leases
        self._pauses.paused = claim.paused
        self._more = self._more or (
            len(leases) == asked or claim.held_seconds > 0 or claim.skipped > 0 or claim.cut
        )
        self._held_until = time.monotonic() + min(claim.held_seconds, HOLD_LOOK_SECONDS)
        for lease in leases:
            self._start(lease)

    def _awaits_suspect(self) -> bool:
        """Tells whether a suspect has ended, and its end is not recorded yet.

        The next one may kill this process at once: the end would be lost, and count as one more
        claim without an end of a command that kills nobody.
        """
        if self._suspect_ends:
            under_way = {id(finish) for finish in self._settler.under_way}
            self._suspect_ends = [each for each in self._suspect_ends if id(each) in under_way]
        return bool(self._suspect_ends)

    def _held_seconds(self) -> float:
        """For how long nothing may be claimed: the API asked for it, or it is in trouble."""
        if self._breaker.is_open or self._executor.is_refused:
            return BREAKER_PAUSE_SECONDS
        return max(0.0, self._held_until - time.monotonic())

    def _start(self, lease: Lease) -> None:
        if self._runs.is_under_way(lease):
            # Nothing fences two runs of one lease from each other: both would create something.
            return
        task = asyncio.create_task(self._run(lease))
        self._runs.add(task, lease)
        self.slots.count(lease, 1)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        lease = self._runs.remove(task)
        self.slots.count(lease, -1)
        # What a bound of the lane held back may be due now.
        self._more = self._more or lease.lane is Priority.BULK or lease.suspect
        if self._more or self._stopping.is_set():
            self._signal.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("run.broken", **fields_of(lease), exc_info=error)

    def _begin(self, lease: Lease) -> RunContext[Command] | None:
        """Returns the run of a lease; None, and its end if there is one, where it can't be read."""
        try:
            run = self._executor.begin(lease)
        except Exception as exc:
            bind_contextvars(**fields_of(lease))
            if not isinstance(exc, InvalidCommandError):
                log.exception("run.defect")
            unread = self._executor.unreadable(lease, exc)
            if unread is not None:
                self._settler.add(unread)
            return None
        # Each run is a task of its own: whatever is logged within it says whose line it is.
        bind_contextvars(command_id=lease.command_id, **context_of(run.command))
        if lease.late_seconds is not None:
            self._telemetry.polled(lease.late_seconds)
        if self._hears_runs:
            self._telemetry.run_begun(start_of(run))
        self._runs.set_context(asyncio.current_task(), run)
        return run

    async def _run(self, lease: Lease) -> None:
        run = self._begin(lease)
        if run is None:
            return
        finish = None
        try:
            finish = await self._carry_out(run)
        finally:
            if self._hears_runs:
                self._telemetry.run_over(finish is not None)
        if finish is not None:
            if lease.suspect:
                self._suspect_ends.append(finish)
            self._settler.add(finish)

    async def _carry_out(self, run: RunContext[Command]) -> RunResult | None:
        """Returns how a run ended; None where there is nothing to record.

        One in whose middle Redis was lost is carried out anew a moment after it is back. One that a
        key refuses waits until that is put right, and is tried each time a lease would have ended.
        """
        lease = run.lease
        try:
            return await self._executor.carry_out(run)
        except FencedError:
            self._telemetry.fenced(lease.command_id, lease.text, lease.token)
            return None
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
            return self._executor.hand_back(run)
        except RETRYABLE_REDIS_ERRORS as exc:
            if passes(exc):
                log.debug("run.ledger_lost", kind=type(exc).__name__)
                self._ledger.outage.failed(ONCE, exc)
                return self._executor.put_off(run, LOST_PAUSE_SECONDS)
            # A key of its own, most likely: Redis is there, and others go on.
            log.warning("run.refused", error=" ".join(str(exc).split()))
            return self._executor.put_off(run, self._lease_seconds)
        except Exception as exc:
            log.exception("run.defect")
            return self._executor.defect(run, exc)

    async def settle(self, lane: Priority) -> None:
        """Records how runs of one lane ended, until it is cancelled."""
        await self._settler.run(lane)

    async def renew(self) -> None:
        """Renews the leases of all runs until it is cancelled; drops runs that lost theirs."""
        await self._renewal.run()

    async def close(self, grace_seconds: float) -> None:
        """Ends all runs: changes are let finish, all else is handed back; then settles.

        Args:
            grace_seconds: how long calls that change something may still take.
        """
        self.stop()
        end = time.monotonic() + grace_seconds
        # A claim that is under way brings leases, which are to be handed back too.
        while (self._runs or self._draining) and (rest := end - time.monotonic()) > 0:
            # More than once: a run whose change is done goes on to what need not be waited for, and
            # one that has not begun would end without a word.
            if self._runs:
                await self._runs.stop(min(rest, CLOSE_PAUSE_SECONDS))
            else:
                await asyncio.sleep(min(rest, CLAIM_PAUSE_SECONDS))
        await self._settler.flush(SETTLE_SECONDS)
