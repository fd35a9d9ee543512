"""SAQ: one process, coroutines, jobs moved from list to list.

Run as `python -m benchmarks.contenders.saq_jobs`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import orjson
import uvloop
from redis.asyncio import BlockingConnectionPool, Redis
from saq import Job
from saq.queue.redis import RedisQueue
from saq.worker import Worker

from benchmarks.contenders.contender import RECOVERY_SECONDS, Contender, Producer
from benchmarks.work import REDIS_URL, Message, Predictor, batches, concurrency

if TYPE_CHECKING:
    from collections.abc import Sequence

FUNCTION = "predict"
QUEUE = "bench"


def _queue(redis_url: str, connections: int) -> RedisQueue:
    pool = BlockingConnectionPool.from_url(redis_url, max_connections=connections, timeout=60)
    client: Redis = Redis(connection_pool=pool)
    return RedisQueue(client, name=QUEUE, dump=orjson.dumps, load=orjson.loads)


class SaqProducer:
    """SAQ's own producer, many jobs at a time."""

    def __init__(self, redis_url: str) -> None:
        self._runner = asyncio.Runner()
        self._queue = _queue(redis_url, 64)
        self._runner.run(self._queue.connect())

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Adds a job for each message."""
        for batch in batches(messages, 32):
            self._runner.run(self._enqueue(batch))

    async def _enqueue(self, messages: Sequence[Message]) -> None:
        await asyncio.gather(
            *(
                self._queue.enqueue(
                    Job(
                        FUNCTION,
                        kwargs={"message": message},
                        key=message["id"],
                        timeout=RECOVERY_SECONDS,
                        retries=3,
                    )
                )
                for message in messages
            )
        )

    def close(self) -> None:
        """Closes the connections."""
        self._runner.run(self._queue.disconnect())
        self._runner.close()


class Saq(Contender):
    """SAQ."""

    name = "saq"
    title = "SAQ"
    settings = "concurrency 128, orjson, uvloop, sweep every 5 s"
    concurrency = 128
    slow_concurrency = 512
    per_second = 750
    record = "the job, until it ends"

    def command(self, concurrency: int) -> list[str]:  # noqa: ARG002 - they are in the environment
        """Returns the worker's command line."""
        return [sys.executable, "-m", "benchmarks.contenders.saq_jobs"]

    def producer(self, redis_url: str) -> Producer:
        """Returns SAQ's producer."""
        return SaqProducer(redis_url)


async def open_predictor(context: dict[str, Any]) -> None:
    """Opens connections on the worker's loop."""
    context["predictor"] = Predictor.open()


async def predict(context: dict[str, Any], *, message: Message) -> None:
    """Asks the API and publishes the result."""
    await context["predictor"].carry_out(message)


async def serve() -> None:
    """Runs the worker."""
    # Each slot waits for its next job on a connection of its own.
    queue = _queue(os.environ[REDIS_URL], 2 * concurrency() + 16)
    await queue.connect()
    worker = Worker(
        queue,
        functions=[(FUNCTION, predict)],
        concurrency=concurrency(),
        startup=open_predictor,
        timers={"sweep": RECOVERY_SECONDS // 2},
    )
    await worker.start()


if __name__ == "__main__":
    uvloop.run(serve())
