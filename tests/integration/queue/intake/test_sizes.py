"""Rules of the intake at the edges of sizes: what is cut, what is large, what is slow to judge."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING
from uuid import UUID

import orjson

from tests.integration.intake_acts import intake_of, running, settled, take_in, until
from tests.integration.ledger_acts import events
from worker.queue.intake.acceptance import SLOW_SECONDS
from worker.queue.intake.envelope import command_text
from worker.queue.ledger.keys import COMMAND_FIELD

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.ledger import Ledger


async def test_the_raw_text_of_a_rejection_has_4_kib_at_most(redis: Redis, ledger: Ledger) -> None:
    await take_in(redis, ledger, b"\xff" * 10_000, ("x" + "€" * 5000).encode())
    raws = [event["data"]["raw"] for event in await events(redis, ledger.keys.events)]
    assert [len(raw.encode()) <= 4096 for raw in raws] == [True, True]
    assert raws[1] == "x" + "€" * 1365, "no character is cut in two"


def test_a_command_is_no_larger_by_celery_than_by_the_stream() -> None:
    sent = {"type": "list_models", "data": {"query": "€" * 10}, "id": "a"}
    assert command_text(sent) == orjson.dumps(sent)


async def test_messages_that_are_slow_to_judge_leave_time_for_everything_else(
    redis: Redis, ledger: Ledger
) -> None:
    """The loop renews leases: a batch of such messages must not keep it from that."""
    slow = orjson.dumps({
        "type": "train",
        "data": {"labels_uuids": [str(UUID(int=number)) for number in range(25_000)]},
    })
    for _ in range(6):
        await redis.xadd(ledger.keys.commands, {COMMAND_FIELD: slow})
    loop = asyncio.get_running_loop()
    turns: list[float] = []

    async def beat() -> None:
        while True:
            turns.append(loop.time())
            await asyncio.sleep(0)

    async with running(intake_of(redis, ledger).read, beat):
        await until(lambda: settled(redis, ledger.keys))
    pauses = [later - earlier for earlier, later in pairwise(turns)]
    assert sum(pause > SLOW_SECONDS for pause in pauses) >= 6, "each has a turn of its own"
