"""RQ: a pool of its simple workers, which do not fork for each job.

Started by RQ's own command, `rq worker-pool`, which imports `predict` from this module.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import redis
from rq import Queue, Retry

from benchmarks.contenders.contender import RECOVERY_SECONDS, Contender, Producer, program
from benchmarks.contenders.threads import ThreadPredictor
from benchmarks.work import batches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.work import Message

QUEUE = "bench"


@cache
def _predictor() -> ThreadPredictor:
    return ThreadPredictor()


def predict(message: Message) -> None:
    """Asks the API and publishes the result."""
    _predictor().carry_out(message)


class RqProducer:
    """RQ's own producer, many jobs at a time."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.Redis.from_url(redis_url)
        self._queue = Queue(QUEUE, connection=self._redis)

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Adds a job for each message."""
        for batch in batches(messages, 500):
            self._queue.enqueue_many([
                Queue.prepare_data(
                    "benchmarks.contenders.rq_jobs.predict",
                    (message,),
                    job_id=message["id"],
                    timeout=RECOVERY_SECONDS,
                    result_ttl=0,
                    retry=Retry(max=3),
                )
                for message in batch
            ])

    def close(self) -> None:
        """Closes the connection."""
        self._redis.close()


class Rq(Contender):
    """RQ."""

    name = "rq"
    title = "RQ"
    settings = "worker-pool of 12 SimpleWorkers (no fork per job), one httpx.Client each"
    concurrency = 12
    slow_concurrency = 12
    per_second = 140
    record = "the job, until it ends"

    def command(self, concurrency: int) -> list[str]:
        """Returns the pool's command line."""
        simple = ("--worker-class", "rq.worker.SimpleWorker", "--num-workers", str(concurrency))
        return [program("rq"), "worker-pool", QUEUE, *simple, "--quiet"]

    def environment(self, redis_url: str, folder: Path, concurrency: int) -> dict[str, str]:  # noqa: ARG002 - most need none
        """Returns what the pool finds in its environment."""
        return {"RQ_REDIS_URL": redis_url}

    def producer(self, redis_url: str) -> Producer:
        """Returns RQ's producer."""
        return RqProducer(redis_url)
