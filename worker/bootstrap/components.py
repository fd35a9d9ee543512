"""Builds the components of a supervisor, and ties them together."""

from __future__ import annotations

import os
import socket
import uuid
from typing import TYPE_CHECKING

from worker.bootstrap.encord import create_api_access
from worker.bootstrap.handlers import create_dependencies, create_downloads, create_executor
from worker.bootstrap.monitoring import create_readiness, create_telemetry, create_watches
from worker.bootstrap.queue import (
    create_deadline_watch,
    create_ledger,
    create_limits,
    create_repair_watch,
    create_stream_consumer,
    create_sweep,
    create_witness,
    create_worker_pool,
)
from worker.clock import Clock
from worker.monitoring.presence import Watched
from worker.queue.ledger.connection import connect
from worker.queue.ledger.epoch import Epoch
from worker.queue.ledger.holds import Holds, RefusalBoard
from worker.queue.ledger.keys import Keys
from worker.queue.ledger.workers import Workers
from worker.queue.pool.supervisor import Components
from worker.thread_pools import ThreadPools
from worker.tracing.switch import WORKER, create_tracing

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.monitoring.monitor import Monitor
    from worker.settings import Settings


def create_components(
    settings: Settings, notify: Callable[[int], None], monitor: Monitor
) -> Components:
    """Returns the components of a supervisor; called on its loop.

    Raises:
        SettingError: a setting can't be used.
    """
    name = process_name()
    keys = Keys(settings.namespace)
    clock = Clock()
    redis_url = settings.redis_url.get_secret_value()
    redis = connect(redis_url, keys.prefix)
    # Those who block on streams and lists must not hold up the ledger's calls.
    readers = connect(redis_url, keys.prefix)
    tracing = create_tracing(WORKER, name)
    telemetry = create_telemetry(settings, monitor, tracing, clock.now)
    ledger = create_ledger(settings, redis, keys, telemetry)
    limits = create_limits(settings, ledger)
    board = RefusalBoard(Holds(redis, keys), name)
    api = create_api_access(settings, limits, board, telemetry, clock.now)
    threads = ThreadPools()
    downloads = create_downloads(settings, threads)
    dependencies = create_dependencies(
        settings, ledger, api.throttled, downloads, threads, clock.now
    )
    executor = create_executor(settings, dependencies, api.breaker, api.credentials)
    intake = create_stream_consumer(
        settings, readers, ledger, notify, clock.now, monitor.intake, name=name
    )
    pool = create_worker_pool(settings, ledger, executor, lambda: intake.behind)
    intake.claim_for(pool)
    epoch = Epoch(redis, keys)

    async def close() -> None:
        await downloads.aclose()
        await api.transport.aclose()
        await limits.aclose()
        await readers.aclose()
        await redis.aclose()
        if tracing is not None:
            await tracing.aclose()

    monitor.watch_ledger(redis, keys)
    readiness = create_readiness(redis, keys, epoch, api.credentials, executor.results)
    watched = Watched(pool, settings.concurrency, api.breaker, monitor)
    return Components(
        redis=redis,
        ledger=ledger,
        epoch=epoch,
        intake=intake,
        pool=pool,
        breaker=api.breaker,
        deadlines=create_deadline_watch(settings, ledger, executor),
        sweep=create_sweep(
            settings,
            ledger,
            epoch,
            clock,
            intake,
            notify=notify,
            api_ahead_seconds=lambda: api.clock.ahead_seconds,
        ),
        credentials=api.credentials,
        repair=create_repair_watch(settings, ledger, dependencies.groups, clock.now, holder=name),
        witness=create_witness(settings, threads),
        close=close,
        watches=create_watches(
            settings, watched, readiness, Workers(redis, keys), clock.now, name=name
        ),
    )


def process_name() -> str:
    """Returns a name that no other process has."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
