"""Builds what carries out commands: the handlers, and what they share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from worker.backfill.handler import Backfills
from worker.backfill.item_results import BackfillItems
from worker.bootstrap.backfill import create_backfills
from worker.bootstrap.encord import create_encord
from worker.bootstrap.queue import create_results
from worker.byte_budget import ByteBudget
from worker.encord.context import Encord
from worker.files.downloads import Downloads
from worker.queue.pool.executor import Executor
from worker.queue.pool.retry import RetryPolicy
from worker.queue.registry import load_handlers
from worker.queue.run_context import Dependencies

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.encord.api.credentials_watch import CredentialsWatch
    from worker.encord.api.throttle import ThrottledTransport
    from worker.queue.circuit_breaker import CircuitBreaker
    from worker.queue.ledger.ledger import Ledger
    from worker.settings import Settings
    from worker.thread_pools import ThreadPools

# Where the handlers of all commands stand.
HANDLERS: Final = ("worker.queue.handlers", "worker.encord.handlers", "worker.backfill.handler")


def create_executor(
    settings: Settings,
    dependencies: Dependencies,
    breaker: CircuitBreaker,
    credentials: CredentialsWatch | None = None,
) -> Executor:
    """Returns what carries out attempts.

    Raises:
        SettingError: nothing that is installed writes to the result store's URL.
    """
    return Executor(
        handlers=load_handlers(HANDLERS),
        dependencies=dependencies,
        policy=RetryPolicy(
            settings.max_attempts, settings.retry_min_seconds, settings.retry_max_seconds
        ),
        results=create_results(settings, dependencies.threads),
        max_claims=settings.max_claims,
        breaker=breaker,
        credentials=credentials,
        probe_seconds=settings.pause_probe_seconds,
    )


def create_dependencies(
    settings: Settings,
    ledger: Ledger,
    throttled: ThrottledTransport,
    downloads: Downloads,
    threads: ThreadPools,
    now: Callable[[], float] = time.time,
) -> Dependencies:
    """Returns what all runs of the process share."""
    return Dependencies(
        groups=BackfillItems(),
        ledger=ledger,
        downloads=downloads,
        bodies=ByteBudget(settings.inflight_body_bytes),
        threads=threads,
        file_seconds=settings.download_timeout_seconds,
        data_roots=tuple(settings.data_roots),
        services={
            Encord: create_encord(settings, throttled),
            Backfills: create_backfills(settings, ledger.redis, ledger.keys),
        },
        source_urls=settings.source_urls,
        dataref_limit_bytes=settings.dataref_limit_bytes,
        now=now,
    )


def create_downloads(settings: Settings, threads: ThreadPools) -> Downloads:
    """Returns what reads files behind URLs."""
    return Downloads(
        threads.downloads,
        total_seconds=settings.download_timeout_seconds,
        idle_seconds=settings.download_idle_timeout_seconds,
        # A server that never answers holds its slots for long; others need some, too.
        per_server=max(1, settings.concurrency // 2),
    )
