"""Builds the parts of the queue: the ledger, the intake, the pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.queue.intake.consumer import StreamConsumer
from worker.queue.ledger.deadlines import Deadlines
from worker.queue.ledger.event_retention import EventRetention
from worker.queue.ledger.lanes import FailureRateMonitor, Lanes
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.rate_limits import RedisLimits
from worker.queue.ledger.redis_clock import RedisClock
from worker.queue.ledger.repair import Repair
from worker.queue.log_listener import LOGS
from worker.queue.pool.deadlines import DeadlineWatch
from worker.queue.pool.lane_pauses import LanePauses
from worker.queue.pool.repairing import RepairWatch
from worker.queue.pool.results import ResultStore
from worker.queue.pool.settling import Settler
from worker.queue.pool.slots import COPIES_OF_TEXT, Slots
from worker.queue.pool.sweep import Sweep
from worker.queue.pool.witness import Witness
from worker.queue.pool.worker_pool import WorkerPool
from worker.redis_address import RedisAddress
from worker.thread_pools import ThreadPools

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.queue.groups import GroupOwner
    from worker.queue.heartbeat import Heartbeat
    from worker.queue.ledger.epoch import Epoch
    from worker.queue.ledger.keys import Keys
    from worker.queue.pool.executor import Executor
    from worker.queue.telemetry import Listener
    from worker.settings import Settings


def create_ledger(
    settings: Settings, redis: Redis, keys: Keys, telemetry: Listener = LOGS
) -> Ledger:
    """Returns the ledger of the settings' namespace."""
    return Ledger(
        redis,
        keys,
        lease_seconds=settings.lease_seconds,
        retention_seconds=settings.id_retention_seconds,
        reply_retention_seconds=settings.event_retention_seconds,
        text_retention_seconds=settings.message_retention_seconds,
        longest_hold_seconds=settings.retry_after_max_seconds,
        telemetry=telemetry,
    )


def create_limits(settings: Settings, ledger: Ledger) -> RedisLimits:
    """Returns the limits of the whole fleet."""
    return RedisLimits(
        ledger.redis,
        ledger.keys,
        ledger,
        requests_per_second=settings.requests_per_second,
        concurrent_requests=settings.concurrent_requests,
    )


def create_stream_consumer(  # noqa: PLR0913 - what the process gives it
    settings: Settings,
    readers: Redis,
    ledger: Ledger,
    notify: Callable[[int], None],
    now: Callable[[], float],
    heartbeat: Heartbeat,
    *,
    name: str,
) -> StreamConsumer:
    """Returns the intake, as the consumer of a name that no other process has."""
    return StreamConsumer(
        readers,
        ledger,
        consumer=name,
        batch=settings.intake_batch,
        batch_bytes=settings.intake_batch_bytes,
        consumer_idle_seconds=settings.consumer_idle_seconds,
        on_accepted=notify,
        on_caught_up=lambda: notify(1),
        now=now,
        heartbeat=heartbeat,
    )


def create_worker_pool(
    settings: Settings,
    ledger: Ledger,
    executor: Executor,
    intake_is_behind: Callable[[], bool],
) -> WorkerPool:
    """Returns the pool of the process."""
    share = FailureRateMonitor(
        commands=settings.pause_commands,
        seconds=settings.pause_seconds,
        share=settings.pause_share,
    )
    lanes = Lanes(ledger.redis, ledger.keys)
    pauses = LanePauses(ledger, lanes, share, settings.pause_probe_seconds)
    return WorkerPool(
        ledger,
        executor,
        executor.breaker,
        slots=Slots(
            settings.concurrency,
            text_bytes=settings.inflight_body_bytes // COPIES_OF_TEXT,
            intake_is_behind=intake_is_behind,
        ),
        pauses=pauses,
        settler=Settler(ledger, pauses, executor.unrecordable),
        lease_seconds=settings.lease_seconds,
    )


def create_results(settings: Settings, threads: ThreadPools | None = None) -> ResultStore:
    """Returns the store for large results.

    Raises:
        SettingError: nothing that is installed writes to such a URL.
    """
    return ResultStore(
        settings.result_store,
        settings.result_limit_bytes,
        (threads or ThreadPools()).results,
        seconds=settings.download_timeout_seconds,
    )


def create_witness(settings: Settings, threads: ThreadPools | None = None) -> Witness:
    """Returns what remembers the epoch of the settings' ledger outside of Redis.

    Raises:
        SettingError: nothing that is installed writes to the result store's URL.
    """
    address = RedisAddress.parse(settings.redis_url.get_secret_value())
    return Witness(create_results(settings, threads), address, settings.namespace)


def create_deadline_watch(settings: Settings, ledger: Ledger, executor: Executor) -> DeadlineWatch:
    """Returns what ends commands whose deadline passes while they wait."""
    deadlines = Deadlines(ledger.redis, ledger.keys, lease_seconds=settings.lease_seconds)
    return DeadlineWatch(ledger, deadlines, executor)


def create_repair_watch(
    settings: Settings,
    ledger: Ledger,
    groups: GroupOwner,
    now: Callable[[], float],
    *,
    holder: str,
) -> RepairWatch:
    """Returns what puts back the due sets that Redis lost."""
    return RepairWatch(
        ledger,
        Repair(ledger.redis, ledger.keys, lease_seconds=settings.lease_seconds),
        groups=groups,
        holder=holder,
        every_seconds=settings.repair_seconds,
        now=now,
    )


def create_sweep(  # noqa: PLR0913 - what the process gives it
    settings: Settings,
    ledger: Ledger,
    epoch: Epoch,
    clock: Clock,
    intake: StreamConsumer,
    *,
    notify: Callable[[int], None],
    api_ahead_seconds: Callable[[], float],
) -> Sweep:
    """Returns what finds commands that are due though nobody was told."""
    return Sweep(
        ledger,
        epoch,
        RedisClock(ledger.redis, ledger.keys, lease_seconds=settings.lease_seconds),
        clock,
        intake,
        notify=notify,
        every_seconds=settings.sweep_seconds,
        event_retention=EventRetention(
            settings.event_retention_seconds,
            settings.event_retention_max_seconds,
            settings.follower_expiry_seconds,
        ),
        api_ahead_seconds=api_ahead_seconds,
    )
