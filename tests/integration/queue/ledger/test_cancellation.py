"""Rules of cancelling: it wins or loses once, and says honestly what goes on without it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.commands import COMMAND_CLASSES
from schemas.enums import Priority
from tests.conftest import RETENTION_SECONDS
from tests.integration.ledger_acts import (
    accept_one,
    cancelled,
    events,
    every_server,
    lease_one,
    new_command,
    open_group,
    read_entry,
    snapshot,
)
from worker.encord.creation.resolution import Resolution, ResolveStatus, resolve
from worker.encord.creation.resource_spec import training_goes_on
from worker.queue.ledger.cancellation import Canceller, CancelOutcome, CancelStatus
from worker.queue.ledger.ledger import CheckpointStatus
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.models import Phase, RowState, RunResult

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease

pytestmark = every_server

TRAIN: dict[str, Any] = {
    "command_type": "train",
    "text": orjson.dumps({**COMMAND_CLASSES["train"].example, "id": "one"}),
}


async def test_a_waiting_command_ends_as_cancelled_with_one_event(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, **TRAIN)
    assert await cancelled(redis, keys) == CancelOutcome(CancelStatus.CANCELLED, "accepted")
    _, told = await events(redis, keys.events)
    assert (told["type"], told["subject"], told["data"]) == ("train.cancelled", "one", {})
    assert told["correlationid"] == "order-4711"
    assert await events(redis, keys.replies("shop")) == [told]
    assert await redis.exists(keys.due_interactive, keys.text("one")) == 0
    assert await redis.hget(keys.command("one"), "s") == b"cancelled"
    assert RETENTION_SECONDS - 5 <= await redis.ttl(keys.command("one")) <= RETENTION_SECONDS


async def test_who_ran_a_cancelled_command_is_fenced(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    assert (await cancelled(redis, keys)).status is CancelStatus.CANCELLED
    before = await snapshot(redis, keys)
    assert await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1, event=b"e")]) == [False]
    assert (await ledger.checkpoint(lease, {"a": 1}))[0] is CheckpointStatus.FENCED
    assert await ledger.renew([lease]) == {"one"}
    assert await snapshot(redis, keys) == before


@pytest.mark.parametrize("lane", Priority)
async def test_a_command_is_cancelled_in_its_own_lane(
    redis: Redis, ledger: Ledger, keys: Keys, lane: Priority
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, lane=lane)
    await cancelled(redis, keys)
    assert await redis.exists(keys.due_bulk, keys.due_interactive) == 0


async def test_a_suspect_is_due_no_more_once_it_is_cancelled(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger)
    await redis.hset(keys.command("one"), "c", 2)
    assert (await ledger.claim(10)).leases == []
    assert await redis.zcard(keys.due_suspect) == 1
    await cancelled(redis, keys)
    assert await ledger.count_due() == (0, 0, 0)


async def test_an_ended_or_unknown_command_is_left_as_it_is(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1, event=b"e")])
    before = await snapshot(redis, keys)
    ended = await cancelled(redis, keys)
    assert ended == CancelOutcome(CancelStatus.ALREADY_ENDED, "succeeded")
    assert (await cancelled(redis, keys, "other")).status is CancelStatus.UNKNOWN_ID
    assert await snapshot(redis, keys) == before


async def test_cancelling_again_says_that_it_has_ended(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger)
    await cancelled(redis, keys)
    again = await cancelled(redis, keys)
    assert again == CancelOutcome(CancelStatus.ALREADY_ENDED, "cancelled")
    assert await redis.xlen(keys.events) == 2


async def test_it_names_the_training_that_goes_on_at_the_api(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger, **TRAIN)
    leaves = training_goes_on("u")
    await ledger.checkpoint(
        lease, {"uuid": "u"}, phase=Phase.APPLIED, state=RowState.POLLING, leaves=leaves
    )
    outcome = await cancelled(redis, keys)
    assert (outcome.state, outcome.leaves) == ("polling", leaves)
    told = (await events(redis, keys.events))[-1]["data"]
    assert told == {"training_uuid": "u", "note": "the training goes on at the API"}


@pytest.mark.parametrize("phase", [Phase.INTENDED, Phase.IN_DOUBT, Phase.RESOLVED])
async def test_it_says_that_a_change_was_under_way(
    redis: Redis, ledger: Ledger, keys: Keys, phase: Phase
) -> None:
    lease = await lease_one(redis, ledger, **TRAIN)
    await ledger.checkpoint(lease, {}, phase=phase)
    assert (await cancelled(redis, keys)).in_doubt
    assert "note" in (await events(redis, keys.events))[-1]["data"]


@pytest.mark.parametrize(
    ("text", "context"),
    [
        (b'{"type":"segment","data":{},"replyto":"them","correlationid":"c"}', ("c", 1)),
        (b'{"type":"get_model","data":{"of":"later"},"replyto":"them"}', (None, 1)),
        (b"not JSON", (None, 0)),
        (b"", (None, 0)),
    ],
    ids=["unknown type", "unknown data", "not JSON", "no text"],
)
async def test_a_command_that_this_version_can_not_read_is_cancelled_like_any_other(
    redis: Redis, ledger: Ledger, keys: Keys, text: bytes, context: tuple[str | None, int]
) -> None:
    """A newer version may have accepted it, in a state that is as unknown as its type."""
    await open_group(redis, keys)
    await accept_one(redis, ledger, command_type="segment")
    await redis.hset(keys.command("one"), "s", "resting")
    await redis.set(keys.text("one"), text)
    if not text:
        await redis.delete(keys.text("one"))
    assert await cancelled(redis, keys) == CancelOutcome(CancelStatus.CANCELLED, "resting")
    _, told = await events(redis, keys.events)
    assert (told["type"], told["subject"]) == ("segment.cancelled", "one")
    correlation_id, replies = context
    assert told.get("correlationid") == correlation_id
    assert await redis.xlen(keys.replies("them")) == replies
    assert await ledger.count_due() == (0, 0, 0)
    assert await cancelled(redis, keys) == CancelOutcome(CancelStatus.ALREADY_ENDED, "cancelled")


async def test_a_phase_of_a_newer_version_is_told_as_a_change_that_was_under_way(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await lease_one(redis, ledger, **TRAIN)
    await redis.hset(keys.command("one"), "h", "halfway")
    assert (await cancelled(redis, keys)).in_doubt
    assert "note" in (await events(redis, keys.events))[-1]["data"]


async def test_a_training_recorded_while_it_cancels_is_in_the_event_or_the_checkpoint_is_fenced(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Nothing is recorded between what the event was written for and the end of the row."""
    await open_group(redis, keys)
    entry = await read_entry(redis, keys, TRAIN["text"])
    await ledger.accept([new_command(entry, f"id-{number}", **TRAIN) for number in range(100)])
    for lease in (await ledger.claim(100)).leases:
        (recorded, _), outcome = await asyncio.gather(
            ledger.checkpoint(lease, {}, phase=Phase.APPLIED, leaves=training_goes_on("u")),
            cancelled(redis, keys, lease.command_id),
        )
        assert outcome.status is CancelStatus.CANCELLED
        assert (recorded is CheckpointStatus.DONE) == bool(outcome.leaves)


async def test_many_are_cancelled_as_one_by_one_each_once_whatever_moves_meanwhile(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    entry = await read_entry(redis, keys, TRAIN["text"])
    ids = [f"id-{number}" for number in range(100)]
    await ledger.accept([new_command(entry, each, **TRAIN) for each in ids])
    leases = (await ledger.claim(100)).leases
    ended = RunResult(leases[0], RowState.SUCCEEDED, 1, event=b'{"type":"train.succeeded"}')
    assert await ledger.finish([ended]) == [True]
    await redis.hset(keys.command(leases[1].command_id), "b", "night")
    canceller = Canceller(redis, keys, RETENTION_SECONDS, RETENTION_SECONDS)
    # A Redis that was started anew knows no script.
    await redis.script_flush()

    async def checkpoint(lease: Lease) -> CheckpointStatus:
        told = ledger.checkpoint(lease, {}, phase=Phase.APPLIED, leaves=training_goes_on("u"))
        return (await told)[0]

    recorded, outcomes = await asyncio.gather(
        asyncio.gather(*map(checkpoint, leases[2:])),
        canceller.cancel_all([*ids, *ids, "nobody", "night/7"]),
    )
    statuses = {each.command_id: outcomes[each.command_id].status for each in leases}
    assert statuses.pop(leases[0].command_id) is CancelStatus.ALREADY_ENDED
    assert statuses.pop(leases[1].command_id) is CancelStatus.MEMBER_OF_GROUP
    assert set(statuses.values()) == {CancelStatus.CANCELLED}
    assert outcomes["nobody"].status is outcomes["night/7"].status is CancelStatus.UNKNOWN_ID
    for lease, status in zip(leases[2:], recorded, strict=True):
        assert (status is CheckpointStatus.DONE) == bool(outcomes[lease.command_id].leaves)
    published = await events(redis, keys.events)
    told = [each for each in published if each["type"].endswith(".cancelled")]
    assert len(told) == len(statuses)


async def test_a_row_that_holds_something_else_is_no_command_and_keeps_no_other_from_its_end(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Or whoever cancels it would wait until somebody puts the key right."""
    await open_group(redis, keys)
    await accept_one(redis, ledger, "good")
    await redis.set(keys.command("odd"), "of somebody else")
    canceller = Canceller(redis, keys, retention_seconds=60, reply_retention_seconds=60)
    outcomes = await canceller.cancel_all(["odd", "good"])
    assert [outcomes[each].status for each in ("odd", "good")] == [
        CancelStatus.UNKNOWN_ID,
        CancelStatus.CANCELLED,
    ]
    outcome = await resolve(redis, keys, "odd", Resolution(None, "Ada"), reply_retention_seconds=60)
    assert outcome.status is ResolveStatus.UNKNOWN_ID


async def test_a_row_with_fields_that_are_no_text_is_cancelled_like_any_other(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    for command_id in ("odd", "good"):
        await accept_one(redis, ledger, command_id)
    await redis.hset(keys.command("odd"), mapping={"s": b"\xff", "t": b"\xff", "q": b"\xff"})
    canceller = Canceller(redis, keys, retention_seconds=60, reply_retention_seconds=60)
    outcomes = await canceller.cancel_all(["odd", "good"])
    assert {each.status for each in outcomes.values()} == {CancelStatus.CANCELLED}


async def test_a_cancel_written_for_another_moment_of_the_row_does_nothing(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Its event would tell of a token or of progress that the row has left behind."""
    script = load_script(redis, "cancel")
    dues = [keys.due_interactive, keys.due_bulk, keys.due_suspect, keys.deadlines]

    async def cancelled_for(token: int, progress: str) -> int:
        args: list[Any] = [keys.prefix, "one", b"{}", "", 60, 60, token, progress]
        code, _ = await script(keys=[keys.events, *dues], args=args)
        return int(code)

    lease = await lease_one(redis, ledger)
    await ledger.checkpoint(lease, {"uuid": "u"}, phase=Phase.APPLIED)
    before = await snapshot(redis, keys)
    assert await cancelled_for(lease.token, "") == 3
    assert await cancelled_for(lease.token - 1, '{"uuid":"u"}') == 3
    assert await snapshot(redis, keys) == before
    await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1)])
    before = await snapshot(redis, keys)
    assert await cancelled_for(lease.token + 1, "") == 0, "ended"
    assert await snapshot(redis, keys) == before


async def test_of_cancel_and_completion_exactly_one_wins_in_1000_races(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    ids = [f"id-{number}" for number in range(1000)]
    await ledger.accept([new_command(entry, command_id) for command_id in ids])
    leases = (await ledger.claim(1000)).leases
    wins: dict[str, int] = {"cancel": 0, "finish": 0}

    async def race(number: int) -> None:
        lease = leases[number]
        finish = RunResult(lease, RowState.SUCCEEDED, 1, event=b'{"type":"get_model.succeeded"}')
        # Half of the cancels get the head start that reading the row costs them.
        outcome, done = await asyncio.gather(
            cancelled(redis, keys, lease.command_id), _later(ledger, finish, number % 4)
        )
        assert (outcome.status is CancelStatus.CANCELLED) != done
        wins["finish" if done else "cancel"] += 1

    for start in range(0, 1000, 50):
        await asyncio.gather(*(race(number) for number in range(start, start + 50)))
    ends = [event["type"] for event in await events(redis, keys.events)][1000:]
    assert len(ends) == 1000
    assert ends.count("get_model.cancelled") == wins["cancel"] > 0
    assert ends.count("get_model.succeeded") == wins["finish"] > 0
    assert await redis.zcard(keys.due_interactive) == 0


async def _later(ledger: Ledger, finish: RunResult, round_trips: int) -> bool:
    for _ in range(round_trips):
        await ledger.redis.ping()
    (done,) = await ledger.finish([finish])
    return done
