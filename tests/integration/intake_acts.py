"""The intake without a worker around it: messages go in, and a test waits for their ends."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson

from tests.integration.ledger_acts import MODEL_UUID
from worker.queue.intake.consumer import StreamConsumer
from worker.queue.ledger.dead_letters import DeadLetter, DeadLetters
from worker.queue.ledger.keys import COMMAND_FIELD, Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

    from worker.queue.ledger.ledger import Ledger

SECONDS = 120
GOOD: dict[str, Any] = {"type": "get_model", "data": {"model_uuid": MODEL_UUID}}


def good(**attributes: Any) -> bytes:
    """Returns a good command with these attributes."""
    return orjson.dumps({**GOOD, **attributes})


def intake_of(redis: Redis, ledger: Ledger, **options: Any) -> StreamConsumer:
    values: dict[str, Any] = {
        "consumer": "tester",
        "batch": 256,
        "consumer_idle_seconds": 30,
        "on_accepted": lambda _: None,
    }
    return StreamConsumer(redis, ledger, **{**values, **options})


@asynccontextmanager
async def running(*loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Runs the intake's loops as a worker does."""
    tasks = [asyncio.ensure_future(loop()) for loop in loops]
    try:
        yield
        assert not any(task.done() for task in tasks), "a loop of the intake has ended"
    finally:
        for task in tasks:
            task.cancel()
        _, pending = await asyncio.wait(tasks, timeout=SECONDS)
        assert not pending, "a loop of the intake has not ended"


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    """Waits for a state."""
    deadline = time.monotonic() + SECONDS
    while not await reached():
        assert time.monotonic() < deadline, "the state was not reached"
        await asyncio.sleep(0.01)


async def settled(redis: Redis, keys: Keys) -> bool:
    """Whether everything that was sent has been judged."""
    if await redis.llen(keys.inbox) or await redis.llen(keys.processing):
        return False
    return not await redis.xlen(keys.commands)


async def take_in(redis: Redis, ledger: Ledger, *messages: bytes) -> None:
    """Sends messages and lets an intake judge them all."""
    for message in messages:
        await redis.xadd(ledger.keys.commands, {COMMAND_FIELD: message})
    async with running(intake_of(redis, ledger).read):
        await until(lambda: settled(redis, ledger.keys))


async def letters(redis: Redis, keys: Keys) -> list[DeadLetter]:
    return [letter async for letter in DeadLetters(redis, keys).list()]
