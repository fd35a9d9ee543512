"""Entries that lie with consumers that are gone are come to, however many lie before them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ResponseError

from tests.integration.intake_acts import until
from tests.integration.ledger_acts import TEXT, every_server
from tests.integration.worker_bench import end_tasks
from worker.queue.intake.pace import ReadPace
from worker.queue.intake.take_over import TakeOver
from worker.queue.ledger.keys import COMMAND_FIELD, GROUP, CommandStream

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.intake.validation import Entry
    from worker.queue.ledger.keys import Keys

pytestmark = every_server

HOUR_MS = 3_600_000


class Taken:
    """Takes entries over one by one, and notes which."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.ids: list[bytes] = []
        self._redis = redis
        self._keys = keys
        self.take_over = TakeOver(
            redis,
            keys,
            consumer="me",
            pace=ReadPace(1, 1_000_000),
            idle_ms=HOUR_MS,
            handle_all=self.handle,
        )

    async def handle(self, entries: list[Entry], _size: int) -> None:
        for entry in entries:
            self.ids.append(entry.entry_id)
            await self._redis.xack(self._keys.stream(entry.stream), GROUP, entry.entry_id)

    async def until_taken(self, *ids: bytes) -> None:
        """Begins a pass and waits until it has taken these, and these alone."""

        async def are_taken() -> bool:
            return self.ids == list(ids)

        # It pauses once it is done, for as long as half an hour here.
        taking = asyncio.create_task(self.take_over.take_over_once())
        await until(are_taken)
        await end_tasks([taking])


async def read_by(redis: Redis, stream: str, consumer: str, entries: int) -> list[bytes]:
    """Adds entries and has a consumer read them; returns their ids."""
    added = [await redis.xadd(stream, {COMMAND_FIELD: TEXT}) for _ in range(entries)]
    await redis.xreadgroup(GROUP, consumer, {stream: ">"})
    return [each for each in added if isinstance(each, bytes)]


@pytest.fixture
async def taken(redis: Redis, keys: Keys) -> Taken:
    for stream in CommandStream:
        await redis.xgroup_create(keys.stream(stream), GROUP, id="0", mkstream=True)
    return Taken(redis, keys)


async def test_what_lies_behind_many_entries_of_who_is_busy_is_taken_over(
    redis: Redis, keys: Keys, taken: Taken
) -> None:
    await read_by(redis, keys.commands, "busy", 30)
    gone = await read_by(redis, keys.commands, "gone", 2)
    await redis.xclaim(keys.commands, GROUP, "gone", 0, [*gone], idle=2 * HOUR_MS)
    await taken.until_taken(*gone)


async def test_what_a_pass_over_all_did_not_come_to_is_taken_by_the_next(
    redis: Redis, keys: Keys, taken: Taken
) -> None:
    """Redis may be lost between the two streams."""
    gone = await read_by(redis, keys.bulk_commands, "gone", 2)
    aside = f"{keys.prefix}aside"
    await redis.rename(keys.bulk_commands, aside)
    await redis.set(keys.bulk_commands, "no stream")
    taken.take_over.take_all_over()
    with pytest.raises(ResponseError):
        await taken.take_over.take_over_once()
    await redis.rename(aside, keys.bulk_commands)
    await taken.until_taken(*gone)
