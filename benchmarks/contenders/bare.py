"""Loops without a queue, as ceilings: the same requests and events, and nothing else.

A loop is told how many commands to make up by one message on a list; it keeps its slots full
and publishes events as a pipeline, whatever has gathered while the last one was under way. What
it loses when it is killed is everything, for nothing was written down.

Run as `python -m benchmarks.contenders.bare transport|aiohttp`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import aiohttp
import orjson
import redis
import redis.asyncio
import uvloop
from yarl import URL

from benchmarks.contenders.contender import Contender, Producer
from benchmarks.work import (
    EVENTS,
    PATH,
    REDIS_URL,
    Message,
    Predictor,
    concurrency,
    domain,
    messages,
    request_body,
    result_event,
    signer,
)
from worker.encord.api.transport import BASE_PATH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Predict = Callable[[Message], Awaitable[bytes]]

ORDERS = "bench:bare"
_BLOCK_SECONDS = 1


class BareProducer:
    """Tells a loop how many commands to make up."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.Redis.from_url(redis_url)

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Orders as many commands as there are messages, with their ids."""
        run, _, number = messages[0]["id"].rpartition("-")
        size = len(messages[0]["data"]["data_base64"])
        order = {"run": run, "first": int(number), "count": len(messages), "size": size}
        self._redis.rpush(ORDERS, orjson.dumps(order))

    def close(self) -> None:
        """Closes the connection."""
        self._redis.close()


class BareLoop(Contender):
    """A loop over the worker's transport, or over aiohttp."""

    concurrency = 256
    slow_concurrency = 2048
    queued = False
    lost_answer = "lost"

    def __init__(self, way: str, title: str, settings: str, per_second: int) -> None:
        self.way = way
        self.name = f"bare-{way}"
        self.title = title
        self.settings = settings
        self.per_second = per_second

    def command(self, concurrency: int) -> list[str]:  # noqa: ARG002 - they are in the environment
        """Returns the loop's command line."""
        return [sys.executable, "-m", "benchmarks.contenders.bare", self.way]

    def producer(self, redis_url: str) -> Producer:
        """Returns what starts the loop."""
        return BareProducer(redis_url)


BARE_TRANSPORT = BareLoop(
    "transport",
    "bare loop, our transport",
    "no queue; the worker's own transport, events in pipelines, uvloop",
    3_000,
)
BARE_AIOHTTP = BareLoop(
    "aiohttp",
    "bare loop, aiohttp",
    "no queue; aiohttp alone, events in pipelines, uvloop",
    4_200,
)


class Publisher:
    """Publishes events in pipelines, one under way at a time."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client
        self._events: list[bytes] = []
        self._gathered = asyncio.Event()

    def publish(self, event: bytes) -> None:
        """Has an event published soon."""
        self._events.append(event)
        self._gathered.set()

    async def run(self) -> None:
        """Publishes what gathers, for ever."""
        while True:
            await self._gathered.wait()
            self._gathered.clear()
            events, self._events = self._events, []
            pipe = self._redis.pipeline(transaction=False)
            for event in events:
                pipe.xadd(EVENTS, {"event": event})
            await pipe.execute()


async def serve(predict: Predict) -> None:
    """Carries out orders for ever."""
    client = redis.asyncio.Redis.from_url(os.environ[REDIS_URL])
    publisher = Publisher(client)
    publishing = asyncio.create_task(publisher.run())
    while not publishing.done():
        popped = await client.blpop([ORDERS], _BLOCK_SECONDS)
        if popped is not None:
            order = orjson.loads(popped[1])
            await carry_out(
                messages(order["run"], order["first"], order["count"], size=order["size"]),
                predict,
                publisher,
            )
    await publishing


async def carry_out(work: list[Message], predict: Predict, publisher: Publisher) -> None:
    """Carries out messages with all slots full."""
    left = iter(work)

    async def slot() -> None:
        for message in left:
            publisher.publish(await predict(message))

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency()):
            group.create_task(slot())


async def serve_transport() -> None:
    """Serves with the transport of the worker."""
    await serve(Predictor.open().predict)


async def serve_aiohttp() -> None:
    """Serves with nothing but aiohttp."""
    sign = signer().headers
    url = URL(domain() + BASE_PATH + PATH)
    fixed = {"Accept": "application/json", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency()), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:

        async def predict(message: Message) -> bytes:
            body = request_body(message)
            headers = fixed | sign("POST", url.raw_path, body)
            async with session.post(url, data=body, headers=headers) as reply:
                reply.raise_for_status()
                return result_event(message, orjson.loads(await reply.read())["result"])

        await serve(predict)


if __name__ == "__main__":
    uvloop.run({"transport": serve_transport, "aiohttp": serve_aiohttp}[sys.argv[1]]())
