"""Who looks behind a backlog of bulk commands: one worker, for as long as it does so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.ledger_acts import every_server
from worker.queue.intake.look_ahead import LookAhead
from worker.queue.intake.validation import Entry
from worker.queue.ledger.keys import COMMAND_FIELD

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

pytestmark = every_server

BULK = b'{"priority": "bulk"}'


async def test_who_looks_keeps_others_from_it_for_as_long_as_it_does(
    redis: Redis, keys: Keys
) -> None:
    read = [Entry(b"1-0", {COMMAND_FIELD: BULK})]
    await redis.xadd(keys.commands, {COMMAND_FIELD: b"{}"}, id="2-0")

    async def looks(consumer: str) -> bool:
        look_ahead = LookAhead(redis, keys, consumer, batch=10, batch_bytes=1_000_000)
        return [page async for page in look_ahead.pages(read)] != []

    assert await looks("one")
    soon_over = 1_000
    await redis.pexpire(keys.look_ahead, soon_over)
    assert not await looks("another")
    assert await redis.pttl(keys.look_ahead) <= soon_over
    assert await looks("one")
    assert await redis.pttl(keys.look_ahead) > soon_over
