"""The composition root: builds everything from the settings; `celery -A worker.app` works too.

`app` is made when it is first asked for, so that importing this module has no effect.
"""

from __future__ import annotations

import os
import signal
import socket
import uuid
from typing import TYPE_CHECKING, Any

import structlog
from celery import Celery, bootsteps
from celery.signals import setup_logging, worker_shutting_down
from kombu import Exchange, Queue

from schemas.events import ErrorCode
from worker.api.client import MlModelsApi
from worker.api.domains import environment_proxy
from worker.api.gate import Breaker, Gate
from worker.api.signing import BearerToken, RequestSigner
from worker.api.transport import Timeouts, Transport
from worker.errors import (
    MisconfiguredError,
    PermanentError,
    RateLimitedError,
    RetryableError,
    SettingError,
)
from worker.handlers.registry import HANDLERS
from worker.handlers.run import LongPolls, PollSchedule, Surroundings
from worker.intake.reader import Intake
from worker.ledger.connection import connect
from worker.ledger.keys import Keys
from worker.ledger.lanes import FailureShare, Lanes
from worker.ledger.ledger import Ledger
from worker.ledger.limits import RedisLimits
from worker.logging import configure
from worker.settings import Settings, load_settings
from worker.tasks.attempt import Attempts
from worker.tasks.engine import Engine, Parts
from worker.tasks.results import ResultStore
from worker.tasks.runner import Runner
from worker.tasks.submission import RUN_TASK, SUBMIT_TASK, register_tasks
from worker.tasks.verdict import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.worker import WorkController
    from redis.asyncio import Redis

    from worker.api.signing import Credentials

log = structlog.get_logger(__name__)

WAKE_QUEUE = "wake"
SUBMIT_QUEUE = "celery"
# One thread drains; the others take submissions and the wake-ups that find a drain open.
TASK_THREADS = 4
STOP_GRACE_SECONDS = 10.0


def create_app(settings: Settings) -> Celery:
    """Returns the Celery app with its tasks, and the engine as a step of its workers."""
    app = Celery("trainmaster", set_as_current=False)
    app.conf.update(celery_settings(settings))
    engines: list[Engine] = []

    def publish_wake_up() -> None:
        app.send_task(RUN_TASK, queue=WAKE_QUEUE, retry=False, ignore_result=True)

    class EngineStep(bootsteps.StartStopStep):
        """Runs the engine while the worker runs."""

        def start(self, _parent: WorkController) -> None:
            """Starts the engine before the first task can come."""
            engine = create_engine(settings, publish_wake_up)
            engine.start()
            engines[:] = [engine]

        def stop(self, _parent: WorkController) -> None:
            """Stops the engine; everything that ran is finished or handed back."""
            for engine in engines:
                engine.stop()

        def terminate(self, parent: WorkController) -> None:
            """Stops the engine."""
            self.stop(parent)

    def stop_claiming(**_: Any) -> None:
        for engine in engines:
            engine.stop_claiming()
        signal.signal(signal.SIGTERM, _leave_at_once)

    def set_up_logging(**_: Any) -> None:
        configure(settings.log_level, settings.log_format)

    register_tasks(app, lambda: engines[0])
    app.steps["worker"].add(EngineStep)
    worker_shutting_down.connect(stop_claiming, weak=False)
    setup_logging.connect(set_up_logging, weak=False)
    return app


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Returns Celery's configuration: it carries wake-ups and submissions, never the truth."""
    exchange = Exchange("trainmaster", type="direct")
    return {
        "broker_url": settings.redis_url.get_secret_value(),
        "broker_transport_options": {
            "global_keyprefix": Keys(settings.namespace).prefix,
            # A message that a dead worker held comes back at the next look, not the tenth.
            "unacked_restore_throttle": 1,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "health_check_interval": 25,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_queues": [
            Queue(SUBMIT_QUEUE, exchange, routing_key=SUBMIT_QUEUE),
            Queue(WAKE_QUEUE, exchange, routing_key=WAKE_QUEUE),
        ],
        "task_default_queue": SUBMIT_QUEUE,
        "task_default_exchange": exchange.name,
        "task_default_routing_key": SUBMIT_QUEUE,
        "task_routes": {RUN_TASK: {"queue": WAKE_QUEUE}, SUBMIT_TASK: {"queue": SUBMIT_QUEUE}},
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "worker_pool": "threads",
        "worker_concurrency": TASK_THREADS,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_proc_alive_timeout": 60,
    }


def create_engine(settings: Settings, publish_wake_up: Callable[[], None]) -> Engine:
    """Returns the engine of a worker process."""

    async def build(notify: Callable[[int], None]) -> Parts:
        keys = Keys(settings.namespace)
        redis = connect(settings.redis_url.get_secret_value())
        readers = connect(settings.redis_url.get_secret_value())
        ledger = create_ledger(settings, redis, keys)
        transport = create_transport(settings)
        limits = RedisLimits(
            redis,
            keys,
            ledger,
            requests_per_second=settings.requests_per_second,
            concurrent_requests=settings.concurrent_requests,
        )
        breaker = create_breaker(settings, MlModelsApi(transport))
        around = Surroundings(
            api=MlModelsApi(Gate(transport, limits, breaker)),
            ledger=ledger,
            data_roots=tuple(settings.data_roots),
            polls=PollSchedule(
                settings.poll_min_seconds, settings.poll_max_seconds, settings.poll_share
            ),
            long_polls=LongPolls(settings.long_poll_places, settings.long_poll_seconds),
            doubt_seconds=settings.doubt_seconds,
        )
        attempts = Attempts(
            handlers=HANDLERS,
            around=around,
            policy=RetryPolicy(
                settings.max_attempts, settings.retry_min_seconds, settings.retry_max_seconds
            ),
            results=ResultStore(settings.result_store, settings.result_limit_bytes),
            max_claims=settings.max_claims,
            breaker=breaker,
        )
        intake = Intake(
            readers,
            ledger,
            consumer=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            batch=settings.intake_batch,
            consumer_idle_seconds=settings.consumer_idle_seconds,
            on_accepted=notify,
        )
        runner = Runner(
            ledger,
            attempts,
            breaker,
            places=settings.places,
            lease_seconds=settings.lease_seconds,
            lanes=Lanes(redis, keys),
            share=FailureShare(
                commands=settings.pause_commands,
                seconds=settings.pause_seconds,
                share=settings.pause_share,
            ),
            probe_seconds=settings.pause_probe_seconds,
        )

        async def close() -> None:
            await transport.aclose()
            await readers.aclose()
            await redis.aclose()

        return Parts(redis, ledger, intake, runner, breaker, close)

    return Engine(
        build,
        publish_wake_up,
        slice_seconds=settings.slice_seconds,
        sweep_seconds=settings.sweep_seconds,
        event_retention_seconds=settings.event_retention_seconds,
        grace_seconds=STOP_GRACE_SECONDS + settings.read_timeout_seconds,
    )


def create_ledger(settings: Settings, redis: Redis, keys: Keys) -> Ledger:
    """Returns the ledger of the settings' namespace."""
    return Ledger(
        redis,
        keys,
        lease_seconds=settings.lease_seconds,
        retention_seconds=settings.id_retention_seconds,
        reply_retention_seconds=settings.event_retention_seconds,
    )


def create_breaker(settings: Settings, api: MlModelsApi) -> Breaker:
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

    return Breaker(
        probe,
        failures=settings.breaker_failures,
        minimum_seconds=settings.breaker_min_seconds,
        maximum_seconds=settings.breaker_max_seconds,
    )


def create_transport(settings: Settings) -> Transport:
    """Returns the transport to the API, with the settings' credentials.

    Raises:
        SettingError: there are no credentials, or they can't be used.
    """
    return Transport(
        settings.encord_domain,
        create_credentials(settings),
        timeouts=Timeouts(
            connect=settings.connect_timeout_seconds,
            read=settings.read_timeout_seconds,
            write=settings.write_timeout_seconds,
            pool=settings.pool_timeout_seconds,
        ),
        connections=settings.places + settings.long_poll_places,
        proxy=environment_proxy(settings.encord_domain),
    )


def create_credentials(settings: Settings) -> Credentials:
    """Returns what signs requests: the bearer token if there is one, else the key.

    Raises:
        SettingError: there is neither, or it can't be used.
    """
    if settings.bearer_token is not None:
        return BearerToken(settings.bearer_token.get_secret_value())
    passphrase = settings.encord_ssh_key_passphrase
    secret = passphrase.get_secret_value() if passphrase is not None else None
    if settings.encord_ssh_key is not None:
        return RequestSigner.from_openssh(settings.encord_ssh_key.get_secret_value(), secret)
    if settings.encord_ssh_key_file is not None:
        try:
            text = settings.encord_ssh_key_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingError(
                f"ENCORD_SSH_KEY_FILE: {settings.encord_ssh_key_file} can't be read",
                code=ErrorCode.INVALID_SETTING,
            ) from exc
        return RequestSigner.from_openssh(text, secret, setting="ENCORD_SSH_KEY_FILE")
    raise SettingError(
        "no credentials: set ENCORD_SSH_KEY_FILE, ENCORD_SSH_KEY or TRAINMASTER_BEARER_TOKEN",
        code=ErrorCode.INVALID_SETTING,
    )


def run_worker(settings: Settings, *, name: str | None = None) -> int:
    """Runs a worker in this process until it is told to stop; returns the exit code."""
    configure(settings.log_level, settings.log_format)
    app = create_app(settings)
    arguments = ["--quiet", "worker", "--without-gossip", "--without-mingle"]
    if name is not None:
        arguments += ["--hostname", name]
    try:
        app.worker_main(arguments)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 0
    return 0


def _leave_at_once(*_: object) -> None:
    # The second SIGTERM: leases run out by themselves, so nothing is lost by leaving now.
    os._exit(0)


def __getattr__(name: str) -> Any:
    if name == "app":
        made = create_app(load_settings())
        globals()["app"] = made
        return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
