"""arq: one process, coroutines, jobs polled from a sorted set.

Run as `python -m benchmarks.contenders.arq_jobs`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import uvloop
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.worker import Worker, func

from benchmarks.contenders.contender import Contender, Producer
from benchmarks.work import REDIS_URL, Message, Predictor, batches, concurrency

if TYPE_CHECKING:
    from collections.abc import Sequence

FUNCTION = "predict"
# Of the delay between two looks, arq says 0.5 s; that would be its latency at rest.
POLL_SECONDS = 0.02
# A job that is in progress is another's after its timeout and 10 s.
JOB_SECONDS = 5


class ArqProducer:
    """arq's own producer, many jobs at a time."""

    def __init__(self, redis_url: str) -> None:
        self._runner = asyncio.Runner()
        self._pool: ArqRedis = self._runner.run(create_pool(_redis_settings(redis_url)))

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Adds a job for each message."""
        for batch in batches(messages, 32):
            self._runner.run(self._enqueue(batch))

    async def _enqueue(self, messages: Sequence[Message]) -> None:
        await asyncio.gather(
            *(
                self._pool.enqueue_job(FUNCTION, message, _job_id=message["id"])
                for message in messages
            )
        )

    def close(self) -> None:
        """Closes the connections."""
        self._runner.run(self._pool.aclose())
        self._runner.close()


class Arq(Contender):
    """arq."""

    name = "arq"
    title = "arq"
    settings = f"256 jobs, poll_delay {POLL_SECONDS} s, no results kept, uvloop"
    concurrency = 256
    slow_concurrency = 2048
    per_second = 450
    record = "the job, until it ends"

    def command(self, concurrency: int) -> list[str]:  # noqa: ARG002 - they are in the environment
        """Returns the worker's command line."""
        return [sys.executable, "-m", "benchmarks.contenders.arq_jobs"]

    def producer(self, redis_url: str) -> Producer:
        """Returns arq's producer."""
        return ArqProducer(redis_url)


def _redis_settings(redis_url: str) -> RedisSettings:
    return RedisSettings.from_dsn(redis_url)


async def open_predictor(context: dict[str, Any]) -> None:
    """Opens connections on the worker's loop."""
    context["predictor"] = Predictor.open()


async def predict(context: dict[str, Any], message: Message) -> None:
    """Asks the API and publishes the result."""
    await context["predictor"].carry_out(message)


def main() -> None:
    """Runs the worker."""
    asyncio.set_event_loop(uvloop.new_event_loop())
    Worker(
        functions=[func(predict, name=FUNCTION, keep_result=0, timeout=JOB_SECONDS)],
        redis_settings=_redis_settings(os.environ[REDIS_URL]),
        on_startup=open_predictor,
        max_jobs=concurrency(),
        job_timeout=JOB_SECONDS,
        poll_delay=POLL_SECONDS,
        keep_result=0,
        log_results=False,
    ).run()


if __name__ == "__main__":
    main()
