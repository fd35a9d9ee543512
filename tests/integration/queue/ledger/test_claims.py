"""Rules of claim, renew, checkpoint and finish: who holds the token, and what may be repeated."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from schemas.enums import Priority
from schemas.trainings import SEVEN_DAYS_SECONDS
from tests.conftest import RETENTION_SECONDS, TEXT_SECONDS
from tests.integration.ledger_acts import (
    TEXT,
    accept_one,
    every_server,
    lease_one,
    new_command,
    now_ms,
    open_group,
    raw_events,
    read_entry,
    snapshot,
)
from worker.encord.creation.orphans import OrphanedCreation, Orphans
from worker.queue.ledger.dead_letters import FIELD
from worker.queue.ledger.deadlines import Deadlines
from worker.queue.ledger.ledger import ENDED_HOLDER_SECONDS, LOCK_SECONDS, CheckpointStatus, Ledger
from worker.queue.ledger.models import AcceptStatus, Lease, Phase, RowState, RunResult, Token
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

pytestmark = every_server


def quick_ledger(redis: Redis, keys: Keys, **times: float) -> Ledger:
    """Returns a ledger whose leases or rows end within the test."""
    return Ledger(
        redis,
        keys,
        lease_seconds=times.get("lease", 30),
        retention_seconds=int(times.get("retention", RETENTION_SECONDS)),
        reply_retention_seconds=60,
        text_retention_seconds=int(times.get("text_retention", 0)),
    )


async def claim_again(ledger: Ledger) -> Lease:
    """Claims as soon as a lease has run out."""
    deadline = time.monotonic() + 10
    while not (leases := (await ledger.claim(10, bulk_most=10, suspects=1)).leases):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return leases[0]


async def test_a_claimed_row_runs_under_a_new_token_until_its_lease_ends(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    before = await now_ms(redis)
    lease = await lease_one(redis, ledger)
    assert (lease.token, lease.claims, lease.attempts) == (1, 1, 0)
    assert (lease.text, lease.progress, lease.errors) == (TEXT, None, [])
    assert lease.state is RowState.ACCEPTED
    assert await redis.hget(keys.command("one"), "s") == b"running"
    score = await redis.zscore(keys.due_interactive, "one")
    assert score is not None
    assert before + 30_000 <= score <= await now_ms(redis) + 30_000
    assert (await ledger.claim(10)).leases == []


async def test_no_two_claims_get_the_same_row(redis: Redis, ledger: Ledger, keys: Keys) -> None:
    """Not even where more are under way at once than a worker has connections by habit."""
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    await ledger.accept([new_command(entry, f"id-{number}") for number in range(400)])
    claims = await asyncio.gather(*(ledger.claim(7) for _ in range(80)))
    claimed = [lease.command_id for claim in claims for lease in claim.leases]
    assert sorted(claimed) == sorted(f"id-{number}" for number in range(400))


async def test_the_oldest_due_rows_are_claimed_first(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    for command_id in ("first", "second", "third"):
        await accept_one(redis, ledger, command_id)
    claimed = (await ledger.claim(2)).leases
    assert [lease.command_id for lease in claimed] == ["first", "second"]


async def test_the_bulk_lane_gets_its_share_before_and_the_rest_after_the_interactive_lane(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    for lane in Priority:
        await ledger.accept([
            new_command(entry, f"{lane}-{number}", lane=lane) for number in range(10)
        ])
    claimed = (await ledger.claim(12, bulk_first=1, bulk_most=5)).leases
    lanes = [lease.lane for lease in claimed]
    assert lanes == [Priority.BULK, *[Priority.INTERACTIVE] * 10, Priority.BULK]
    rest = (await ledger.claim(12, bulk_first=1, bulk_most=5)).leases
    assert [lease.lane for lease in rest] == [Priority.BULK] * 5


async def test_a_claim_ends_with_the_row_whose_text_makes_it_large_enough(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    for lane in Priority:
        await ledger.accept([
            new_command(entry, f"{lane}-{number}", lane=lane, text=b"x" * 1000)
            for number in range(6)
        ])
    claim = await ledger.claim(12, bulk_first=3, bulk_most=6, most_bytes=4500, bulk_bytes=1500)
    lanes = [lease.lane for lease in claim.leases]
    assert lanes == [Priority.BULK] * 2 + [Priority.INTERACTIVE] * 3
    assert claim.cut
    rest = await ledger.claim(12, bulk_most=6)
    assert len(rest.leases) == 7
    assert not rest.cut


async def test_late_commands_are_ended_in_claims_that_are_bounded_by_bytes(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    passed = await now_ms(redis) - 1000
    await ledger.accept([
        new_command(entry, f"late-{number}", deadline_ms=passed, text=b"x" * 1024 * 1024)
        for number in range(10)
    ])
    deadlines = Deadlines(redis, keys, lease_seconds=30)
    first = await deadlines.claim(256)
    assert (len(first.leases), first.next_seconds) == (4, 0)
    assert [len((await deadlines.claim(256)).leases) for _ in range(3)] == [4, 2, 0]


async def test_while_the_hold_lasts_nobody_claims(redis: Redis, ledger: Ledger, keys: Keys) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger)
    await ledger.hold(60)
    await ledger.hold(1)
    claim = await ledger.claim(10)
    assert claim.leases == []
    assert 55 < claim.held_seconds <= 60
    await redis.delete(keys.hold)
    assert len((await ledger.claim(10)).leases) == 1


async def test_a_row_whose_lease_ran_out_is_claimed_anew_and_counts_its_claims(
    redis: Redis, keys: Keys
) -> None:
    ledger = quick_ledger(redis, keys, lease=0.03)
    first = await lease_one(redis, ledger)
    second = await claim_again(ledger)
    assert (second.token, second.claims) == (first.token + 1, 2)
    assert second.state is RowState.RUNNING


async def test_a_row_that_was_claimed_twice_without_an_end_runs_only_as_a_suspect(
    redis: Redis, keys: Keys
) -> None:
    ledger = quick_ledger(redis, keys, lease=0.03)
    await lease_one(redis, ledger)
    second = await claim_again(ledger)
    assert not second.suspect
    while not await redis.zcard(keys.due_suspect):
        assert (await ledger.claim(10)).leases == []
        await asyncio.sleep(0.005)
    assert await redis.zcard(keys.due_interactive) == 0
    assert (await ledger.claim(10, suspects=0)).leases == []
    third = await claim_again(ledger)
    assert (third.suspect, third.claims) == (True, 3)
    assert await redis.zcard(keys.due_suspect) == 0
    assert await redis.zrange(keys.due_interactive, 0, -1) == [b"one"]
    assert await ledger.finish([RunResult(second, RowState.SUCCEEDED, 1)]) == [False]


async def test_a_row_without_its_text_is_dropped_and_harms_no_other(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    for command_id in ("textless", "mistyped", "rowless", "good"):
        await accept_one(redis, ledger, command_id)
    await redis.delete(keys.text("textless"), keys.command("rowless"), keys.command("mistyped"))
    await redis.set(keys.command("mistyped"), "x")
    (lease,) = (await ledger.claim(10)).leases
    assert lease.command_id == "good"
    assert await redis.zrange(keys.due_interactive, 0, -1) == [b"good"]


@pytest.mark.parametrize("field", ["s", "n", "a", "c", "m", "q", "l"])
async def test_a_row_that_has_lost_a_field_is_dropped_and_harms_no_other(
    redis: Redis, ledger: Ledger, keys: Keys, field: str
) -> None:
    """Who takes a right from the worker in the middle of a script leaves such rows."""
    await open_group(redis, keys)
    for command_id in ("broken", "whole"):
        await accept_one(redis, ledger, command_id, deadline_ms=1)
    await redis.hdel(keys.command("broken"), field)
    late = await Deadlines(redis, keys, lease_seconds=0).claim(10)
    assert [lease.command_id for lease in late.leases] == ["whole"]
    assert [lease.command_id for lease in (await ledger.claim(10)).leases] == ["whole"]
    assert await redis.zrange(keys.due_interactive, 0, -1) == [b"whole"]


async def test_a_renewed_lease_lasts_longer_and_a_lost_one_is_told(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    await redis.zadd(keys.due_interactive, {"one": 1})
    stale = replace(lease, token=Token(99))
    gone = replace(lease, row_id="gone")
    assert await ledger.renew([lease]) == set()
    score = await redis.zscore(keys.due_interactive, "one")
    assert score is not None
    assert score > await now_ms(redis) + 29_000
    assert await ledger.renew([stale, gone]) == {"one", "gone"}
    assert await redis.zcard(keys.due_interactive) == 1


async def test_a_success_ends_the_row_with_its_event_and_nothing_else_of_it_stays(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    await ledger.checkpoint(lease, {}, phase=Phase.INTENDED)
    before = await now_ms(redis)
    finish = RunResult(lease, RowState.SUCCEEDED, 1, event=b"done", replies=keys.replies("shop"))
    assert await ledger.finish([finish]) == [True]
    row = await redis.hgetall(keys.command("one"))
    assert {b"p", b"x", b"c"}.isdisjoint(row)
    assert (row[b"s"], row[b"a"]) == (b"succeeded", b"1")
    assert before <= int(row[b"e"]) <= await now_ms(redis)
    _, terminal = await entries_between(redis, keys.events, "-", "+")
    assert terminal == (row[b"v"], {b"event": b"done"})
    assert await raw_events(redis, keys.replies("shop")) == [b"done"]
    assert await redis.exists(keys.text("one"), keys.due_interactive) == 0
    assert await redis.xlen(keys.dead_letters) == 0


async def test_an_id_is_remembered_for_seven_days_after_its_end(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1, event=b"done")])
    assert RETENTION_SECONDS - 5 <= await redis.ttl(keys.command("one")) <= RETENTION_SECONDS
    assert await accept_one(redis, ledger) is AcceptStatus.DUPLICATE
    assert await accept_one(redis, ledger, fingerprint=b"other") is AcceptStatus.CONFLICT
    assert await redis.xlen(keys.events) == 2


async def test_an_id_can_be_used_anew_once_it_is_forgotten(redis: Redis, keys: Keys) -> None:
    ledger = quick_ledger(redis, keys, retention=1)
    lease = await lease_one(redis, ledger)
    await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1)])
    while await redis.exists(keys.command("one")):
        await asyncio.sleep(0.02)
    assert await accept_one(redis, ledger, fingerprint=b"other") is AcceptStatus.ACCEPTED


async def test_a_copy_of_a_text_outlives_its_end_where_the_run_says_so_and_never_its_row(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    brief = quick_ledger(redis, keys, retention=5, text_retention=60)
    none = quick_ledger(redis, keys, text_retention=0)
    for own, command_id, keeps in (
        (ledger, "kept", True),
        (brief, "brief", True),
        (none, "none", True),
        (ledger, "unsaid", False),
    ):
        await accept_one(redis, own, command_id)
        (lease,) = (await own.claim(10)).leases
        await own.finish([RunResult(lease, RowState.SUCCEEDED, 1, keeps_text=keeps)])
        # A text under its own key would tell a scan for lost rows that the command is open.
        assert not await redis.exists(keys.text(command_id))
    assert await redis.get(keys.sent("kept")) == TEXT
    assert TEXT_SECONDS - 5 <= await redis.ttl(keys.sent("kept")) <= TEXT_SECONDS
    assert 0 < await redis.ttl(keys.sent("brief")) <= 5
    assert await redis.exists(keys.sent("none"), keys.sent("unsaid")) == 0


async def test_a_failure_also_leaves_a_dead_letter(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    finish = RunResult(lease, RowState.FAILED, 3, event=b"failed", dead_letter=b"letter")
    assert await ledger.finish([finish]) == [True]
    ((_, fields),) = await entries_between(redis, keys.dead_letters, "-", "+")
    assert fields == {FIELD: b"letter"}


async def test_a_rescheduled_row_is_due_after_its_delay_with_what_it_must_remember(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    before = await now_ms(redis)
    errors = [{"code": "server_error"}]
    finish = RunResult(
        lease,
        RowState.RETRYING,
        1,
        event=b"again",
        delay_seconds=0.25,
        errors=errors,
        progress={"sent": True},
    )
    assert await ledger.finish([finish]) == [True]
    score = await redis.zscore(keys.due_interactive, "one")
    assert score is not None
    assert before + 250 <= score <= await now_ms(redis) + 250
    assert await redis.ttl(keys.command("one")) == -1
    assert (await ledger.claim(10)).leases == []
    again = await claim_again(ledger)
    assert (again.attempts, again.errors, again.progress) == (1, errors, {"sent": True})
    assert (again.state, again.claims) == (RowState.RETRYING, 1)
    assert await raw_events(redis, keys.events) == [b'{"type":"get_model.accepted"}', b"again"]


async def test_each_waiting_state_is_kept_by_the_next_claim(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Only accepted and retrying rows become running; a training stays one while it is polled."""
    lease = await lease_one(redis, ledger)
    for state in (RowState.POLLING, RowState.IN_DOUBT):
        await ledger.finish([RunResult(lease, state, 0)])
        lease = await claim_again(ledger)
        assert lease.state is state
        assert await redis.hget(keys.command("one"), "s") == state.encode()


async def test_how_late_a_poll_is_is_told_by_its_claim(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    assert lease.late_seconds is None, "it waits for nothing outside"
    await ledger.finish([RunResult(lease, RowState.POLLING, 0, delay_seconds=60)])
    seconds, _ = await redis.time()
    await redis.zadd(keys.due_interactive, {"one": seconds * 1000 - 5000}, xx=True)
    lease = await claim_again(ledger)
    assert lease.late_seconds is not None
    assert 5 <= lease.late_seconds < 30
    await ledger.finish([RunResult(lease, RowState.RETRYING, 0)])
    assert (await claim_again(ledger)).late_seconds is None


async def test_a_stale_token_changes_nothing(redis: Redis, keys: Keys) -> None:
    ledger = quick_ledger(redis, keys, lease=0.03)
    stale = await lease_one(redis, ledger)
    await claim_again(ledger)
    before = await snapshot(redis, keys)
    finish = RunResult(stale, RowState.FAILED, 1, event=b"e", dead_letter=b"d", drop_lock="g")
    assert await ledger.finish([finish]) == [False]
    assert await ledger.finish([replace(finish, state=RowState.RETRYING)]) == [False]
    lock = keys.lock("training:x")
    recorded = await ledger.checkpoint(stale, {"a": 1}, event=b"e", take_lock=lock)
    assert recorded == (CheckpointStatus.FENCED, "")
    assert await ledger.renew([stale]) == {"one"}
    assert await snapshot(redis, keys) == before


async def test_a_finish_repeated_after_a_lost_reply_does_nothing(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    ended = RunResult(lease, RowState.FAILED, 1, event=b"e", dead_letter=b"d")
    assert await ledger.finish([ended, ended]) == [True, True]
    before = await snapshot(redis, keys)
    assert await ledger.finish([ended]) == [True]
    assert await ledger.finish([replace(ended, state=RowState.SUCCEEDED)]) == [False]
    assert await snapshot(redis, keys) == before


async def test_a_reschedule_repeated_after_a_lost_reply_does_nothing(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    again = RunResult(lease, RowState.RETRYING, 1, event=b"e", delay_seconds=60)
    assert await ledger.finish([again]) == [True]
    before = await snapshot(redis, keys)
    assert await ledger.finish([again]) == [True]
    assert await ledger.finish([replace(again, state=RowState.SUCCEEDED)]) == [False]
    assert await snapshot(redis, keys) == before


@pytest.mark.parametrize("state", [RowState.RETRYING, RowState.POLLING, RowState.RUNNING])
@pytest.mark.parametrize("is_recorded", [True, False])
async def test_a_reschedule_repeated_once_another_holds_the_command_is_fenced(
    redis: Redis, keys: Keys, state: RowState, is_recorded: bool
) -> None:
    """The other's token is the one after ours, too, where ours was never recorded."""
    ledger = quick_ledger(redis, keys, lease=0.03)
    lease = await lease_one(redis, ledger)
    # Claims go on from those of the lease where it hands its command back.
    again = RunResult(lease, state, 0, claims=lease.claims if state is RowState.RUNNING else 0)
    if is_recorded:
        assert await ledger.finish([again]) == [True]
    other = await claim_again(ledger)
    assert other.token == lease.token + (2 if is_recorded else 1)
    before = await snapshot(redis, keys)
    assert await ledger.finish([again]) == [False]
    assert await snapshot(redis, keys) == before
    assert await ledger.finish([RunResult(other, RowState.SUCCEEDED, 1)]) == [True]
    assert await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1)]) == [False]


async def test_one_fenced_run_does_not_harm_the_others_of_its_batch(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    for command_id in ("one", "two", "three"):
        await accept_one(redis, ledger, command_id)
    leases = (await ledger.claim(10)).leases
    leases[1] = replace(leases[1], token=Token(77))
    done = await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1) for lease in leases])
    assert done == [True, False, True]


async def test_a_checkpoint_keeps_progress_renews_the_lease_and_publishes(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    await redis.zadd(keys.due_interactive, {"one": 1})
    recorded = await ledger.checkpoint(
        lease,
        {"uuid": "u"},
        state=RowState.POLLING,
        event=b"e",
        replies=keys.replies("shop"),
    )
    assert recorded == (CheckpointStatus.DONE, "")
    row = await redis.hgetall(keys.command("one"))
    assert (row[b"p"], row[b"s"], row[b"n"]) == (b'{"uuid":"u"}', b"polling", b"1")
    score = await redis.zscore(keys.due_interactive, "one")
    assert score is not None
    assert score > await now_ms(redis) + 29_000
    assert (await raw_events(redis, keys.events))[1:] == [b"e"]
    assert await raw_events(redis, keys.replies("shop")) == [b"e"]


async def test_a_checkpoint_repeated_after_a_lost_reply_publishes_nothing_more(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    for _ in range(2):
        assert (await ledger.checkpoint(lease, {"a": 1}, event=b"e"))[0] is CheckpointStatus.DONE
    assert (await raw_events(redis, keys.events))[1:] == [b"e"]


async def two_leases(redis: Redis, ledger: Ledger) -> tuple[Lease, Lease]:
    await open_group(redis, ledger.keys)
    await accept_one(redis, ledger, "one")
    await accept_one(redis, ledger, "two")
    one, two = (await ledger.claim(2)).leases
    return one, two


async def test_a_lock_has_one_holder_and_a_refused_checkpoint_changes_nothing(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    one, two = await two_leases(redis, ledger)
    lock = keys.lock("creating-training:x")
    assert await ledger.checkpoint(one, {"a": 1}, take_lock=lock) == (
        CheckpointStatus.DONE,
        "",
    )
    assert LOCK_SECONDS - 5 <= await redis.ttl(lock) <= LOCK_SECONDS
    # Who creates the same is in doubt for as long as a training is waited for.
    assert LOCK_SECONDS > 2 * SEVEN_DAYS_SECONDS
    before = await snapshot(redis, keys)
    refused = await ledger.checkpoint(two, {"b": 2}, event=b"e", take_lock=lock, lock_lapses=True)
    assert refused == (CheckpointStatus.LOCKED, "one")
    assert await snapshot(redis, keys) == before
    assert (await ledger.checkpoint(two, {"b": 2}, drop_lock=lock))[0] is CheckpointStatus.DONE
    assert await redis.get(lock) == b"one"
    assert (await ledger.checkpoint(one, {"a": 2}, drop_lock=lock))[0] is CheckpointStatus.DONE
    assert (await ledger.checkpoint(two, {"b": 2}, take_lock=lock))[0] is CheckpointStatus.DONE


async def test_a_finish_drops_the_lock_only_if_its_command_holds_it(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    one, two = await two_leases(redis, ledger)
    lock = keys.lock("creating-training:x")
    await ledger.checkpoint(one, {}, take_lock=lock)
    await ledger.finish([RunResult(two, RowState.SUCCEEDED, 1, drop_lock=lock)])
    assert await redis.get(lock) == b"one"
    await ledger.finish([RunResult(one, RowState.IN_DOUBT, 0, drop_lock=lock)])
    assert await redis.exists(lock) == 0


async def test_a_lock_lapses_some_time_after_its_holder_has_ended(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Else a command cancelled in the middle of its call would block identical ones for weeks."""
    one, two = await two_leases(redis, ledger)
    lock = keys.lock("creating-training:x")
    await ledger.checkpoint(one, {}, take_lock=lock)
    await ledger.finish([RunResult(one, RowState.FAILED, 1)])
    assert (await ledger.checkpoint(two, {}, take_lock=lock, lock_lapses=True))[
        0
    ] is CheckpointStatus.LOCKED
    # Its call may still be under way for nearly as long as that.
    not_long_ago = await now_ms(redis) - (ENDED_HOLDER_SECONDS - 120) * 1000
    await redis.hset(keys.command("one"), "e", not_long_ago)
    assert (await ledger.checkpoint(two, {}, take_lock=lock, lock_lapses=True))[
        0
    ] is CheckpointStatus.LOCKED
    long_ago = await now_ms(redis) - ENDED_HOLDER_SECONDS * 1000
    await redis.hset(keys.command("one"), "e", long_ago)
    assert (await ledger.checkpoint(two, {}, take_lock=lock))[0] is CheckpointStatus.LOCKED
    assert (await ledger.checkpoint(two, {}, take_lock=lock, lock_lapses=True))[
        0
    ] is CheckpointStatus.DONE
    assert await redis.get(lock) == b"two"


async def test_a_lock_of_a_forgotten_holder_is_free_but_its_creation_stays_owned(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    for name in ("creating-training:x", "training:u"):
        await redis.set(keys.lock(name), "forgotten")
    owned = await ledger.checkpoint(lease, {}, take_lock=keys.lock("training:u"))
    assert owned == (CheckpointStatus.LOCKED, "forgotten")
    free = keys.lock("creating-training:x")
    assert (await ledger.checkpoint(lease, {}, take_lock=free, lock_lapses=True))[
        0
    ] is CheckpointStatus.DONE


async def test_an_orphan_tells_the_next_holder_and_makes_the_command_the_owner(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    creating, owner = keys.lock("creating-model:x"), keys.lock("model:u")
    await ledger.checkpoint(lease, {}, take_lock=creating)
    assert await Orphans(redis, keys).find(lease) is None
    await Orphans(redis, keys).leave(
        lease, OrphanedCreation("u", {"title": "t"}, owner, LOCK_SECONDS), drop_lock=creating
    )
    assert await Orphans(redis, keys).find(lease) == ("u", {"title": "t"})
    assert await redis.get(owner) == b"one"
    assert await redis.exists(creating) == 0
    later = replace(lease, entry_id="9-9")
    assert await Orphans(redis, keys).find(later) is None, "of an earlier command with the same id"


async def test_counts_of_due_rows_leave_out_what_is_not_due_yet(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    later = await now_ms(redis) + 3_600_000
    await accept_one(redis, ledger, "now")
    await accept_one(redis, ledger, "bulk", lane=Priority.BULK)
    await accept_one(redis, ledger, "later", not_before_ms=later)
    assert await ledger.count_due() == (1, 1, 0)
