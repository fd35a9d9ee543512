"""dramatiq: one process, an asynchronous actor; each thread waits for a message of its own.

With its middleware for asyncio an actor takes half the time that it takes in a thread.

Started by dramatiq's own command, which calls `set_up`.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import dramatiq
import uvloop
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO, default_middleware

from benchmarks.contenders.contender import RECOVERY_SECONDS, Contender, Producer, program
from benchmarks.work import REDIS_URL, Predictor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.work import Message

ACTOR = "predict"
QUEUE = "bench"
# Of a million fetches; the default of 1,000 would hardly look for dead workers in a minute.
MAINTENANCE = 100_000


def set_up() -> None:
    """Makes the broker and the actor as the environment of the process says."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    broker = _broker(os.environ[REDIS_URL])
    predictors: list[Predictor] = []

    async def predict(message: Message) -> None:
        if not predictors:
            # Only here are we on the loop that all actors share.
            predictors.append(Predictor.open())
        await predictors[0].carry_out(message)

    dramatiq.actor(predict, actor_name=ACTOR, queue_name=QUEUE, broker=broker)
    dramatiq.set_broker(broker)


def _broker(redis_url: str) -> RedisBroker:
    middleware = [AsyncIO(), *(usual() for usual in default_middleware)]
    return RedisBroker(
        url=redis_url,
        middleware=middleware,
        heartbeat_timeout=RECOVERY_SECONDS * 1000,
        maintenance_chance=MAINTENANCE,
    )


class DramatiqProducer:
    """dramatiq's own producer."""

    def __init__(self, redis_url: str) -> None:
        self._broker = _broker(redis_url)
        self._broker.declare_queue(QUEUE)

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Enqueues a message for each."""
        for message in messages:
            self._broker.enqueue(
                dramatiq.Message(
                    queue_name=QUEUE, actor_name=ACTOR, args=(message,), kwargs={}, options={}
                )
            )

    def close(self) -> None:
        """Closes the connection."""
        self._broker.close()


class Dramatiq(Contender):
    """dramatiq."""

    name = "dramatiq"
    title = "dramatiq"
    settings = "1 process, 256 threads, AsyncIO middleware, uvloop, prefetch 1024"
    concurrency = 256
    slow_concurrency = 384
    per_second = 900

    def command(self, concurrency: int) -> list[str]:
        """Returns the worker's command line."""
        actors = "benchmarks.contenders.dramatiq_actors:set_up"
        return [program("dramatiq"), actors, "--processes", "1", "--threads", str(concurrency)]

    def environment(self, redis_url: str, folder: Path, concurrency: int) -> dict[str, str]:  # noqa: ARG002 - as all
        """Returns what dramatiq takes from the environment."""
        return {"dramatiq_queue_prefetch": str(concurrency * 4)}

    def producer(self, redis_url: str) -> Producer:
        """Returns dramatiq's producer."""
        return DramatiqProducer(redis_url)
