"""Rules of accept and reject: first writer wins, and nothing is acknowledged before it is done."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from schemas.enums import Priority
from tests.conftest import REPLY_SECONDS
from tests.integration.ledger_acts import (
    TEXT,
    accept_one,
    events,
    every_server,
    new_command,
    now_ms,
    open_group,
    raw_events,
    read_entry,
)
from worker.queue.ledger.connection import connect
from worker.queue.ledger.dead_letters import FIELD
from worker.queue.ledger.keys import GROUP
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.models import AcceptStatus, Rejection
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

pytestmark = every_server


async def pending(redis: Redis, keys: Keys) -> int:
    return int((await redis.xpending(keys.commands, GROUP))["pending"])


async def test_an_accepted_command_is_a_row_that_is_due_with_its_text_and_one_event(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    before = await now_ms(redis)
    assert await accept_one(redis, ledger) is AcceptStatus.ACCEPTED
    row = await redis.hgetall(keys.command("one"))
    assert (row[b"t"], row[b"s"], row[b"l"], row[b"n"]) == (b"get_model", b"accepted", b"i", b"0")
    assert row[b"f"] == b"\x00\xff" * 8
    assert await redis.get(keys.text("one")) == TEXT
    score = await redis.zscore(keys.due_interactive, "one")
    assert score is not None
    assert before <= score <= await now_ms(redis)
    assert await redis.zcard(keys.due_bulk) == 0
    assert [event["type"] for event in await events(redis, keys.events)] == ["get_model.accepted"]


async def test_the_entry_is_acknowledged_and_deleted_with_the_acceptance(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger)
    assert await pending(redis, keys) == 0
    assert await redis.xlen(keys.commands) == 0


async def test_a_row_that_has_not_ended_never_expires(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger)
    assert await redis.ttl(keys.command("one")) == -1
    assert await redis.ttl(keys.text("one")) == -1


async def test_a_bulk_command_is_due_in_its_own_lane(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, lane=Priority.BULK)
    assert await redis.zcard(keys.due_interactive) == 0
    assert await redis.zrange(keys.due_bulk, 0, -1) == [b"one"]


async def test_a_command_is_due_at_its_notbefore_to_the_millisecond(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Up to the last year that a time can name, which is a number of 15 digits."""
    await open_group(redis, keys)
    last = 253_402_300_799_999
    await accept_one(redis, ledger, not_before_ms=last)
    assert await redis.zscore(keys.due_interactive, "one") == last
    assert (await ledger.claim(10)).leases == []


async def test_a_notbefore_in_the_past_is_now(redis: Redis, ledger: Ledger, keys: Keys) -> None:
    await open_group(redis, keys)
    before = await now_ms(redis)
    await accept_one(redis, ledger, not_before_ms=-62_135_596_800_000)
    score = await redis.zscore(keys.due_interactive, "one")
    assert score is not None
    assert score >= before


async def test_the_same_again_does_nothing_more(redis: Redis, ledger: Ledger, keys: Keys) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger)
    row = await redis.dump(keys.command("one"))
    assert await accept_one(redis, ledger) is AcceptStatus.DUPLICATE
    assert await redis.dump(keys.command("one")) == row
    assert await redis.xlen(keys.events) == 1
    assert await pending(redis, keys) == 0


async def test_other_content_under_a_known_id_is_a_conflict_and_stays_pending(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger)
    row = await redis.dump(keys.command("one"))
    verdict = await accept_one(redis, ledger, fingerprint=b"other", text=b"{}")
    assert verdict is AcceptStatus.CONFLICT
    assert await redis.dump(keys.command("one")) == row
    assert await redis.get(keys.text("one")) == TEXT
    assert await redis.xlen(keys.events) == 1
    assert await pending(redis, keys) == 1


async def test_one_batch_may_hold_the_same_id_three_times(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    entries = [await read_entry(redis, keys) for _ in range(3)]
    batch = [new_command(entry) for entry in entries]
    batch[2] = replace(batch[2], fingerprint=b"other")
    assert await ledger.accept(batch) == [
        AcceptStatus.ACCEPTED,
        AcceptStatus.DUPLICATE,
        AcceptStatus.CONFLICT,
    ]


async def test_accepting_again_after_a_lost_reply_is_harmless(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    item = new_command(await read_entry(redis, keys), replies=keys.replies("shop"))
    assert await ledger.accept([item]) == [AcceptStatus.ACCEPTED]
    assert await ledger.accept([item]) == [AcceptStatus.DUPLICATE]
    assert await redis.xlen(keys.events) == 1
    assert await redis.xlen(keys.replies("shop")) == 1


async def test_of_many_workers_that_accept_one_id_exactly_one_wins(
    redis_url: str, redis: Redis, keys: Keys
) -> None:
    await open_group(redis, keys)
    clients = [connect(redis_url) for _ in range(8)]
    ledgers = [
        Ledger(client, keys, lease_seconds=30, retention_seconds=60, reply_retention_seconds=60)
        for client in clients
    ]
    entries = [await read_entry(redis, keys) for _ in range(8)]
    try:
        for number in range(50):
            verdicts = await asyncio.gather(
                *(
                    each.accept([new_command(entry, f"id-{number}")])
                    for each, entry in zip(ledgers, entries, strict=True)
                )
            )
            assert [verdict for (verdict,) in verdicts].count(AcceptStatus.ACCEPTED) == 1
    finally:
        for client in clients:
            await client.aclose()
    assert await redis.xlen(keys.events) == 50
    assert await redis.zcard(keys.due_interactive) == 50


@pytest.mark.parametrize(
    "command_id",
    [
        "'quoted\"",
        "two words",
        "id:with:colons",
        "{braces}",
        "*[?]\\",
        "naïve-ключ-鍵-🔑",
        "x" * 255,
    ],
)
async def test_an_id_of_any_printable_characters_is_kept_as_it_is(
    redis: Redis, ledger: Ledger, keys: Keys, command_id: str
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, command_id)
    (lease,) = (await ledger.claim(10)).leases
    assert lease.command_id == command_id


async def test_reply_streams_get_the_event_and_live_as_long_as_events_are_kept(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    replies = keys.replies("shop")
    await accept_one(redis, ledger, replies=replies)
    assert await raw_events(redis, replies) == await raw_events(redis, keys.events)
    assert REPLY_SECONDS - 5 <= await redis.ttl(replies) <= REPLY_SECONDS


async def test_a_busy_reply_stream_loses_what_is_older_than_events_are_kept(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """It never expires while events come, so it has to be trimmed."""
    await open_group(redis, keys)
    replies = keys.replies("shop")
    too_old = await now_ms(redis) - (REPLY_SECONDS + 60) * 1000
    pipe = redis.pipeline(transaction=False)
    for number in range(500):
        pipe.xadd(replies, {"event": b"{}"}, id=f"{too_old}-{number}")
    await pipe.execute()
    await accept_one(redis, ledger, replies=replies)
    assert await redis.xlen(replies) < 200


async def test_a_busy_reply_stream_loses_nothing_that_is_younger_than_events_are_kept(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Its reader may come back days later."""
    await open_group(redis, keys)
    replies = keys.replies("shop")
    still_young = await now_ms(redis) - (REPLY_SECONDS - 600) * 1000
    pipe = redis.pipeline(transaction=False)
    for number in range(500):
        pipe.xadd(replies, {"event": b"{}"}, id=f"{still_young}-{number}")
    await pipe.execute()
    await accept_one(redis, ledger, replies=replies)
    assert await redis.xlen(replies) == 501


async def test_a_rejection_is_one_event_and_one_dead_letter_and_acknowledged(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    entry = await read_entry(redis, keys, b"bad")
    rejection = Rejection(entry, b'{"type":"r"}', b'{"text":"bad"}', keys.replies("shop"))
    assert await ledger.reject([rejection]) == 1
    assert await raw_events(redis, keys.events) == [b'{"type":"r"}']
    assert await raw_events(redis, keys.replies("shop")) == [b'{"type":"r"}']
    ((_, fields),) = await entries_between(redis, keys.dead_letters, "-", "+")
    assert fields == {FIELD: b'{"text":"bad"}'}
    assert await pending(redis, keys) == 0
    assert await redis.xlen(keys.commands) == 0


async def test_an_entry_is_rejected_once_however_often_it_is_tried(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    rejection = Rejection(await read_entry(redis, keys, b"bad"), b"{}", b"{}", "")
    done = await asyncio.gather(*(ledger.reject([rejection]) for _ in range(20)))
    assert sum(done) == 1
    assert await redis.xlen(keys.events) == 1
    assert await redis.xlen(keys.dead_letters) == 1
