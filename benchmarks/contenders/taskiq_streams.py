"""taskiq with Redis streams: one process, coroutines, messages acknowledged when executed.

Started by taskiq's own command, which calls `create_broker`.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisStreamBroker

from benchmarks.contenders.contender import RECOVERY_SECONDS, Contender, Producer, program
from benchmarks.work import REDIS_URL, Message, Predictor, batches

if TYPE_CHECKING:
    from collections.abc import Sequence

TASK = "predict"


async def predict(message: Message, context: Annotated[Context, TaskiqDepends()]) -> None:
    """Asks the API and publishes the result."""
    await context.state.predictor.carry_out(message)


def create_broker() -> RedisStreamBroker:
    """Returns the broker, with its task, as the environment of the process says."""
    return _broker(os.environ[REDIS_URL])


def _broker(redis_url: str) -> RedisStreamBroker:
    broker = RedisStreamBroker(
        url=redis_url,
        queue_name="bench",
        consumer_id="0",
        idle_timeout=RECOVERY_SECONDS * 1000,
        unacknowledged_lock_timeout=RECOVERY_SECONDS,
        xread_count=256,
    ).with_serializer(ORJSONSerializer())

    async def open_predictor(state: TaskiqState) -> None:
        state.predictor = Predictor.open()

    broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, open_predictor)
    broker.register_task(predict, task_name=TASK)
    return broker


class TaskiqProducer:
    """taskiq's own producer, many messages at a time."""

    def __init__(self, redis_url: str) -> None:
        self._runner = asyncio.Runner()
        self._broker = _broker(redis_url)
        self._runner.run(self._broker.startup())
        self._task = self._broker.find_task(TASK)

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Sends a task for each message."""
        for batch in batches(messages, 32):
            self._runner.run(self._enqueue(batch))

    async def _enqueue(self, messages: Sequence[Message]) -> None:
        await asyncio.gather(*(self._task.kiq(message) for message in messages))

    def close(self) -> None:
        """Closes the connections."""
        self._runner.run(self._broker.shutdown())
        self._runner.close()


class TaskiqStreams(Contender):
    """taskiq."""

    name = "taskiq"
    title = "taskiq, Redis streams"
    settings = "1 process, 256 async tasks, prefetch 256, ack when executed, orjson, uvloop"
    concurrency = 256
    slow_concurrency = 2048
    per_second = 950

    def command(self, concurrency: int) -> list[str]:
        """Returns the worker's command line."""
        broker = "benchmarks.contenders.taskiq_streams:create_broker"
        tasks = ("--max-async-tasks", str(concurrency), "--max-prefetch", str(concurrency))
        rest = ("--workers", "1", "--ack-type", "when_executed", "--log-level", "WARNING")
        return [program("taskiq"), "worker", broker, *tasks, *rest]

    def producer(self, redis_url: str) -> Producer:
        """Returns taskiq's producer."""
        return TaskiqProducer(redis_url)
