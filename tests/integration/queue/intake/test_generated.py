"""A thousand generated messages: each ends as exactly one accepted or one rejected."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.generated_messages import generated
from tests.integration.intake_acts import letters, running, settled, until
from tests.integration.ledger_acts import events
from worker.queue.intake.consumer import StreamConsumer
from worker.queue.ledger.keys import COMMAND_FIELD

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

CASES = 1000


async def test_each_of_1000_generated_messages_has_one_end(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    messages = generated(CASES)
    assert len(messages) == CASES
    random.Random(7).shuffle(messages)
    pipe = redis.pipeline(transaction=False)
    for message in messages:
        pipe.xadd(keys.commands, {COMMAND_FIELD: message})
    entry_ids = [entry_id.decode() for entry_id in await pipe.execute()]
    intake = StreamConsumer(
        redis,
        ledger,
        consumer="tester",
        batch=256,
        consumer_idle_seconds=30,
        on_accepted=lambda _: None,
    )
    async with running(intake.read):
        await until(lambda: settled(redis, keys))
    told = await events(redis, keys.events)
    judged: dict[str, str] = {}
    for event in told:
        entry_id, _, state = event["id"].rpartition("/")
        assert judged.setdefault(entry_id, state) == state
    assert len(judged) == len(told), "an entry had two events"
    rejected = [entry_id for entry_id, state in judged.items() if state == "rejected"]
    accepted = [entry_id for entry_id, state in judged.items() if state == "accepted"]
    # An entry without an event is one that says again what an accepted one said.
    silent = set(entry_ids) - set(judged)
    assert len(silent) < CASES / 10
    assert len(await letters(redis, keys)) == len(rejected) > CASES / 10
    assert await redis.zcard(keys.due_interactive) + await redis.zcard(keys.due_bulk) == len(
        accepted
    )
    assert len(accepted) > CASES / 10
