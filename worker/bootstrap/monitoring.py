"""Builds what a worker process shows of itself: logs, metrics, spans, health."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any

from worker.encord.api.operations import operation_of, template_of
from worker.encord.api.transport import BASE_PATH
from worker.monitoring.checks import (
    ReadinessWatch,
    credentials_check,
    epoch_check,
    lanes_check,
    redis_check,
    results_check,
)
from worker.monitoring.metrics_listener import MetricsListener
from worker.monitoring.monitor import Monitor
from worker.monitoring.presence import Presence, Watched
from worker.queue.ledger.keys import Keys
from worker.queue.log_listener import LogListener
from worker.queue.telemetry import Listener, Telemetry
from worker.redaction import redact_url
from worker.tracing.api_spans import ApiSpans

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from redis.asyncio import Redis

    from worker.encord.api.credentials_watch import CredentialsWatch
    from worker.queue.ledger.epoch import Epoch
    from worker.queue.ledger.workers import Workers
    from worker.queue.pool.results import ResultStore
    from worker.settings import Settings
    from worker.tracing.sdk import Tracing


def create_monitor(settings: Settings) -> Monitor:
    """Returns what a worker process shows of itself."""
    return Monitor(settings.http, settings.health_file)


def create_telemetry(
    settings: Settings, monitor: Monitor, tracing: Tracing | None, now: Callable[[], float]
) -> Telemetry:
    """Returns whoever listens to what happens."""
    listeners: list[Listener] = [LogListener()]
    if monitor.counts:
        listeners.append(
            MetricsListener(monitor.metrics, operation_of, asyncio.get_running_loop().call_soon)
        )
    if tracing is not None:
        listeners.append(create_tracing_listener(tracing, settings, now))
    return Telemetry(listeners)


def create_tracing_listener(
    tracing: Tracing, settings: Settings, now: Callable[[], float]
) -> Listener:
    """Returns what makes spans of what happens; it alone needs OpenTelemetry."""
    listener: Any = import_module("worker.tracing.listener")
    requests = ApiSpans(redact_url(settings.encord_domain).rstrip("/") + BASE_PATH, template_of)
    made: Listener = listener.TracingListener(
        tracing, settings.namespace, Keys(settings.namespace), requests, now
    )
    return made


def create_readiness(
    redis: Redis, keys: Keys, epoch: Epoch, credentials: CredentialsWatch, results: ResultStore
) -> ReadinessWatch:
    """Returns what looks whether a process can do its work, and names each reason."""
    return ReadinessWatch(
        redis_check(redis, keys),
        {
            "ledger": epoch_check(epoch),
            "credentials": credentials_check(credentials),
            "result_store": results_check(results),
            "lanes": lanes_check(redis, keys),
        },
    )


def create_watches(
    settings: Settings,
    watched: Watched,
    readiness: ReadinessWatch,
    workers: Workers,
    now: Callable[[], float],
    *,
    name: str,
) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
    """Returns the loops by which a process tells how it is, by name."""
    monitor = watched.monitor
    monitor.watch_pool(watched.pool, watched.slots)
    presence = Presence(workers, name, watched, now, settings.partitions)
    watches = {"beat": monitor.beat, "presence": presence.keep}
    if monitor.is_asked:
        watches["monitor"] = lambda: monitor.watch(readiness)
    return watches
