"""Celery's pool of threads with one httpx client that all of them share.

Run as `python -m benchmarks.contenders.celery_threads`.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from benchmarks.contenders.celery_queue import CeleryContender, celery_app, run_worker
from benchmarks.contenders.threads import ThreadPredictor
from benchmarks.work import REDIS_URL, concurrency

if TYPE_CHECKING:
    from benchmarks.work import Message

TASK = "bench.predict_in_thread"


class CeleryThreads(CeleryContender):
    """Celery's threads."""

    name = "celery-threads"
    title = "Celery, threads"
    settings = "threads, 48 of them, one httpx.Client; acks_late, prefetch 1"
    concurrency = 48
    slow_concurrency = 192
    per_second = 450
    task = TASK

    def command(self, concurrency: int) -> list[str]:  # noqa: ARG002 - they are in the environment
        """Returns the worker's command line."""
        return [sys.executable, "-m", "benchmarks.contenders.celery_threads"]


def main() -> None:
    """Runs the worker."""
    app = celery_app(os.environ[REDIS_URL])
    predictor = ThreadPredictor()

    def predict(message: Message) -> None:
        predictor.carry_out(message)

    app.task(name=TASK)(predict)
    run_worker(app, pool="threads", concurrency=concurrency())


if __name__ == "__main__":
    main()
