"""Streams that take no more entries: nothing is popped, acknowledged or told twice for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest
from redis.exceptions import ResponseError

from tests.integration.backfilling import NAME, begin, command
from tests.integration.ledger_acts import (
    accept_one,
    events,
    lease_one,
    new_command,
    open_group,
    raw_events,
    read_entry,
)
from worker.backfill.status import BackfillState
from worker.backfill.store import FeedItem, Transition
from worker.queue.intake.list_bridge import ListForwarder, ListSource
from worker.queue.ledger.cancellation import cancel
from worker.queue.ledger.models import AcceptStatus, Phase, Rejection, RowState, RunResult
from worker.queue.ledger.refusals import EndsRefusedError
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.console import Console
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

GREATEST = f"{2**64 - 1}-{2**64 - 1}"
TEXTS = [b"one", b"two", b"three"]


async def exhaust(redis: Redis, stream: str) -> None:
    """Gives a stream the greatest id there is, so that it refuses every further entry."""
    await redis.xadd(stream, {"exhausted": "1"}, id=GREATEST)
    await redis.xdel(stream, GREATEST)


@pytest.mark.parametrize("which", ["inbox", "celery"])
async def test_what_was_pushed_stays_in_its_list_while_the_stream_refuses_it(
    redis: Redis, keys: Keys, which: str
) -> None:
    await exhaust(redis, keys.commands)
    pushed = ListSource.inbox(keys) if which == "inbox" else ListSource.celery(keys)
    name = pushed.name
    push = redis.rpush if pushed.oldest == "LEFT" else redis.lpush
    for text in TEXTS:
        await push(name, text)
    await redis.rpush(pushed.moving, b"moving")
    mover = ListForwarder(redis, keys, pushed, 100)
    for _ in range(2):
        with pytest.raises(ResponseError):
            await mover.move_once()
    assert (await redis.llen(name), await redis.llen(pushed.moving)) == (3, 1)
    await redis.delete(keys.commands)
    await mover.move_once()
    moved = [
        fields[pushed.field] for _, fields in await entries_between(redis, keys.commands, "-", "+")
    ]
    assert moved == [b"moving", *TEXTS]
    assert await redis.exists(name, pushed.moving) == 0


@pytest.mark.parametrize("which", ["inbox", "celery"])
async def test_a_stream_that_takes_some_more_leaves_the_rest_in_the_list(
    redis: Redis, keys: Keys, which: str
) -> None:
    """What it took is moved and nothing else: neither lost nor there twice."""
    await redis.xadd(keys.commands, {"exhausted": "1"}, id=f"{2**64 - 1}-{2**64 - 4}")
    pushed = ListSource.inbox(keys) if which == "inbox" else ListSource.celery(keys)
    name = pushed.name
    push = redis.rpush if pushed.oldest == "LEFT" else redis.lpush
    texts = [b"%d" % number for number in range(8)]
    await push(name, *texts)
    mover = ListForwarder(redis, keys, pushed, 100)
    for _ in range(2):
        with pytest.raises(ResponseError):
            await mover.move_once()
    moved = await entries_between(redis, keys.commands, "-", "+")
    assert [fields[pushed.field] for _, fields in moved[1:]] == texts[:3]
    left = await redis.lrange(name, 0, -1)
    assert left == (texts[3:] if pushed.oldest == "LEFT" else texts[:2:-1])


async def test_what_a_batch_accepted_before_a_refusal_is_due(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    """Or a row would wait until the repair found it in no due set."""
    await open_group(redis, keys)
    entries = [await read_entry(redis, keys) for _ in range(2)]
    batch = [new_command(entry, f"c-{n}") for n, entry in enumerate(entries)]
    await redis.xadd(keys.events, {"exhausted": "1"}, id=f"{2**64 - 1}-{2**64 - 2}")
    # Its own first word, by which a client tells what kind of error it is.
    with pytest.raises(ResponseError, match=r"^The stream has exhausted"):
        await ledger.accept(batch)
    assert await redis.zrange(keys.due_interactive, 0, -1) == [b"c-0"]
    await redis.delete(keys.events)
    assert await ledger.accept(batch) == [AcceptStatus.DUPLICATE, AcceptStatus.ACCEPTED]
    assert [lease.row_id for lease in (await ledger.claim(10)).leases] == ["c-0", "c-1"]


async def test_what_a_batch_ended_before_a_refusal_is_due_no_more(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    """Or a command that has ended would be claimed once its lease is over."""
    await open_group(redis, keys)
    for command_id in ("c-0", "c-1"):
        await accept_one(redis, ledger, command_id)
    leases = (await ledger.claim(10)).leases
    await exhaust(redis, keys.events)
    ends = [
        RunResult(lease, RowState.SUCCEEDED, 1, event=event)
        for lease, event in zip(leases, (b"", b'{"n": 1}'), strict=True)
    ]
    with pytest.raises(ResponseError, match=r"^The stream has exhausted"):
        await ledger.finish(ends)
    assert await redis.zrange(keys.due_interactive, 0, -1) == [b"c-1"]
    assert await redis.exists(keys.text("c-0"), keys.text("c-1")) == 1
    await redis.delete(keys.events)
    assert await ledger.finish(ends) == [True, True]
    assert await redis.exists(keys.due_interactive, keys.text("c-1")) == 0


@pytest.mark.parametrize("which", ["events", "dead_letters"])
async def test_a_rejection_that_a_stream_refuses_stays_pending_and_is_told_once(
    redis: Redis, keys: Keys, ledger: Ledger, which: str
) -> None:
    await open_group(redis, keys)
    entry = await read_entry(redis, keys, b"bad")
    await exhaust(redis, getattr(keys, which))
    batch = [Rejection(entry, b'{"n": 1}', b"{}", "")]
    for _ in range(2):
        with pytest.raises(ResponseError):
            await ledger.reject(batch)
    assert (await redis.xlen(keys.events), await redis.xlen(keys.dead_letters)) == (0, 0)
    await redis.delete(getattr(keys, which))
    assert [await ledger.reject(batch), await ledger.reject(batch)] == [1, 0]
    assert (await redis.xlen(keys.events), await redis.xlen(keys.dead_letters)) == (1, 1)
    assert await redis.xlen(keys.commands) == 0


async def test_an_acceptance_that_the_events_refuse_is_accepted_later_with_its_event(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    await exhaust(redis, keys.events)
    with pytest.raises(ResponseError):
        await ledger.accept([new_command(entry)])
    assert await redis.exists(keys.command("one")) == 0
    await redis.delete(keys.events)
    assert await ledger.accept([new_command(entry)]) == [AcceptStatus.ACCEPTED]
    assert len(await events(redis, keys.events)) == 1


@pytest.mark.parametrize("which", ["events", "dead_letters"])
async def test_an_end_that_a_stream_refuses_is_kept_and_told_once(
    redis: Redis, keys: Keys, ledger: Ledger, which: str
) -> None:
    lease = await lease_one(redis, ledger)
    await redis.delete(keys.events)
    await exhaust(redis, getattr(keys, which))
    replies = keys.replies("me")
    end = RunResult(
        lease, RowState.FAILED, 1, event=b'{"n": 1}', replies=replies, dead_letter=b"{}"
    )
    for _ in range(2):
        with pytest.raises(ResponseError):
            await ledger.finish([end])
    assert await redis.hget(keys.command("one"), "s") == b"running"
    await redis.delete(getattr(keys, which))
    assert await ledger.finish([end]) == [True]
    assert await ledger.finish([end]) == [True]
    assert (await redis.xlen(keys.events), await redis.xlen(keys.dead_letters)) == (1, 1)
    assert await redis.xlen(replies) == 1


async def test_a_checkpoint_that_the_events_refuse_is_told_when_it_is_repeated(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    lease = await lease_one(redis, ledger)
    await redis.delete(keys.events)
    await exhaust(redis, keys.events)
    lock = keys.lock("training:x")
    for _ in range(2):
        with pytest.raises(ResponseError):
            await ledger.checkpoint(lease, {}, phase=Phase.APPLIED, event=b"{}", take_lock=lock)
    assert await redis.exists(lock) == 0
    await redis.delete(keys.events)
    for _ in range(2):
        await ledger.checkpoint(lease, {}, phase=Phase.APPLIED, event=b"{}", take_lock=lock)
    assert await redis.xlen(keys.events) == 1


async def test_results_of_items_that_are_refused_are_neither_lost_nor_counted_twice(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    night = await begin(redis, keys, ledger, tmp_path)
    token, standing = await night.lead()
    items = [FeedItem(orjson.dumps(command(0))), FeedItem(b"", b"{}"), FeedItem(b"", b"{}")]
    results = keys.group_results(NAME)
    await exhaust(redis, results)
    for _ in range(2):
        with pytest.raises(ResponseError):
            await night.store.feed(standing, token, items, "3", exhausted=True)
    await redis.delete(results)
    assert await night.store.feed(standing, token, items, "3", exhausted=True)
    assert (await night.standing()).failed == await redis.xlen(results) == 2
    (lease,) = await night.claim()
    await redis.delete(results)
    await exhaust(redis, results)
    for _ in range(2):
        with pytest.raises(ResponseError):
            await night.settle(lease)
    await redis.delete(results)
    assert await night.settle(lease)
    now = await night.standing()
    assert (now.succeeded, now.waiting, now.open) == (1, 1, 0)


async def test_ends_that_their_group_refuses_are_none_of_the_others_trouble(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    night = await begin(redis, keys, ledger, tmp_path)
    await night.feed(1)
    await open_group(redis, keys)
    for command_id in ("before", "behind"):
        await accept_one(redis, ledger, command_id)
    leases = (await ledger.claim(10, bulk_most=10)).leases
    before, behind = (lease for lease in leases if not lease.group)
    (member,) = (lease for lease in leases if lease.group)
    ends = [RunResult(lease, RowState.SUCCEEDED, 1) for lease in (before, member, behind)]
    await redis.set(keys.group_results(NAME), "no stream")
    with pytest.raises(EndsRefusedError, match=r"^WRONGTYPE") as told:
        await ledger.finish(ends)
    assert told.value.done == [True, None, True]
    with pytest.raises(EndsRefusedError) as told:
        await ledger.finish(ends)
    assert told.value.done == [True, None, True]
    await redis.delete(keys.group_results(NAME))
    assert await ledger.finish(ends) == [True, True, True]
    assert await ledger.finish(ends) == [True, False, True]


async def test_a_state_of_a_backfill_is_taken_only_with_its_event(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    night = await begin(redis, keys, ledger, tmp_path)
    await exhaust(redis, keys.events)
    turn = Transition({BackfillState.RUNNING}, BackfillState.FAILED, event=b"{}")
    with pytest.raises(ResponseError):
        await night.store.transition(NAME, turn)
    assert (await night.standing()).state is BackfillState.RUNNING
    await redis.delete(keys.events)
    assert (await night.store.transition(NAME, turn))[0]
    assert await redis.xlen(keys.events) == 1


async def test_a_reply_stream_that_takes_no_more_keeps_nothing_from_happening_once(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    """Whoever accepts, rejects, notes, ends or cancels: the events stream has it all."""
    replies = keys.replies("desk")
    await exhaust(redis, replies)
    lease = await lease_one(redis, ledger, event=b"accepted", replies=replies)
    await ledger.checkpoint(lease, {}, phase=Phase.APPLIED, event=b"recorded", replies=replies)
    end = RunResult(lease, RowState.SUCCEEDED, 1, event=b"ended", replies=replies)
    assert await ledger.finish([end]) == [True]
    bad = await read_entry(redis, keys, b"bad")
    assert await ledger.reject([Rejection(bad, b"rejected", b"{}", replies)]) == 1
    text = b'{"type":"list_models","id":"two","data":{},"replyto":"desk"}'
    await accept_one(redis, ledger, "two", text=text, event=b"second", replies=replies)
    kept = {"retention_seconds": 60, "reply_retention_seconds": 60}
    await cancel(redis, keys, "two", **kept)
    told = await raw_events(redis, keys.events)
    assert told[:5] == [b"accepted", b"recorded", b"ended", b"rejected", b"second"]
    assert [b"list_models.cancelled" in event for event in told[5:]] == [True]
    assert await redis.xlen(replies) == 0


async def test_doctor_names_a_stream_that_takes_no_more_entries(
    redis: Redis, keys: Keys, console: Console
) -> None:
    for stream in (keys.commands, keys.events, keys.dead_letters):
        await exhaust(redis, stream)
    said = console.run("doctor")
    assert said.code == 1
    told = " ".join(said.out.split())
    for stream in (keys.commands, keys.events, keys.dead_letters):
        assert f"{stream} accepts no more entries" in told
