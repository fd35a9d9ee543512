"""Rules of accept_and_claim: at rest a command is claimed as it is accepted, by one holder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from schemas.enums import Priority
from tests.integration.ledger_acts import (
    accept_one,
    every_server,
    lease_one,
    new_command,
    now_ms,
    open_group,
    read_entry,
)
from worker.queue.ledger.models import Accepted, AcceptStatus, Phase, RowState, RunResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

pytestmark = every_server

HOUR_MS = 3_600_000


async def send(redis: Redis, ledger: Ledger, command_id: str = "one", **changes: Any) -> Accepted:
    """Sends a command and accepts it as "me", who has room for one."""
    entry = await read_entry(redis, ledger.keys)
    command = new_command(entry, command_id, **changes)
    return await ledger.accept_and_claim([command], most=1, holder="me")


async def test_at_rest_a_command_is_claimed_as_it_is_accepted(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Its lease is like any other: nobody else gets the row, and its holder may end it."""
    await open_group(redis, keys)
    before = await now_ms(redis)
    told = await send(redis, ledger)
    assert told.statuses == [AcceptStatus.ACCEPTED]
    (lease,) = told.leases
    row = await redis.hgetall(keys.command("one"))
    assert (row[b"s"], row[b"n"], row[b"c"], row[b"a"]) == (b"running", b"1", b"1", b"0")
    ends = await redis.zscore(keys.due_interactive, "one")
    assert ends is not None
    assert ends > before + 1_000
    assert not (await ledger.claim(10, bulk_most=10)).leases
    assert not await redis.xlen(keys.commands), "the entry is acknowledged with it"
    assert await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1, event=b"{}")]) == [True]
    row = await redis.hgetall(keys.command("one"))
    assert (row[b"s"], row[b"n"]) == (b"succeeded", b"2")
    assert b"k" not in row


async def test_its_lease_is_what_a_claim_would_have_given(redis: Redis, ledger: Ledger) -> None:
    claimed = await lease_one(redis, ledger, "claimed")
    (at_once,) = (await send(redis, ledger, "at-once")).leases
    same = {name for name in claimed.__slots__ if name not in {"row_id", "accepted_at_ms"}}
    told = {name: getattr(at_once, name) for name in same - {"entry_id"}}
    assert told == {name: getattr(claimed, name) for name in same - {"entry_id"}}
    row = await redis.hgetall(ledger.keys.command("at-once"))
    assert at_once.entry_id.encode() == row[b"q"]
    assert at_once.accepted_at_ms == int(row[b"m"])


async def _something_due(redis: Redis, ledger: Ledger) -> None:
    await accept_one(redis, ledger, "other")


async def _held(_: Redis, ledger: Ledger) -> None:
    await ledger.hold(60)


async def _paused(redis: Redis, ledger: Ledger) -> None:
    await redis.hset(ledger.keys.paused(Priority.INTERACTIVE), "until", "0")


NOT_AT_REST: dict[str, Callable[[Redis, Ledger], Awaitable[None]]] = {
    "an interactive command is due": _something_due,
    "the API asked to hold back": _held,
    "the lane is paused": _paused,
}


@pytest.mark.parametrize("trouble", NOT_AT_REST)
async def test_where_something_is_due_held_or_paused_it_waits_for_its_turn(
    redis: Redis, ledger: Ledger, keys: Keys, trouble: str
) -> None:
    await open_group(redis, keys)
    await NOT_AT_REST[trouble](redis, ledger)
    told = await send(redis, ledger)
    assert told == Accepted([AcceptStatus.ACCEPTED], [], [])
    assert await redis.hget(keys.command("one"), "n") == b"0"


@pytest.mark.parametrize("takes_turns", [False, True])
async def test_what_is_due_of_the_bulk_lane_goes_first_where_both_share_one_slot(
    redis: Redis, ledger: Ledger, keys: Keys, takes_turns: bool
) -> None:
    """Elsewhere bulk commands have slots of their own, and a backlog of them holds up nothing."""
    await open_group(redis, keys)
    await accept_one(redis, ledger, "other", lane=Priority.BULK)
    command = new_command(await read_entry(redis, keys), "one")
    told = await ledger.accept_and_claim([command], most=1, holder="me", takes_turns=takes_turns)
    assert [lease.row_id for lease in told.leases] == ([] if takes_turns else ["one"])


@pytest.mark.parametrize(
    "changes",
    [{"lane": Priority.BULK}, {"not_before_ms": 2**45}, {"not_before_ms": 1}],
    ids=["bulk", "not before", "not before long ago"],
)
async def test_what_is_bulk_or_named_a_time_is_not_claimed(
    redis: Redis, ledger: Ledger, keys: Keys, changes: dict[str, Any]
) -> None:
    await open_group(redis, keys)
    told = await send(redis, ledger, **changes)
    assert told == Accepted([AcceptStatus.ACCEPTED], [], [])


async def test_no_more_are_claimed_than_there_is_room_for(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """The first of a batch are; the others are due for whoever has slots."""
    await open_group(redis, keys)
    batch = [new_command(await read_entry(redis, keys), f"id-{number}") for number in range(5)]
    told = await ledger.accept_and_claim(batch, most=2, holder="me")
    assert [lease.row_id for lease in told.leases] == ["id-0", "id-1"]
    others = (await ledger.claim(10)).leases
    assert [lease.row_id for lease in others] == ["id-2", "id-3", "id-4"]


async def test_a_call_whose_reply_was_lost_gives_its_holder_the_same_lease_again(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """And nobody else, and only while it is still the row's."""
    await open_group(redis, keys)
    batch = [new_command(await read_entry(redis, keys))]
    (lost,) = (await ledger.accept_and_claim(batch, most=1, holder="me")).leases
    await redis.zadd(keys.due_interactive, {"one": await now_ms(redis) + HOUR_MS})
    told = await ledger.accept_and_claim(batch, holder="another")
    assert told == Accepted([AcceptStatus.DUPLICATE], [], [])
    told = await ledger.accept_and_claim(batch, holder="me")
    assert told.statuses == [AcceptStatus.DUPLICATE]
    assert not told.leases
    (regained,) = told.regained
    assert (regained.row_id, regained.token) == (lost.row_id, lost.token)
    ends = await redis.zscore(keys.due_interactive, "one")
    assert ends is not None
    assert ends < await now_ms(redis) + HOUR_MS, "it is renewed"
    assert await ledger.finish([RunResult(regained, RowState.SUCCEEDED, 1)]) == [True]
    assert not (await ledger.accept_and_claim(batch, holder="me")).regained


async def test_a_lease_that_passed_to_another_is_not_given_again(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    batch = [new_command(await read_entry(redis, keys))]
    await ledger.accept_and_claim(batch, most=1, holder="me")
    await redis.zadd(keys.due_interactive, {"one": 0})
    assert len((await ledger.claim(1)).leases) == 1
    assert await ledger.accept_and_claim(batch, holder="me") == Accepted(
        [AcceptStatus.DUPLICATE], [], []
    )


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.INTENDED])
async def test_a_lease_whose_run_has_come_further_is_not_given_again(
    redis: Redis, ledger: Ledger, keys: Keys, phase: Phase
) -> None:
    """It would begin from nothing, and create a second time what may have been created."""
    await open_group(redis, keys)
    batch = [new_command(await read_entry(redis, keys))]
    (lease,) = (await ledger.accept_and_claim(batch, most=1, holder="me")).leases
    await ledger.checkpoint(lease, {"title": "a model"}, phase=phase)
    told = await ledger.accept_and_claim(batch, holder="me")
    assert told == Accepted([AcceptStatus.DUPLICATE], [], [])
    await redis.zadd(keys.due_interactive, {"one": 0})
    (again,) = (await ledger.claim(1)).leases
    assert (again.progress, again.phase) == ({"title": "a model"}, phase)


async def test_the_same_command_sent_again_is_no_lost_reply(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """It comes in another entry, and its run goes on."""
    await open_group(redis, keys)
    assert len((await send(redis, ledger)).leases) == 1
    assert await send(redis, ledger) == Accepted([AcceptStatus.DUPLICATE], [], [])
