"""What a process shows of itself, put together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, disable_created_metrics

from schemas.events import ErrorCode
from worker.monitoring.health import (
    CELERY_LIMIT_SECONDS,
    INTAKE_LIMIT_SECONDS,
    LOOP_LIMIT_SECONDS,
    Liveness,
    Readiness,
    ReadinessWatch,
    beat,
)
from worker.monitoring.ledger_sample import LedgerCollector, LedgerSampler
from worker.monitoring.metrics import Metrics
from worker.monitoring.server import MonitoringServer
from worker.queue.heartbeat import Heartbeat
from worker.queue.ledger.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.monitoring.health import Check
    from worker.queue.ledger.keys import Keys
    from worker.queue.pool.worker_pool import WorkerPool

# What the API answers to a wrong key; whoever replaces it resumes the lane with it.
_WRONG_KEY = frozenset({ErrorCode.NOT_AUTHENTICATED, ErrorCode.NOT_AUTHORISED})


class Monitor:
    """Health and metrics of one worker process.

    Attributes:
        loop, intake, celery: the signs of life of its three loops.
        counts: whether anybody may ask for metrics.

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
        self.metrics.slots.set(concurrency)
        self.metrics.slots_used.set_function(lambda: pool.running)
        self.metrics.unsettled.set_function(lambda: pool.unsettled)

    async def watch(self, checks: Mapping[str, Check]) -> None:
        """Beats for the loop it is run on, and looks at what the process needs, until cancelled."""
        looking = ReadinessWatch(self._readiness, checks).watch()
        async with asyncio.TaskGroup() as group:
            group.create_task(beat(self.loop, self.metrics.loop_lag_seconds.observe))
            group.create_task(looking)


def lanes_check(redis: Redis, keys: Keys) -> Callable[[], Awaitable[str]]:
    """Returns what asks whether a lane is paused for a wrong key."""
    lanes = Lanes(redis, keys)

    async def check() -> str:
        paused = [each.lane for each in await lanes.paused() if each.code in _WRONG_KEY]
        return f"paused, for the API refuses us: {', '.join(paused)}" if paused else ""

    return check
