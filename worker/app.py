"""The Celery app: its tasks, and the supervisor as a step of its workers; also `-A worker.app`.

`app` is made when it is first asked for, so that importing this module has no effect.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
import structlog
from celery import Celery, bootsteps
from celery.apps.worker import install_worker_term_handler  # type: ignore[attr-defined]
from celery.concurrency.thread import TaskPool
from celery.signals import setup_logging, worker_ready, worker_shutting_down
from kombu import Exchange, Queue

from schemas.events import ErrorCode
from worker.bootstrap.monitoring import create_monitor
from worker.bootstrap.supervisor import create_supervisor
from worker.environment import load_settings
from worker.errors import LedgerLostError, NewerLedgerError, SettingError, TrainmasterError
from worker.garbage import collect_rarely
from worker.logging import configure
from worker.queue.intake.envelope import SUBMIT_TASK
from worker.queue.ledger.keys import Keys
from worker.queue.pool.tasks import RUN_TASK, register_tasks
from worker.queue.pool.wake_consumer import WAKE_CONSUMER, Beats
from worker.redaction import redact_url
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from celery.worker import WorkController

    from worker.monitoring.monitor import Monitor
    from worker.queue.pool.supervisor import Supervisor
    from worker.queue.pool.wake_consumer import WakeConsumer
    from worker.settings import Settings

log = structlog.get_logger(__name__)

WAKE_QUEUE: Final = "wake"
SUBMIT_QUEUE: Final = "celery"
# One thread drains; the others take submissions and the wake-ups that find a drain open.
TASK_THREADS: Final = 4
BROKEN: Final = 1
WRONG_SETTING: Final = 2
_SAME_SIGNAL_SECONDS: Final = 1.0


@dataclass(slots=True)
class WorkerProcess:
    """What a worker process is besides Celery: its supervisor, and how it ends.

    Attributes:
        exit_code: of a process that ends by itself: 1 broken, 2 a setting is wrong.
        monitor: answers probes from before the supervisor starts.
    """

    supervisor: Supervisor | None = None
    exit_code: int = 0
    monitor: Monitor | None = None

    def running(self) -> Supervisor:
        """Returns the supervisor; there is one before the first task comes."""
        if self.supervisor is None:
            raise RuntimeError("the supervisor has not started")
        return self.supervisor

    def start(self, supervisor: Supervisor, monitor: Monitor) -> None:
        """Starts a supervisor; ends the process where that can't work."""
        self.supervisor = supervisor
        self.monitor = monitor
        try:
            monitor.start()
            supervisor.start()
            # From now on Celery's loop has to turn.
            monitor.celery.beat()
            collect_rarely()
        except (LedgerLostError, NewerLedgerError) as exc:
            self._refuse(exc, BROKEN)
        except TrainmasterError as exc:
            self._refuse(exc, WRONG_SETTING)

    def stop(self) -> None:
        """Stops both."""
        if self.supervisor is not None:
            self.supervisor.stop()
        if self.monitor is not None:
            self.monitor.stop()

    def break_off(self) -> None:
        """Ends the process because a part of it is broken."""
        self.exit_code = BROKEN
        os.kill(os.getpid(), signal.SIGTERM)

    def stop_claiming(self) -> None:
        """Takes nothing new; a second SIGTERM or Ctrl-C ends the process at once."""
        if self.monitor is not None:
            self.monitor.stopping()
        if self.supervisor is not None:
            self.supervisor.stop_claiming()
        leave = _LeaveAtOnce()
        signal.signal(signal.SIGTERM, leave)
        signal.signal(signal.SIGINT, leave)

    def check_pool(self, pool: type) -> None:
        """Ends the process if Celery was told to run tasks elsewhere than in threads.

        A task drains on the supervisor's loop, which a child process does not have and which one
        single thread would wait for and answer nobody meanwhile.
        """
        if not issubclass(pool, TaskPool):
            named = pool.__module__.rpartition(".")[2]
            message = f"the pool {named} can't run trainmaster's tasks: use --pool=threads, or none"
            self._refuse(SettingError(message, code=ErrorCode.INVALID_SETTING), WRONG_SETTING)

    def _refuse(self, error: TrainmasterError, exit_code: int) -> NoReturn:
        self.exit_code = exit_code
        self.supervisor = None
        log.critical("worker.refused", message=error.message)
        raise SystemExit(exit_code) from error


def create_app(settings: Settings, process: WorkerProcess | None = None) -> Celery:
    """Returns the Celery app with its tasks, and the supervisor as a step of its workers."""
    app = Celery("trainmaster", set_as_current=False)
    app.conf.update(celery_settings(settings))
    this = process or WorkerProcess()
    monitor = create_monitor(settings)

    def publish_wake_up() -> None:
        app.send_task(RUN_TASK, queue=WAKE_QUEUE, retry=False, ignore_result=True)

    class CeleryBeats(Beats):
        """The sign of life of Celery's loop, for this process' monitor."""

        def __init__(self, parent: WakeConsumer, **kwargs: Any) -> None:
            super().__init__(parent, monitor.celery, **kwargs)

    class SupervisorStep(bootsteps.StartStopStep):
        """Runs the supervisor while the worker runs."""

        def start(self, parent: WorkController) -> None:
            """Starts the supervisor before the first task can come."""
            # Anew, for what it prints by itself is no line of our log.
            install_worker_term_handler(parent, verbose=False)
            # Ctrl-C stops a worker as SIGTERM does; Celery's own handler would end it with 1.
            signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
            this.check_pool(parent.pool_cls)  # type: ignore[attr-defined]
            supervisor = create_supervisor(settings, publish_wake_up, this.break_off, monitor)
            this.start(supervisor, monitor)

        def stop(self, parent: WorkController) -> None:
            """Stops the supervisor; everything that ran is finished or handed back."""
            this.stop()
            # Celery keeps to itself that it ends for an error it can't recover from.
            this.exit_code = this.exit_code or parent.exitcode or 0

        def terminate(self, parent: WorkController) -> None:
            """Stops the supervisor."""
            self.stop(parent)

    def stop_claiming(**_: Any) -> None:
        this.stop_claiming()

    def set_up_logging(**_: Any) -> None:
        configure(settings.log_level, settings.log_format)
        _leave_out_what_we_tell()
        if os.geteuid() == 0:
            log.warning("worker.runs_as_root", advice="start it as another user")

    def tell_ready(sender: Any, **_: Any) -> None:
        log.info("%s ready.", sender.hostname, **describe(settings))

    register_tasks(app, this.running)
    app.steps["worker"].add(SupervisorStep)
    app.steps["consumer"].add(CeleryBeats)
    worker_shutting_down.connect(stop_claiming, weak=False)
    setup_logging.connect(set_up_logging, weak=False)
    worker_ready.connect(tell_ready, weak=False)
    return app


def describe(settings: Settings) -> dict[str, Any]:
    """Returns what whoever starts a worker wants to see confirmed; no secret is in it."""
    return {
        "version": version("trainmaster"),
        "api": redact_url(settings.encord_domain),
        "redis": RedisAddress.parse(settings.redis_url.get_secret_value()).shown,
        "namespace": settings.namespace,
        "concurrency": settings.concurrency,
        "data_roots": [str(root) for root in settings.data_roots],
        "source_urls": [redact_url(url) for url in settings.source_urls],
        "result_store": redact_url(settings.result_store),
    }


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Returns Celery's configuration: it carries wake-ups and submissions, never the truth."""
    exchange = Exchange("trainmaster", type="direct")
    prefix = Keys(settings.namespace).prefix
    broker = RedisAddress.parse(settings.redis_url.get_secret_value()).broker(prefix)
    return {
        "broker_url": broker.url,
        "broker_transport": broker.transport,
        "broker_use_ssl": broker.tls,
        "broker_transport_options": {
            **broker.options,
            "global_keyprefix": prefix,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "health_check_interval": 25,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A wake-up is worth nothing once it is taken, and kombu can't live through the loss of
        # its connection while a message waits to be acknowledged (celery/kombu#582).
        "task_queues": [Queue(WAKE_QUEUE, exchange, routing_key=WAKE_QUEUE, no_ack=True)],
        "task_default_queue": SUBMIT_QUEUE,
        "task_default_exchange": exchange.name,
        "task_default_routing_key": SUBMIT_QUEUE,
        "task_routes": {RUN_TASK: {"queue": WAKE_QUEUE}, SUBMIT_TASK: {"queue": SUBMIT_QUEUE}},
        "task_acks_late": False,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "worker_consumer": WAKE_CONSUMER,
        "worker_pool": "threads",
        "worker_concurrency": TASK_THREADS,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_proc_alive_timeout": 60,
    }


def run_worker(settings: Settings, *, name: str | None = None) -> int:
    """Runs a worker in this process until it is told to stop; returns the exit code."""
    configure(settings.log_level, settings.log_format)
    # Celery warns of root before it asks for the logging of an app.
    _leave_out_what_we_tell()
    process = WorkerProcess()
    app = create_app(settings, process)
    arguments = ["--quiet", "worker", "--without-gossip", "--without-mingle"]
    if name is not None:
        arguments += ["--hostname", name]
    code: str | int | None = 0
    try:
        app.worker_main(arguments)
    except SystemExit as exc:
        code = exc.code
    except KeyboardInterrupt:
        # Before anything has started; later Ctrl-C is what SIGTERM is.
        code = 0
    return process.exit_code or (code if isinstance(code, int) else 0)


# What Celery says of each try to reach Redis; `worker.queue.ledger.outage` says it once, in time.
_TOLD_BY_US: Final = (
    " ready.",
    "consumer: Cannot connect to",
    "consumer: Connection to broker lost",
    "Skipping prefetch count reduction",
    "CPendingDeprecationWarning",
    # In seven lines, with an option that only Celery's own command has.
    "SecurityWarning",
)


def _is_not_told_by_us(record: logging.LogRecord) -> bool:
    said = record.getMessage()
    return not any(told in said for told in _TOLD_BY_US)


def _leave_out_what_we_tell() -> None:
    for name in (
        "celery.apps.worker",
        "celery.worker.consumer.consumer",
        "py.warnings",
    ):
        logging.getLogger(name).addFilter(_is_not_told_by_us)


class _LeaveAtOnce:
    """The second SIGTERM: leases run out by themselves, so nothing is lost by leaving now."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def __call__(self, *_: object) -> None:
        # systemd tells all processes of a unit, and the parent of several hands it on as well.
        if time.monotonic() - self._since >= _SAME_SIGNAL_SECONDS:
            os._exit(0)


def __getattr__(name: str) -> Any:
    if name == "app":
        try:
            made = create_app(load_settings())
        except SettingError as exc:
            # Celery shows any other exception with its traceback, and ends with 1.
            click.echo(f"trainmaster: {exc.message}", err=True)
            raise SystemExit(WRONG_SETTING) from exc
        globals()["app"] = made
        return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
