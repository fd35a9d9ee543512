"""What a process shows of itself, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, disable_created_metrics

from worker.monitoring.health import (
    CELERY_LIMIT_SECONDS,
    INTAKE_LIMIT_SECONDS,
    LOOP_LIMIT_SECONDS,
    Liveness,
    Readiness,
    beat,
)
from worker.monitoring.ledger_sample import LedgerCollector, LedgerSampler
from worker.monitoring.metrics import Metrics
from worker.monitoring.server import MonitoringServer
from worker.queue.heartbeat import Heartbeat

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.monitoring.checks import ReadinessWatch
    from worker.queue.ledger.keys import Keys
    from worker.queue.pool.worker_pool import WorkerPool


class Monitor:
    """Health and metrics of one worker process.

    Attributes:
        loop, intake, celery: the signs of life of its three loops.
        counts: whether anybody may ask for metrics.
        is_stopping: whether the process was told to stop.

    Args:
        address: host and port for probes and Prometheus; None without.
        file: for probes that have no HTTP; None without.
    """

    def __init__(self, address: tuple[str, int] | None, file: Path | None) -> None:
        self.loop = Heartbeat("loop", LOOP_LIMIT_SECONDS)
        self.intake = Heartbeat("intake", INTAKE_LIMIT_SECONDS)
        self.celery = Heartbeat("celery", CELERY_LIMIT_SECONDS)
        self.counts = address is not None
        registry = CollectorRegistry()
        # When a series began: Prometheus asks for that nowhere, and it doubles what is scraped.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.metrics = Metrics(registry)
        self._collector = LedgerCollector()
        registry.register(self._collector)
        self._readiness = Readiness()
        self._lag_seconds = 0.0
        self.is_stopping = False
        self._server = None
        if address is not None or file is not None:
            self._server = MonitoringServer(
                Liveness([self.loop, self.intake, self.celery]),
                self._readiness,
                registry,
                address=address,
                file=file,
            )

    @property
    def is_asked(self) -> bool:
        """Whether anybody may ask; else nothing need be looked at."""
        return self._server is not None

    def start(self) -> None:
        """Answers from now on; nothing is ready yet.

        Raises:
            SettingError: it can't listen there.
        """
        if self._server is not None:
            self._server.start()

    def stop(self) -> None:
        """Answers no more."""
        if self._server is not None:
            self._server.stop()

    def watch_ledger(self, redis: Redis, keys: Keys) -> None:
        """Has scrapes tell what the ledger holds; called on the loop of this client."""
        self._collector.use(LedgerSampler(redis, keys))

    def watch_pool(self, pool: WorkerPool, concurrency: int) -> None:
        """Has scrapes tell how full a pool is."""
        self.metrics.process.slots.set(concurrency)
        self.metrics.process.slots_used.set_function(lambda: pool.running)
        self.metrics.process.bulk_slots.set_function(lambda: pool.slots.bulk_most)
        self.metrics.process.unsettled.set_function(lambda: pool.unsettled)

    async def beat(self) -> None:
        """Beats for the loop it is run on until it is cancelled."""
        await beat(self.loop, self._observe_lag)

    async def watch(self, readiness: ReadinessWatch) -> None:
        """Looks at what the process needs, until it is cancelled."""
        await readiness.watch(self._readiness.set)

    def take_lag_seconds(self) -> float:
        """Returns the most by which the loop was late since this was asked before."""
        found, self._lag_seconds = self._lag_seconds, 0.0
        return found

    def _observe_lag(self, seconds: float) -> None:
        self.metrics.process.loop_lag_seconds.observe(seconds)
        self._lag_seconds = max(self._lag_seconds, seconds)

    def stopping(self) -> None:
        """Is ready no more; its loops end one after the other, and only the last is missed."""
        self.is_stopping = True
        self._readiness.stop()
        for each in (self.intake, self.celery):
            each.retire()
