"""Runs claimed commands side by side on one loop, a place for each, and settles them in batches.

A drain is the licence to claim: while one is open, every place that falls free is filled again
from the ledger. It is a Celery task that lasts a time slice; the runs themselves outlive it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from schemas.enums import Priority
from worker.errors import FencedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.commands import Command
    from worker.handlers.run import Run
    from worker.ledger.ledger import Ledger
    from worker.ledger.row import Finish, Lease
    from worker.tasks.attempt import Attempts

log = structlog.get_logger(__name__)

# More in one script would hold Redis for milliseconds.
MOST_IN_A_SCRIPT = 256
REDIS_PAUSE_SECONDS = 0.25
LONGEST_REDIS_PAUSE_SECONDS = 2.0


class Runner:
    """The places of one process.

    Args:
        places: how many commands run at the same time.
        lease_seconds: leases of runs are renewed every third of it.
    """

    def __init__(
        self, ledger: Ledger, attempts: Attempts, *, places: int, lease_seconds: float
    ) -> None:
        self._ledger = ledger
        self._attempts = attempts
        self._places = places
        self._lease_seconds = lease_seconds
        self._runs: dict[asyncio.Task[None], tuple[Lease, Run[Command] | None]] = {}
        self._bulk_running = 0
        self._finishes: list[Finish] = []
        self._finishing = asyncio.Event()
        self._finished = asyncio.Event()
        self._signal = asyncio.Event()
        self._draining = False
        self._stopping = False
        self._more = False

    @property
    def free(self) -> int:
        """How many places are free."""
        return self._places - len(self._runs)

    @property
    def running(self) -> int:
        """How many commands run."""
        return len(self._runs)

    @property
    def draining(self) -> bool:
        """Whether a drain is open, so that `wake` suffices to have a command run."""
        return self._draining

    def wake(self) -> None:
        """Says that something is due."""
        self._more = True
        self._signal.set()

    def stop(self) -> None:
        """Claims nothing more; open drains end."""
        self._stopping = True
        self._signal.set()

    async def drain(self, slice_seconds: float) -> bool:
        """Fills places with what is due for a time slice; returns whether more was due then.

        A second drain of the same process returns at once.
        """
        if self._draining or self._stopping:
            return False
        self._draining = True
        self._more = True
        end = time.monotonic() + slice_seconds
        refill = max(1, self._places // 8)
        try:
            while not self._stopping:
                rest = end - time.monotonic()
                if rest <= 0:
                    return self._more
                self._signal.clear()
                if self._more and (self.free >= refill or not self._runs):
                    await self._fill()
                    continue
                try:
                    await asyncio.wait_for(self._signal.wait(), rest)
                except TimeoutError:
                    continue
        finally:
            self._draining = False
        return False

    async def _fill(self) -> None:
        asked = min(self.free, MOST_IN_A_SCRIPT)
        reserve = max(1, self._places // 16)
        self._more = False
        try:
            leases = await self._ledger.claim(
                asked,
                bulk_first=max(0, reserve - self._bulk_running),
                bulk_most=max(0, self._places - reserve - self._bulk_running),
            )
        except (RedisError, OSError, TimeoutError) as exc:
            log.warning("run.claim_failed", error=str(exc), kind=type(exc).__name__)
            await asyncio.sleep(REDIS_PAUSE_SECONDS)
            return
        # A full answer may hide more; so may one that the bulk lane's bound cut short.
        self._more = self._more or len(leases) == asked
        for lease in leases:
            self._start(lease)

    def _start(self, lease: Lease) -> None:
        task = asyncio.create_task(self._run(lease))
        self._runs[task] = (lease, None)
        if lease.lane is Priority.BULK:
            self._bulk_running += 1
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        lease, _ = self._runs.pop(task)
        if lease.lane is Priority.BULK:
            self._bulk_running -= 1
            self._more = True
        if self._more or self._stopping:
            self._signal.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("run.broken", command_id=lease.command_id, exc_info=error)

    async def _run(self, lease: Lease) -> None:
        run = self._attempts.begin(lease)
        current = asyncio.current_task()
        if current is not None:
            self._runs[current] = (lease, run)
        try:
            finish = await self._attempts.carry_out(run)
        except FencedError:
            log.warning("run.fenced", command_id=lease.command_id, token=lease.token)
            return
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            finish = self._attempts.hand_back(run)
        except (RedisError, TimeoutError) as exc:
            # The ledger could not be asked in the middle of a run. The lease decides: the
            # command is claimed again when it ends, with what was noted until now.
            log.warning("run.ledger_lost", command_id=lease.command_id, error=str(exc))
            return
        except Exception as exc:
            log.exception("run.defect", command_id=lease.command_id)
            finish = self._attempts.defect(run, exc)
        self._finishes.append(finish)
        self._finishing.set()

    async def settle(self) -> None:
        """Records finishes in the ledger, many in one script, until it is cancelled."""
        pause = REDIS_PAUSE_SECONDS
        while True:
            if not self._finishes:
                self._finished.set()
                await self._finishing.wait()
            self._finishing.clear()
            batch = self._finishes[:MOST_IN_A_SCRIPT]
            if not batch:
                continue
            self._finished.clear()
            try:
                done = await self._ledger.finish(batch)
            except (RedisError, OSError, TimeoutError) as exc:
                log.warning("run.settle_failed", error=str(exc), runs=len(batch))
                await asyncio.sleep(pause)
                pause = min(LONGEST_REDIS_PAUSE_SECONDS, pause * 2)
                continue
            pause = REDIS_PAUSE_SECONDS
            del self._finishes[: len(batch)]
            for finish, was_done in zip(batch, done, strict=True):
                if not was_done:
                    log.warning("run.fenced", command_id=finish.lease.command_id)

    async def renew(self) -> None:
        """Renews the leases of all runs until it is cancelled; drops runs that lost theirs."""
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            held = [lease for lease, _ in self._runs.values()]
            held += [finish.lease for finish in self._finishes]
            for start in range(0, len(held), MOST_IN_A_SCRIPT):
                try:
                    lost = await self._ledger.renew(held[start : start + MOST_IN_A_SCRIPT])
                except (RedisError, OSError, TimeoutError) as exc:
                    log.warning("run.renew_failed", error=str(exc))
                    break
                self._drop(lost)

    def _drop(self, lost: Iterable[str]) -> None:
        gone = set(lost)
        for task, (lease, run) in list(self._runs.items()):
            if lease.command_id in gone and not (run is not None and run.changing):
                log.warning("run.lease_lost", command_id=lease.command_id)
                task.cancel()

    async def close(self, grace_seconds: float) -> None:
        """Ends all runs: changes are let finish, all else is handed back; then settles.

        Args:
            grace_seconds: how long calls that change something may still take.
        """
        self.stop()
        for task, (_, run) in list(self._runs.items()):
            if run is None or not run.changing:
                task.cancel()
        if self._runs:
            await asyncio.wait(list(self._runs), timeout=grace_seconds)
        self._finished.clear()
        self._finishing.set()
        try:
            await asyncio.wait_for(self._finished.wait(), 5.0)
        except TimeoutError:
            log.warning("run.unsettled", runs=len(self._finishes))
