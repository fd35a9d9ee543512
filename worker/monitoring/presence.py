"""Has a worker process tell Redis of itself, for whoever wants to see which there are."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import structlog

from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS, stop_if_cancelled
from worker.queue.ledger.refusals import word_of
from worker.queue.ledger.workers import TELL_SECONDS, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.monitoring.monitor import Monitor
    from worker.queue.circuit_breaker import CircuitBreaker
    from worker.queue.ledger.workers import Workers
    from worker.queue.pool.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

# Each process reads all to find those that died; once a minute is often enough.
_TELLS_BETWEEN_LOOKS: Final = 12
# A stop waits no longer: a process that can't say so is soon forgotten.
_LEAVE_SECONDS: Final = 1.0
# No outage: a right is missing, or somebody put something else there. All else works as ever.
_LASTING: Final = frozenset({"NOPERM", "WRONGTYPE"})


@dataclass(frozen=True, slots=True)
class Watched:
    """What a process tells of.

    Attributes:
        slots: commands that the pool may run at the same time.
    """

    pool: WorkerPool
    slots: int
    breaker: CircuitBreaker
    monitor: Monitor


class Presence:
    """What one worker process tells of itself, as long as it runs.

    Args:
        workers: of the namespace.
        name: of this process.
        watched: the parts of this process.
        now: Redis' time, in seconds.
        partitions: the namespaces that its settings name.
    """

    def __init__(
        self,
        workers: Workers,
        name: str,
        watched: Watched,
        now: Callable[[], float],
        partitions: tuple[str, ...],
    ) -> None:
        self._workers = workers
        self._name = name
        self._watched = watched
        self._now = now
        self._partitions = partitions
        self._version = version("trainmaster")
        self._is_refused = False

    async def keep(self) -> None:
        """Tells again and again, until it is cancelled; trouble of Redis is lived through."""
        # Redis' time is known by now, however wrong this machine's clock is.
        started_ms = self._now_ms()
        told = 0
        try:
            while True:
                stop_if_cancelled()
                if await self._try_to_tell(started_ms, look=told % _TELLS_BETWEEN_LOOKS == 0):
                    told += 1
                await asyncio.sleep(TELL_SECONDS)
        finally:
            await self._leave()

    async def _try_to_tell(self, started_ms: int, *, look: bool) -> bool:
        try:
            await self._workers.tell(self._status(started_ms))
            if look:
                await self._workers.forget_silent(self._now_ms())
        except RETRYABLE_REDIS_ERRORS as exc:
            self._failed(exc)
            return False
        self._is_refused = False
        return True

    def _failed(self, error: Exception) -> None:
        # Of an outage all others tell.
        if word_of(error) in _LASTING and not self._is_refused:
            self._is_refused = True
            log.warning("worker.presence_refused", error=str(error))

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._workers.leave(self._name)
        except RETRYABLE_REDIS_ERRORS:
            # It drops out by itself.
            pass

    def _status(self, started_ms: int) -> WorkerStatus:
        watched = self._watched
        return WorkerStatus(
            name=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=self._version,
            python=platform.python_version(),
            started_ms=started_ms,
            seen_ms=self._now_ms(),
            slots=watched.slots,
            slots_used=watched.pool.running,
            loop_lag_seconds=watched.monitor.take_lag_seconds(),
            breaker_open=watched.breaker.is_open,
            stopping=watched.monitor.is_stopping,
            partitions=self._partitions,
        )

    def _now_ms(self) -> int:
        return int(self._now() * 1000)
