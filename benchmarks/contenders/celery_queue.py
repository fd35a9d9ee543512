"""What both of Celery's contenders share: its settings, and its producer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Celery

from benchmarks.contenders.contender import RECOVERY_SECONDS, Contender, Producer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.work import Message


def celery_app(redis_url: str) -> Celery:
    """Returns an app as Celery's documentation would have it for tasks that may run twice."""
    app = Celery("bench", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": RECOVERY_SECONDS,
            "unacked_restore_interval": RECOVERY_SECONDS,
            "unacked_restore_throttle": 1,
        },
    )
    return app


def run_worker(app: Celery, *, pool: str, concurrency: int) -> None:
    """Runs a worker until it is told to stop."""
    quiet = ("--without-gossip", "--without-mingle", "--loglevel", "WARNING")
    app.worker_main([
        "--quiet",
        "worker",
        "--pool",
        pool,
        "--concurrency",
        str(concurrency),
        *quiet,
    ])


class CeleryProducer:
    """Celery's own producer, over one connection."""

    def __init__(self, redis_url: str, task: str) -> None:
        self._app = celery_app(redis_url)
        self._task = task
        self._connection = self._app.connection_for_write()
        self._producer = self._app.amqp.Producer(self._connection)

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Sends a task for each message."""
        options: dict[str, Any] = {"producer": self._producer, "ignore_result": True}
        for message in messages:
            self._app.send_task(self._task, args=(message,), **options)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.release()
        self._app.close()


class CeleryContender(Contender):
    """One of Celery's pools."""

    task: str

    def producer(self, redis_url: str) -> Producer:
        """Returns Celery's producer."""
        return CeleryProducer(redis_url, self.task)
