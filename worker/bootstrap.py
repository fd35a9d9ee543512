"""The composition root: builds everything that a worker process runs from its settings."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import structlog

from schemas.events import ErrorCode
from schemas.wording import counted
from worker.backfill.handler import Backfills
from worker.backfill.item_results import BackfillItems
from worker.backfill.output import folder_name
from worker.backfill.store import BackfillStore
from worker.byte_budget import ByteBudget
from worker.clock import Clock
from worker.encord.api.api_clock import ApiClock
from worker.encord.api.base_url import environment_proxy
from worker.encord.api.client import MlModelsApi
from worker.encord.api.credentials_watch import Admission, CredentialsWatch
from worker.encord.api.operations import operation_of, template_of
from worker.encord.api.signing import BearerToken, RequestSigner
from worker.encord.api.throttle import ThrottledTransport
from worker.encord.api.transport import BASE_PATH, Transport
from worker.encord.context import Encord, LongPolls, PollSchedule
from worker.environment import advice_on_unknown, unknown_names
from worker.errors import (
    MisconfiguredError,
    PermanentError,
    RateLimitedError,
    RetryableError,
    SettingError,
)
from worker.files.downloads import Downloads
from worker.http.client_certificate import ClientCertificate
from worker.http.timeouts import Timeouts
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
from worker.open_files import affordable_concurrency, needed_files, raise_limit
from worker.queue.circuit_breaker import CircuitBreaker
from worker.queue.intake.consumer import StreamConsumer
from worker.queue.ledger.connection import connect
from worker.queue.ledger.deadlines import Deadlines
from worker.queue.ledger.epoch import Epoch
from worker.queue.ledger.holds import Holds, RefusalBoard
from worker.queue.ledger.keys import Keys
from worker.queue.ledger.lanes import FailureRateMonitor, Lanes
from worker.queue.ledger.ledger import EventRetention, Ledger
from worker.queue.ledger.rate_limits import RedisLimits
from worker.queue.ledger.repair import Repair
from worker.queue.ledger.workers import Workers
from worker.queue.log_listener import LOGS, LogListener
from worker.queue.pool.deadlines import DeadlineWatch
from worker.queue.pool.executor import Executor
from worker.queue.pool.repairing import RepairWatch
from worker.queue.pool.results import ResultStore
from worker.queue.pool.retry import RetryPolicy
from worker.queue.pool.supervisor import Components, Supervisor, Timings
from worker.queue.pool.witness import Witness
from worker.queue.pool.worker_pool import COPIES_OF_TEXT, WorkerPool
from worker.queue.registry import load_handlers
from worker.queue.run_context import Dependencies
from worker.queue.telemetry import Listener, Telemetry
from worker.redaction import redact_url
from worker.redis_address import RedisAddress
from worker.thread_pools import ThreadPools
from worker.tracing.api_spans import ApiSpans
from worker.tracing.switch import WORKER, create_tracing

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from worker.encord.api.signing import Credentials
    from worker.queue.heartbeat import Heartbeat
    from worker.settings import Settings
    from worker.tracing.sdk import Tracing

log = structlog.get_logger(__name__)

# Where the handlers of all commands stand.
HANDLERS: Final = ("worker.queue.handlers", "worker.encord.handlers", "worker.backfill.handler")
STOP_GRACE_SECONDS: Final = 10.0


def create_monitor(settings: Settings) -> Monitor:
    """Returns what a worker process shows of itself."""
    return Monitor(settings.http, settings.health_file)


def create_supervisor(
    settings: Settings,
    publish_wake_up: Callable[[], None],
    on_broken: Callable[[], None],
    monitor: Monitor | None = None,
) -> Supervisor:
    """Returns the supervisor of a worker process."""
    watched = monitor or create_monitor(settings)
    warn_of_unknown_settings()
    settings = fit_open_files(settings)

    async def build(notify: Callable[[int], None]) -> Components:
        return create_components(settings, notify, watched)

    times = Timings(
        slice=settings.slice_seconds,
        sweep=settings.sweep_seconds,
        event_retention=EventRetention(
            settings.event_retention_seconds,
            settings.event_retention_max_seconds,
            settings.follower_expiry_seconds,
        ),
        grace=STOP_GRACE_SECONDS + settings.read_timeout_seconds,
    )
    return Supervisor(build, publish_wake_up, on_broken, times)


def warn_of_unknown_settings() -> None:
    """Names the variables that look like settings and are none, as after one got another name."""
    for name, meant in unknown_names().items():
        log.warning("worker.setting_unknown", setting=name, advice=advice_on_unknown(meant))


def fit_open_files(settings: Settings) -> Settings:
    """Returns settings with no more slots than this process may open files for.

    More would come upon the limit all the time, and do nothing but try again.
    """
    limit = raise_limit()
    slots = affordable_concurrency(settings, limit)
    if slots < settings.concurrency:
        log.warning(
            "worker.concurrency_lowered",
            open_files=limit,
            concurrency=slots,
            advice=f"ulimit -n {needed_files(settings)} allows "
            f"{counted(settings.concurrency, 'slot')}; or set "
            f"TRAINMASTER_CONCURRENCY to {slots}",
        )
        return settings.model_copy(update={"concurrency": slots})
    return settings


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
    redis = connect(settings.redis_url.get_secret_value(), keys.prefix)
    # Those who block on streams and lists must not hold up the ledger's calls.
    readers = connect(settings.redis_url.get_secret_value(), keys.prefix)
    listeners: list[Listener] = [LogListener()]
    if monitor.counts:
        listeners.append(MetricsListener(monitor.metrics, operation_of))
    tracing = create_tracing(WORKER, name)
    if tracing is not None:
        listeners.append(create_tracing_listener(tracing, settings, clock.now))
    telemetry = Telemetry(listeners)
    ledger = create_ledger(settings, redis, keys, telemetry)
    api_clock = ApiClock()
    transport = create_transport(settings, api_clock)
    breaker = create_breaker(settings, MlModelsApi(transport), telemetry)
    board = RefusalBoard(Holds(redis, keys), name)
    credentials = create_credentials_watch(settings, transport, api_clock, board)
    limits = create_limits(settings, ledger)
    throttled = ThrottledTransport(
        transport,
        limits,
        breaker,
        credentials=credentials,
        now=clock.now,
        telemetry=telemetry,
    )
    threads = ThreadPools()
    downloads = create_downloads(settings, threads)
    dependencies = create_dependencies(settings, ledger, throttled, downloads, threads, clock.now)
    executor = create_executor(settings, dependencies, breaker, credentials)

    async def close() -> None:
        await downloads.aclose()
        await transport.aclose()
        await limits.aclose()
        await readers.aclose()
        await redis.aclose()
        if tracing is not None:
            await tracing.aclose()

    intake = create_stream_consumer(
        settings, readers, ledger, notify, clock.now, monitor.intake, name=name
    )
    pool = create_worker_pool(settings, ledger, executor, lambda: intake.behind)
    intake.claim_for(pool)
    epoch = Epoch(redis, keys)
    monitor.watch_ledger(redis, keys)
    monitor.watch_pool(pool, settings.concurrency)
    presence = Presence(
        Workers(redis, keys),
        name,
        Watched(pool, settings.concurrency, breaker, monitor),
        clock.now,
        settings.partitions,
    )
    readiness = ReadinessWatch(
        redis_check(redis, keys),
        {
            "ledger": epoch_check(epoch),
            "credentials": credentials_check(credentials),
            "result_store": results_check(executor.results),
            "lanes": lanes_check(redis, keys),
        },
    )
    return Components(
        redis=redis,
        ledger=ledger,
        epoch=epoch,
        intake=intake,
        pool=pool,
        breaker=breaker,
        deadlines=DeadlineWatch(
            ledger, Deadlines(redis, keys, lease_seconds=settings.lease_seconds), executor
        ),
        clock=clock,
        api_ahead_seconds=lambda: api_clock.ahead_seconds,
        credentials=credentials,
        repair=RepairWatch(
            ledger,
            Repair(redis, keys, lease_seconds=settings.lease_seconds),
            groups=dependencies.groups,
            holder=name,
            every_seconds=settings.repair_seconds,
            now=clock.now,
        ),
        witness=create_witness(settings, threads),
        close=close,
        watches={
            "beat": monitor.beat,
            "presence": presence.keep,
            **({"monitor": lambda: monitor.watch(readiness)} if monitor.is_asked else {}),
        },
    )


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


def create_witness(settings: Settings, threads: ThreadPools | None = None) -> Witness:
    """Returns what remembers the epoch of the settings' ledger outside of Redis.

    Raises:
        SettingError: nothing that is installed writes to the result store's URL.
    """
    address = RedisAddress.parse(settings.redis_url.get_secret_value())
    return Witness(create_results(settings, threads), address, settings.namespace)


def create_limits(settings: Settings, ledger: Ledger) -> RedisLimits:
    """Returns the limits of the whole fleet."""
    return RedisLimits(
        ledger.redis,
        ledger.keys,
        ledger,
        requests_per_second=settings.requests_per_second,
        concurrent_requests=settings.concurrent_requests,
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


def create_encord(settings: Settings, transport: ThrottledTransport) -> Encord:
    """Returns what handlers of Encord's commands share."""
    return Encord(
        transport=transport,
        polls=PollSchedule(
            settings.poll_min_seconds, settings.poll_max_seconds, settings.poll_share
        ),
        long_polls=LongPolls(settings.long_poll_concurrency, settings.long_poll_seconds),
        creations=asyncio.Semaphore(settings.creation_concurrency),
        doubt_seconds=settings.doubt_seconds,
    )


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
    return WorkerPool(
        ledger,
        executor,
        executor.breaker,
        concurrency=settings.concurrency,
        lease_seconds=settings.lease_seconds,
        lanes=Lanes(ledger.redis, ledger.keys),
        share=FailureRateMonitor(
            commands=settings.pause_commands,
            seconds=settings.pause_seconds,
            share=settings.pause_share,
        ),
        probe_seconds=settings.pause_probe_seconds,
        text_bytes=settings.inflight_body_bytes // COPIES_OF_TEXT,
        intake_is_behind=intake_is_behind,
    )


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


def create_backfills(settings: Settings, redis: Redis, keys: Keys) -> Backfills:
    """Returns what backfills that a worker leads need."""
    store = BackfillStore(
        redis,
        keys,
        retention_seconds=settings.id_retention_seconds,
        reply_retention_seconds=settings.event_retention_seconds,
    )
    return Backfills(
        store=store,
        output=backfill_output(settings),
        window=settings.backfill_window,
        part_items=settings.backfill_part_items,
    )


def backfill_output(settings: Settings) -> str:
    """Returns where the folders of backfills that come as commands lie.

    Partitions have one store, and each may have a backfill of the same id, whose parts would take
    each other's place: they have a folder each.
    """
    folder = f"{settings.result_store.rstrip('/')}/backfills"
    is_alone = len(settings.partitions) == 1
    return folder if is_alone else f"{folder}/{folder_name(settings.namespace)}"


def create_breaker(
    settings: Settings, api: MlModelsApi, telemetry: Listener = LOGS
) -> CircuitBreaker:
    """Returns the breaker; its probe asks for one page of models, past all limits."""

    async def probe() -> bool:
        try:
            async for _ in api.list_models(query="trainmaster-probe"):
                break
        except (RetryableError, MisconfiguredError) as error:
            log.info("api.probe_failed", error=error.code)
            return isinstance(error, RateLimitedError | MisconfiguredError)
        except PermanentError:
            return True
        return True

    return CircuitBreaker(
        probe,
        failures=settings.breaker_failures,
        minimum_seconds=settings.breaker_min_seconds,
        maximum_seconds=settings.breaker_max_seconds,
        telemetry=telemetry,
    )


def create_credentials_watch(
    settings: Settings, transport: Transport, clock: ApiClock, board: RefusalBoard
) -> CredentialsWatch:
    """Returns what asks whether the API takes our credentials; the key is read anew each time."""
    api = MlModelsApi(transport)

    async def ask() -> tuple[Admission, str]:
        try:
            # Whoever replaces the key's file need not start us again.
            transport.use(create_credentials(settings, clock))
        except SettingError as error:
            log.warning("api.key_unreadable", message=error.message)
        try:
            async for _ in api.list_models(query="trainmaster-probe"):
                break
        except MisconfiguredError as error:
            return Admission.REFUSED, error.message
        except (RateLimitedError, PermanentError):
            return Admission.TAKEN, ""
        except RetryableError as error:
            return Admission.UNKNOWN, error.message
        return Admission.TAKEN, ""

    return CredentialsWatch(
        ask,
        board,
        minimum_seconds=settings.breaker_min_seconds,
        maximum_seconds=settings.breaker_max_seconds,
    )


def process_name() -> str:
    """Returns a name that no other process has."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


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


def create_transport(settings: Settings, clock: ApiClock | None = None) -> Transport:
    """Returns the transport to the API, with the settings' credentials.

    Raises:
        SettingError: there are no credentials, or they can't be used; so with the client's
            certificate, the authorities and the proxy.
    """
    return Transport(
        settings.encord_domain,
        create_credentials(settings, clock),
        timeouts=Timeouts(
            connect=settings.connect_timeout_seconds,
            read=settings.read_timeout_seconds,
            write=settings.write_timeout_seconds,
            pool=settings.pool_timeout_seconds,
        ),
        connections=settings.concurrency + settings.long_poll_concurrency,
        proxy=environment_proxy(settings.encord_domain),
        certificate=_client_certificate(settings),
        longest_wait_seconds=settings.retry_after_max_seconds,
        reply_limit_bytes=settings.reply_limit_bytes,
        clock=clock,
    )


def _client_certificate(settings: Settings) -> ClientCertificate | None:
    file = settings.client_certificate_file
    return None if file is None else ClientCertificate(file, settings.client_key_file)


def create_credentials(settings: Settings, clock: ApiClock | None = None) -> Credentials:
    """Returns what signs requests: the bearer token if there is one, else the key.

    Raises:
        SettingError: there is neither, or it can't be used.
    """
    if settings.bearer_token is not None:
        return BearerToken(settings.bearer_token.get_secret_value())
    passphrase = settings.encord_ssh_key_passphrase
    secret = passphrase.get_secret_value() if passphrase is not None else None
    now = time.time if clock is None else clock.now
    if settings.encord_ssh_key is not None:
        return RequestSigner.from_openssh(
            settings.encord_ssh_key.get_secret_value(), secret, clock=now
        )
    if settings.encord_ssh_key_file is not None:
        try:
            text = settings.encord_ssh_key_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingError(
                f"ENCORD_SSH_KEY_FILE: {settings.encord_ssh_key_file} can't be read",
                code=ErrorCode.INVALID_SETTING,
            ) from exc
        return RequestSigner.from_openssh(text, secret, setting="ENCORD_SSH_KEY_FILE", clock=now)
    raise SettingError(
        "no credentials: set ENCORD_SSH_KEY_FILE, ENCORD_SSH_KEY or TRAINMASTER_BEARER_TOKEN",
        code=ErrorCode.INVALID_SETTING,
    )
