"""Runs claimed commands side by side on one loop, a slot for each, and settles them in batches.

A drain is the licence to claim: while one is open, every slot that falls free is filled again
from the ledger. It is a Celery task that lasts a time slice; the runs themselves outlive it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import ResponseError
from structlog.contextvars import bind_contextvars

from schemas.enums import Priority
from schemas.parsing import InvalidCommandError
from worker.batching import BatchInterval
from worker.errors import FencedError
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.models import RowState
from worker.queue.ledger.outage import ONCE
from worker.queue.ledger.redis_retry import FIRST_PAUSE_SECONDS, keep_trying, next_pause
from worker.queue.pool.run_start import hears_runs, start_of, waited_seconds
from worker.queue.pool.settling import REDIS_AWAY, fields_of, tell_settled
from worker.queue.telemetry import context_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from schemas.commands import Command
    from worker.queue.circuit_breaker import CircuitBreaker
    from worker.queue.ledger.lanes import FailureRateMonitor, Lanes
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease, NewCommand, RunResult
    from worker.queue.pool.executor import Executor
    from worker.queue.run_context import RunContext

log = structlog.get_logger(__name__)

# More in one script would hold Redis for milliseconds.
MOST_IN_A_SCRIPT = 256
# So many of a batch are claimed as they are accepted: what a script for them alone would cost more
# than it does. The rest of a larger one is for whoever has slots.
MOST_AT_ONCE = 32
# So long free slots are gathered, to be filled by one script; whoever is due waits no longer.
GATHER_SECONDS = 0.02
CLOSE_PAUSE_SECONDS = 0.2
CLAIM_PAUSE_SECONDS = 0.01
BREAKER_PAUSE_SECONDS = 0.5
# While the intake is behind, the bulk lane's share is filled so often, or runs that are over soon
# would keep the loop from reading.
BULK_PAUSE_SECONDS = 0.25
# A hold stands in Redis and is looked at so often: what a person lifts there goes on at once.
HOLD_LOOK_SECONDS = 0.5
# A run takes about four times its text: as it came, as it was read, and as it is sent.
TEXT_BYTES = 12 * 1024 * 1024
COPIES_OF_TEXT = 4
# Of these bytes bulk commands leave a part to interactive ones.
BULK_SHARE = 0.75


class WorkerPool:
    """The slots of one process.

    Args:
        concurrency: how many commands run at the same time.
        lease_seconds: leases of runs are renewed every third of it.
        lanes: where a lane is paused and resumed.
        share: tells when a lane should be paused.
        probe_seconds: how often a paused lane lets a command through.
        text_bytes: nothing is claimed while the texts of runs have so many.
        intake_is_behind: tells whether unread commands wait, among which may be interactive ones:
            reading goes before bulk runs then.
    """

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        ledger: Ledger,
        executor: Executor,
        breaker: CircuitBreaker,
        *,
        concurrency: int,
        lease_seconds: float,
        lanes: Lanes,
        share: FailureRateMonitor,
        probe_seconds: float,
        text_bytes: int = TEXT_BYTES,
        intake_is_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ledger = ledger
        self._executor = executor
        self._telemetry = executor.dependencies.telemetry
        self._hears_claims = self._telemetry.hears("claimed")
        self._hears_runs = hears_runs(self._telemetry)
        self._breaker = breaker
        self._lanes = lanes
        self._share = share
        self._probe_seconds = probe_seconds
        self._paused: frozenset[Priority] = frozenset()
        self._concurrency = concurrency
        self._lease_seconds = lease_seconds
        self._runs: dict[asyncio.Task[None], tuple[Lease, RunContext[Command] | None]] = {}
        self._reserved = 0
        self._bulk_running = 0
        self._text_bytes = text_bytes
        self._running_bytes = 0
        self._bulk_bytes = 0
        self._suspects_running = 0
        self._bulk_has_turn = False
        self._intake_is_behind = intake_is_behind
        self._bulk_again_at = 0.0
        self._held_until = 0.0
        self._finishes: list[RunResult] = []
        self._finishing = asyncio.Event()
        self._finished = asyncio.Event()
        self._signal = asyncio.Event()
        self._draining = False
        self._stopping = asyncio.Event()
        self._more = False

    @property
    def free(self) -> int:
        """How many slots are free."""
        return self._concurrency - len(self._runs) - self._reserved

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be claimed until a run ends."""
        return self.free <= 0 or self._running_bytes >= self._text_bytes

    @property
    def can_claim(self) -> bool:
        """Whether what is due now may be claimed now."""
        return not self.is_full and not self._held_seconds()

    @property
    def running(self) -> int:
        """How many commands run."""
        return len(self._runs)

    @property
    def unsettled(self) -> int:
        """How many ends wait to be recorded."""
        return len(self._finishes)

    @property
    def draining(self) -> bool:
        """Whether a drain is open, so that `wake` suffices to have a command run."""
        return self._draining

    def wake(self) -> None:
        """Says that something is due."""
        self._more = True
        self._signal.set()

    def reserve(self, commands: Sequence[NewCommand]) -> int:
        """Keeps slots for those that may be claimed as they are accepted; returns for how many.

        They are the first of these. `take` ends the reservation, whatever came of it.
        """
        if self._stopping.is_set() or not self.can_claim:
            return 0
        slots = min(MOST_AT_ONCE, self.free - max(0, self._bulk_reserve - self._bulk_running))
        room = self._text_bytes - self._running_bytes
        count = 0
        for command in commands:
            if not command.may_run_at_once:
                continue
            room -= len(command.text)
            if count >= slots or room < 0:
                break
            count += 1
        self._reserved += count
        return count

    def take(self, reserved: int, leases: Iterable[Lease], regained: Iterable[Lease] = ()) -> None:
        """Runs what was claimed as it was accepted.

        Args:
            reserved: what `reserve` returned.
            leases: of commands that nobody has begun.
            regained: of those that may run here already, or have run.
        """
        self._reserved -= reserved
        for lease in leases:
            # Where its lane is paused nothing is claimed so; no claim may come to tell it.
            if lease.lane in self._paused:
                self._paused -= {lease.lane}
            self._start(lease)
        for lease in regained:
            if not self._has(lease.row_id):
                self._start(lease)
        if self._more:
            self._signal.set()

    def _has(self, row_id: str) -> bool:
        """Tells whether a command runs here, or has an end that is not recorded yet."""
        return any(lease.row_id == row_id for lease, _ in self._runs.values()) or any(
            finish.lease.row_id == row_id for finish in self._finishes
        )

    @property
    def _bulk_reserve(self) -> int:
        """Slots that are the bulk lane's own."""
        return max(1, self._concurrency // 16) if self._concurrency > 1 else 0

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
        refill = max(1, self._concurrency // 4)
        try:
            while not self._stopping.is_set():
                rest = end - time.monotonic()
                if rest <= 0:
                    return self._more
                self._signal.clear()
                held = self._held_seconds()
                if self._more and not self.is_full and not held:
                    await self._gather(refill)
                    if not self._stopping.is_set():
                        await self._fill()
                    continue
                await self._signalled(min(rest, held or rest))
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

    async def _gather(self, refill: int) -> None:
        """Waits a moment for more free slots where others run, for a script costs the same."""
        end = time.monotonic() + GATHER_SECONDS
        while self.free < refill and self._runs and not self._stopping.is_set():
            if not await self._signalled(end - time.monotonic()):
                return
            self._signal.clear()

    async def _fill(self) -> None:
        asked = min(self.free, MOST_IN_A_SCRIPT)
        bulk_first, bulk_most = self._bulk_bounds()
        self._more = False
        try:
            claim = await self._ledger.claim(
                asked,
                bulk_first=bulk_first,
                bulk_most=bulk_most,
                suspects=0 if self._suspects_running else 1,
                most_bytes=self._text_bytes - self._running_bytes,
                bulk_bytes=int(self._text_bytes * BULK_SHARE) - self._bulk_bytes,
            )
        except RETRYABLE_REDIS_ERRORS as exc:
            self._ledger.outage.failed("claim", exc)
            # Once: the drain may have to end meanwhile.
            await asyncio.sleep(FIRST_PAUSE_SECONDS)
            return
        self._ledger.outage.worked("claim")
        # A full answer may hide more; so may one that the bulk lane's bound cut short.
        leases = claim.leases
        self._paused = claim.paused
        self._more = self._more or (
            len(leases) == asked or claim.held_seconds > 0 or claim.skipped > 0 or claim.cut
        )
        self._held_until = time.monotonic() + min(claim.held_seconds, HOLD_LOOK_SECONDS)
        for lease in leases:
            self._start(lease)

    def _bulk_bounds(self) -> tuple[int, int]:
        """Returns how many bulk commands go first, and how many may run besides those that do."""
        reserve = max(1, self._concurrency // 16)
        if self._intake_is_behind():
            # A producer may keep it so for ever: a share of the lane goes on.
            if time.monotonic() < self._bulk_again_at:
                return 0, 0
            self._bulk_again_at = time.monotonic() + BULK_PAUSE_SECONDS
            share = max(0, reserve - self._bulk_running)
            return share, share
        if self._concurrency == 1:
            # Neither lane can have a slot of its own, so they take turns.
            self._bulk_has_turn = not self._bulk_has_turn
            return int(self._bulk_has_turn), 1
        return (
            max(0, reserve - self._bulk_running),
            max(0, self._concurrency - reserve - self._bulk_running),
        )

    def _held_seconds(self) -> float:
        """For how long nothing may be claimed: the API asked for it, or it is in trouble."""
        if self._breaker.is_open or self._executor.is_refused:
            return BREAKER_PAUSE_SECONDS
        return max(0.0, self._held_until - time.monotonic())

    def _start(self, lease: Lease) -> None:
        task = asyncio.create_task(self._run(lease))
        self._runs[task] = (lease, None)
        self._count(lease, 1)
        task.add_done_callback(self._ended)

    def _count(self, lease: Lease, sign: int) -> None:
        size = sign * len(lease.text)
        self._running_bytes += size
        self._suspects_running += sign * lease.suspect
        if lease.lane is Priority.BULK:
            self._bulk_running += sign
            self._bulk_bytes += size

    def _ended(self, task: asyncio.Task[None]) -> None:
        lease, _ = self._runs.pop(task)
        self._count(lease, -1)
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
                self._end(unread)
            return None
        # Each run is a task of its own: whatever is logged within it says whose line it is.
        bind_contextvars(command_id=lease.command_id, **context_of(run.command))
        if self._hears_claims:
            self._telemetry.claimed(lease.command_id, lease.lane, waited_seconds(run))
        if lease.late_seconds is not None:
            self._telemetry.polled(lease.late_seconds)
        if self._hears_runs:
            self._telemetry.run_begun(start_of(run))
        current = asyncio.current_task()
        if current is not None:
            self._runs[current] = (lease, run)
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
            self._end(finish)

    async def _carry_out(self, run: RunContext[Command]) -> RunResult | None:
        """Returns how a run ended; None where there is nothing to record."""
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
            # The ledger could not be asked in the middle of a run. The lease decides: the
            # command is claimed again when it ends, from its latest checkpoint.
            log.debug("run.ledger_lost", kind=type(exc).__name__)
            self._ledger.outage.failed(ONCE, exc)
            return None
        except Exception as exc:
            log.exception("run.defect")
            return self._executor.defect(run, exc)

    def _end(self, finish: RunResult) -> None:
        self._finishes.append(finish)
        self._finishing.set()

    async def settle(self) -> None:
        """Records finishes in the ledger, many in one script, until it is cancelled."""
        pause = 0.0
        interval = BatchInterval()
        while True:
            if not self._finishes:
                self._finished.set()
                await self._finishing.wait()
            self._finishing.clear()
            if not self._finishes:
                continue
            self._finished.clear()
            await interval.wait()
            if await keep_trying(self._settle_batch, self._ledger.outage, "settle"):
                pause = 0.0
            else:
                pause = next_pause(pause)
                await asyncio.sleep(pause)

    async def _settle_batch(self) -> bool:
        """Records finishes in one script; returns whether none of them is left.

        Raises:
            redis.exceptions.RedisError: Redis takes none of them.
        """
        # Anew for each try: one that failed may have recorded some of them.
        batch = self._finishes[:MOST_IN_A_SCRIPT]
        try:
            done = await self._ledger.finish(batch)
        except REDIS_AWAY:
            raise
        except Exception as exc:
            if isinstance(exc, ResponseError) and len(batch) == 1:
                raise
            # One of them may be what can't be written: it must not take the others with it.
            return await self._settle_singly(batch)
        del self._finishes[: len(batch)]
        tell_settled(self._telemetry, batch, done)
        for finish, was_done in zip(batch, done, strict=True):
            await self._record_end(finish, was_done=was_done)
        return True

    async def _settle_singly(self, batch: list[RunResult]) -> bool:
        settled, refused = 0, 0
        for finish in batch:
            try:
                was_done = await self._settle_one(finish)
            except ResponseError as exc:
                # Behind all others, so that it stands in nobody's way.
                self._finishes.append(self._finishes.pop(0))
                if not settled:
                    # Most likely Redis takes nothing at all: one is enough to ask.
                    raise
                log.warning("run.unsettled", **fields_of(finish.lease), error=str(exc))
                refused += 1
                continue
            del self._finishes[0]
            settled += 1
            tell_settled(self._telemetry, [finish], [was_done])
            await self._record_end(finish, was_done=was_done)
        return not refused

    async def _settle_one(self, finish: RunResult) -> bool:
        try:
            (was_done,) = await self._ledger.finish([finish])
        except (*REDIS_AWAY, ResponseError):
            raise
        except Exception as exc:
            log.exception("run.unrecordable", **fields_of(finish.lease))
            plain = self._executor.unrecordable(finish.lease, exc)
            (was_done,) = await self._ledger.finish([plain])
        return was_done

    async def _record_end(self, finish: RunResult, *, was_done: bool) -> None:
        """Tells of a run that was fenced; of any other, judges by its end how its lane does.

        A lane in which nearly everything fails is paused, and resumed when its probe succeeds.
        """
        if not was_done:
            lease = finish.lease
            self._telemetry.fenced(lease.command_id, lease.text, lease.token)
            return
        if not (finish.state.ended or _began_waiting(finish)) or finish.late:
            return
        lane = finish.lease.lane
        failed = finish.state is RowState.FAILED
        try:
            if failed and lane not in self._paused and self._share.count(lane, failed=True):
                self._telemetry.lane_paused(lane, "nearly everything in it fails")
                await self._lanes.pause(
                    lane, "nearly everything in it fails", self._probe_seconds, finish.failure
                )
            elif not failed:
                self._share.count(lane, failed=False)
                if lane in self._paused:
                    self._telemetry.lane_resumed(lane)
                    await self._lanes.resume(lane)
        except RETRYABLE_REDIS_ERRORS as exc:
            self._ledger.outage.failed(ONCE, exc)

    async def renew(self) -> None:
        """Renews the leases of all runs until it is cancelled; drops runs that lost theirs."""
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            held = [lease for lease, _ in self._runs.values()]
            held += [finish.lease for finish in self._finishes]
            for start in range(0, len(held), MOST_IN_A_SCRIPT):
                try:
                    lost = await self._ledger.renew(held[start : start + MOST_IN_A_SCRIPT])
                except RETRYABLE_REDIS_ERRORS as exc:
                    self._ledger.outage.failed("renew", exc)
                    break
                self._ledger.outage.worked("renew")
                self._drop(lost)

    def _drop(self, lost: Iterable[str]) -> None:
        gone = set(lost)
        for task, (lease, run) in list(self._runs.items()):
            if lease.row_id in gone and not (run is not None and run.changing):
                self._telemetry.lease_lost(lease.command_id, lease.text)
                task.cancel()

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
            for task, (_, run) in list(self._runs.items()):
                if run is not None and not run.changing:
                    task.cancel()
            if self._runs:
                await asyncio.wait(list(self._runs), timeout=min(rest, CLOSE_PAUSE_SECONDS))
            else:
                await asyncio.sleep(min(rest, CLAIM_PAUSE_SECONDS))
        self._finished.clear()
        self._finishing.set()
        try:
            await asyncio.wait_for(self._finished.wait(), 5.0)
        except TimeoutError:
            log.warning("run.unsettled", runs=len(self._finishes))


def _began_waiting(finish: RunResult) -> bool:
    """Tells whether a probe began what it waits for: its lane works, its end may be days away."""
    waits = finish.state is RowState.POLLING
    return finish.lease.probe and waits and finish.lease.state is not RowState.POLLING
