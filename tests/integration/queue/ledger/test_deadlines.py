"""Rules of deadlines: who waits ends at its own, whatever it waits for; who runs is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from schemas.enums import Priority
from tests.integration.ledger_acts import accept_one, cancelled, every_server, now_ms, open_group
from worker.queue.ledger.deadlines import AGAIN_SECONDS, Deadlines
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.models import SUSPECT_CLAIMS, Phase, RowState, RunResult

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease

pytestmark = every_server


@pytest.fixture
def deadlines(redis: Redis, keys: Keys) -> Deadlines:
    return Deadlines(redis, keys, lease_seconds=30)


async def late_ids(deadlines: Deadlines) -> list[str]:
    return [lease.command_id for lease in (await deadlines.claim(100)).leases]


@pytest.mark.parametrize("lane", list(Priority))
async def test_a_hold_and_a_paused_lane_keep_no_late_command_from_its_end(
    redis: Redis, ledger: Ledger, keys: Keys, deadlines: Deadlines, lane: Priority
) -> None:
    await open_group(redis, keys)
    await ledger.hold(60)
    await Lanes(redis, keys).pause(lane, "tests", 60)
    passed, to_come = await now_ms(redis) - 1, await now_ms(redis) + 60_000
    await accept_one(redis, ledger, "late", lane=lane, deadline_ms=passed)
    await accept_one(redis, ledger, "early", lane=lane, deadline_ms=to_come)
    await accept_one(redis, ledger, "never", lane=lane)
    assert (await ledger.claim(10, bulk_most=10)).leases == []
    late = await deadlines.claim(100)
    assert [lease.command_id for lease in late.leases] == ["late"]
    assert late.next_seconds is not None
    assert 0 < late.next_seconds <= 30, "when the lease ends, should its holder die"
    failed = RunResult(late.leases[0], RowState.FAILED, 1, event=b"{}", late=True)
    assert await ledger.finish([failed]) == [True]
    assert await redis.zrange(keys.deadlines, 0, -1) == [b"early"]
    due = keys.due_bulk if lane is Priority.BULK else keys.due_interactive
    assert sorted(await redis.zrange(due, 0, -1)) == [b"early", b"never"]


async def test_a_command_that_waits_to_retry_or_for_notbefore_is_late_at_its_deadline(
    redis: Redis, ledger: Ledger, keys: Keys, deadlines: Deadlines
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, "retries", deadline_ms=1)
    (lease,) = (await ledger.claim(1)).leases
    await ledger.finish([RunResult(lease, RowState.RETRYING, 1, delay_seconds=60)])
    not_before = await now_ms(redis) + 60_000
    await accept_one(redis, ledger, "sleeps", deadline_ms=1, not_before_ms=not_before)
    assert sorted(await late_ids(deadlines)) == ["retries", "sleeps"]


@pytest.mark.parametrize("state", [RowState.RUNNING, RowState.POLLING])
async def test_a_command_under_a_lease_is_left_alone_and_ended_once_it_waits(
    redis: Redis, ledger: Ledger, keys: Keys, deadlines: Deadlines, state: RowState
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, deadline_ms=1)
    (lease,) = (await ledger.claim(1)).leases
    if state is RowState.POLLING:
        await ledger.finish([RunResult(lease, state, 0, progress={}, phase=Phase.APPLIED)])
        (lease,) = (await ledger.claim(1)).leases
    late = await deadlines.claim(100)
    assert late.leases == []
    assert late.next_seconds == AGAIN_SECONDS >= 1, "or it would be looked at all the time"
    assert await ledger.renew([lease]) == set(), "its run holds the lease as before"
    await ledger.finish([RunResult(lease, state, 0)])
    await redis.zadd(keys.deadlines, {"one": 1})
    (last,) = (await deadlines.claim(100)).leases
    assert last.state is state


@pytest.mark.parametrize(
    ("state", "phase"),
    [(RowState.IN_DOUBT, Phase.IN_DOUBT), (RowState.RUNNING, Phase.INTENDED)],
)
async def test_a_command_that_may_have_changed_something_first_finds_out(
    redis: Redis,
    ledger: Ledger,
    keys: Keys,
    deadlines: Deadlines,
    state: RowState,
    phase: Phase,
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, deadline_ms=1)
    (lease,) = (await ledger.claim(1)).leases
    await ledger.finish([RunResult(lease, state, 0, progress={}, phase=phase)])
    assert await late_ids(deadlines) == []
    assert [each.state for each in (await ledger.claim(1)).leases] == [state]


async def test_a_suspect_is_ended_without_being_run(
    redis: Redis, ledger: Ledger, keys: Keys, deadlines: Deadlines
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, deadline_ms=1)
    await redis.hset(keys.command("one"), "c", SUSPECT_CLAIMS)
    assert (await ledger.claim(10)).leases == []
    assert await late_ids(deadlines) == ["one"]
    assert await redis.zcard(keys.due_suspect) == 0


async def test_who_claims_a_late_command_fences_all_others_and_may_die(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Its lease ends like any other, and whoever looks next ends the command."""
    hasty = Deadlines(redis, keys, lease_seconds=0.001)
    await open_group(redis, keys)
    await accept_one(redis, ledger, deadline_ms=1)
    (first,) = (await hasty.claim(100)).leases
    leases: list[Lease] = []
    while not leases:
        leases = (await hasty.claim(100)).leases
    assert leases[0].token == first.token + 1
    ends = [RunResult(lease, RowState.FAILED, 1, event=b"{}") for lease in (first, leases[0])]
    assert await ledger.finish(ends) == [False, True]


async def test_what_has_ended_has_no_deadline_any_more(
    redis: Redis, ledger: Ledger, keys: Keys, deadlines: Deadlines
) -> None:
    await open_group(redis, keys)
    # By itself: what is accepted within one millisecond is due in the order of its ids.
    await accept_one(redis, ledger, "done", deadline_ms=1)
    (lease,) = (await ledger.claim(1)).leases
    for command_id in ("cancelled", "forgotten"):
        await accept_one(redis, ledger, command_id, deadline_ms=1)
    await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1)])
    await cancelled(redis, keys, "cancelled")
    assert await redis.zrange(keys.deadlines, 0, -1) == [b"forgotten"]
    await redis.delete(keys.command("forgotten"))
    assert (await deadlines.claim(100)).next_seconds is None
    assert await redis.exists(keys.deadlines) == 0
