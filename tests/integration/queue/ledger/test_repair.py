"""The scan over the rows: what is deleted of their indices is made again, nothing runs twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.enums import Priority
from tests.integration.backfilling import NAME, begin
from tests.integration.intake_acts import letters
from tests.integration.ledger_acts import (
    TEXT,
    accept_one,
    events,
    every_server,
    lease_one,
    now_ms,
    open_group,
)
from worker.backfill.item_results import BackfillItems
from worker.backfill.keys import backfill_key
from worker.backfill.status import BackfillState
from worker.backfill.store import Transition
from worker.cli.doctor.checks import Level
from worker.cli.doctor.ledger import check_ledger
from worker.queue.ledger.cancellation import cancel
from worker.queue.ledger.models import Lease, RowState, RunResult
from worker.queue.ledger.queries import LedgerReader
from worker.queue.ledger.repair import Repair, Repaired
from worker.queue.ledger.streams import entries_between
from worker.queue.pool.repairing import RepairWatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.console import Console
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

pytestmark = every_server

LEASE_SECONDS = 30


class StepByStep(Repair):
    """The scan, but that it looks at one row after the other, in the order of their ids."""

    async def _ids(self) -> AsyncIterator[list[bytes]]:
        found = {row_id async for ids in super()._ids() for row_id in ids}
        for row_id in sorted(found):
            yield [row_id]


async def repair(redis: Redis, ledger: Ledger, kind: type[Repair] = Repair) -> None:
    """Makes one pass, as a worker does."""
    scan = kind(redis, ledger.keys, lease_seconds=LEASE_SECONDS)
    watch = RepairWatch(
        ledger,
        scan,
        groups=BackfillItems(),
        holder="tester",
        every_seconds=60,
        now=lambda: 1_800_000_000,
    )
    await watch.run_pass()


async def look(redis: Redis, keys: Keys) -> Repaired:
    return await Repair(redis, keys, lease_seconds=LEASE_SECONDS).look(60)


async def delete_due_sets(redis: Redis, keys: Keys) -> None:
    await redis.delete(keys.due_interactive, keys.due_bulk, keys.due_suspect, keys.deadlines)


async def claim_all(ledger: Ledger) -> list[Lease]:
    return (await ledger.claim(100, bulk_most=100, suspects=1)).leases


async def ends(redis: Redis, keys: Keys, command_id: str) -> list[dict[str, Any]]:
    told = await events(redis, keys.events)
    return [event for event in told if event.get("subject") == command_id]


async def test_open_commands_come_back_into_their_lane_at_their_time_with_their_deadline(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await open_group(redis, keys)
    later, deadline = await now_ms(redis) + 3_600_000, await now_ms(redis) + 7_200_000
    await accept_one(redis, ledger, "now")
    await accept_one(redis, ledger, "bulk", lane=Priority.BULK)
    await accept_one(redis, ledger, "later", not_before_ms=later, deadline_ms=deadline)
    await delete_due_sets(redis, keys)
    assert (await look(redis, keys)).not_due == 3
    assert not await redis.exists(keys.due_interactive, keys.due_bulk, keys.deadlines), "a look"
    await repair(redis, ledger)
    assert {lease.command_id for lease in await claim_all(ledger)} == {"now", "bulk"}
    assert await redis.zscore(keys.due_bulk, "bulk")
    assert await redis.zscore(keys.due_interactive, "later") == later
    assert await redis.zrange(keys.deadlines, 0, -1, withscores=True) == [(b"later", deadline)]
    found = await look(redis, keys)
    assert (found.not_due, found.not_indexed, found.not_recoverable) == (0, 0, 0)


async def test_deadlines_that_are_deleted_alone_are_made_again(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await open_group(redis, keys)
    deadline = await now_ms(redis) + 60_000
    await accept_one(redis, ledger, "one", deadline_ms=deadline)
    await redis.delete(keys.deadlines)
    assert (await look(redis, keys)).not_indexed == 1
    (told,) = [each for each in await check_ledger(redis, keys) if each.check == "ledger.rows"]
    assert told.level is Level.WARN
    assert "1 open command without a due time or a deadline" in told.message
    await repair(redis, ledger)
    assert await redis.zscore(keys.deadlines, "one") == deadline


async def test_a_command_that_runs_is_put_back_behind_a_lease_and_its_run_ends_it(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    lease = await lease_one(redis, ledger)
    await delete_due_sets(redis, keys)
    begun = await now_ms(redis)
    await repair(redis, ledger)
    due_at = await redis.zscore(keys.due_interactive, "one")
    assert due_at is not None
    assert due_at >= begun + LEASE_SECONDS * 1000
    assert await claim_all(ledger) == []
    assert await ledger.renew([lease]) == set()
    assert await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1, event=b"{}")]) == [True]
    await repair(redis, ledger)
    assert not await redis.exists(keys.due_interactive)


@pytest.mark.parametrize("end", ["finished", "cancelled"])
async def test_what_has_ended_is_never_put_back(
    redis: Redis, keys: Keys, ledger: Ledger, end: str
) -> None:
    lease = await lease_one(redis, ledger)
    if end == "finished":
        await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1, event=b"{}")])
    else:
        await cancel(redis, keys, "one", retention_seconds=60, reply_retention_seconds=60)
    told = await events(redis, keys.events)
    await repair(redis, ledger)
    assert not await redis.exists(keys.due_interactive)
    assert await events(redis, keys.events) == told


async def test_a_command_that_was_never_started_and_lost_its_text_fails_once_with_data_loss(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, "one")
    await redis.delete(keys.text("one"))
    assert await claim_all(ledger) == []
    assert (await look(redis, keys)).lost == 1
    for _ in range(2):
        await repair(redis, ledger)
    (failed,) = await ends(redis, keys, "one")
    assert failed["type"] == "get_model.failed"
    assert failed["data"]["error"]["code"] == "data_loss"
    assert "the command's text is gone" in failed["data"]["error"]["message"]
    assert "never started" in failed["data"]["error"]["message"]
    (letter,) = await letters(redis, keys)
    assert (letter.command_id, letter.reason) == ("one", "data_loss")
    view = await LedgerReader(redis, keys).status("one")
    assert view is not None
    assert (view.state, view.ended) == ("failed", True)
    assert (await look(redis, keys)).not_recoverable == 0


async def test_a_command_that_may_run_and_lost_its_text_ends_after_its_lease_alone(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    """Its run holds the text, and may well end it; only when nobody does, the scan does."""
    await lease_one(redis, ledger)
    await redis.delete(keys.text("one"))
    await delete_due_sets(redis, keys)
    await repair(redis, ledger)
    assert await ends(redis, keys, "one") == []
    assert (await look(redis, keys)).broken == 1
    await redis.zadd(keys.due_interactive, {"one": 1})
    assert await claim_all(ledger) == []
    await repair(redis, ledger)
    (failed,) = await ends(redis, keys, "one")
    assert "It may have been started: look at the API" in failed["data"]["error"]["message"]


async def test_a_command_that_a_stopped_worker_gave_back_may_have_been_started(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    """Its row is as it was before, but for the token: a run had it and may have asked the API."""
    lease = await lease_one(redis, ledger)
    assert lease.state is RowState.ACCEPTED
    assert await ledger.finish([RunResult(lease, lease.state, lease.attempts)]) == [True]
    await redis.delete(keys.text("one"))
    assert await claim_all(ledger) == []
    await repair(redis, ledger)
    (failed,) = await ends(redis, keys, "one")
    assert "It may have been started: look at the API" in failed["data"]["error"]["message"]


@pytest.mark.parametrize("due", ["due", "in no due set"])
async def test_a_command_whose_row_was_deleted_fails_once_with_its_text_in_the_dead_letter(
    redis: Redis, keys: Keys, ledger: Ledger, due: str
) -> None:
    text = orjson.dumps({**orjson.loads(TEXT), "id": "one", "replyto": "shop"})
    lease = await lease_one(redis, ledger, text=text)
    await redis.delete(keys.command("one"))
    if due != "due":
        await delete_due_sets(redis, keys)
    for _ in range(2):
        await repair(redis, ledger)
    (failed,) = await ends(redis, keys, "one")
    assert (failed["type"], failed["data"]["error"]["code"]) == ("get_model.failed", "data_loss")
    assert len(await events(redis, keys.replies("shop"))) == 1
    (letter,) = await letters(redis, keys)
    assert letter.text == text
    assert await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1, event=b"{}")]) == [False]
    assert not await redis.exists(keys.text("one"))
    assert await claim_all(ledger) == []


async def test_a_key_of_another_type_in_a_row_s_place_is_counted_and_harms_nothing(
    redis: Redis, keys: Keys, ledger: Ledger, console: Console
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, "one")
    await redis.set(keys.command("odd"), "x")
    await redis.delete(keys.due_interactive)
    found = await look(redis, keys)
    assert (found.unreadable, found.not_due) == (["odd"], 1)
    said = [
        each for each in console.run("doctor", "--json").lines if each["check"] == "ledger.rows"
    ]
    assert [each["level"] for each in said] == ["warn", "fail"]
    assert "1 open command without a due time" in said[0]["message"]
    assert "odd" in said[1]["advice"]
    await repair(redis, ledger)
    assert [lease.command_id for lease in await claim_all(ledger)] == ["one"]
    await redis.delete(keys.command("odd"))
    (fine,) = [e for e in console.run("doctor", "--json").lines if e["check"] == "ledger.rows"]
    assert fine["level"] == "ok"


async def test_a_row_whose_name_or_times_are_none_harms_no_other(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await open_group(redis, keys)
    for name, field in (("one", "d"), ("two", "o"), ("three", "")):
        await accept_one(redis, ledger, name)
        if field:
            await redis.hset(keys.command(name), field, "soon")
    await redis.hset(keys.command("").encode() + b"\xff", "s", "accepted")
    await redis.delete(keys.due_interactive)
    await repair(redis, ledger)
    assert {lease.command_id for lease in await claim_all(ledger)} == {"one", "two", "three"}


@pytest.mark.parametrize("kind", [Repair, StepByStep], ids=["in one step", "in steps"])
async def test_a_lost_row_whose_end_redis_refuses_keeps_no_other_from_its_end(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path, kind: type[Repair]
) -> None:
    night = await begin(redis, keys, ledger, tmp_path)
    await night.feed(1)
    await redis.hset(keys.group(NAME), "failed", "many")
    await open_group(redis, keys)
    lost = [f"{NAME}\x1f0", "one", "two"]
    for name in lost[1:]:
        await accept_one(redis, ledger, name)
    await redis.delete(keys.due_interactive, keys.due_bulk, *map(keys.text, lost))
    await repair(redis, ledger, kind)
    assert [len(await ends(redis, keys, name)) for name in lost[1:]] == [1, 1]
    assert await redis.exists(keys.command(lost[0])) == 1, "it waits until its count is mended"


async def test_items_of_a_running_backfill_come_back_and_those_of_a_paused_one_stay_aside(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    night = await begin(redis, keys, ledger, tmp_path)
    token, _ = await night.feed(4)
    await redis.delete(keys.due_bulk, keys.group_open(NAME))
    await repair(redis, ledger)
    assert await redis.scard(keys.group_open(NAME)) == 4
    assert await redis.zcard(keys.due_bulk) == 4
    paused = Transition({BackfillState.RUNNING}, BackfillState.PAUSED, token=token)
    assert (await night.store.transition(NAME, paused))[0]
    assert await night.claim() == [], "they are set aside"
    await repair(redis, ledger)
    assert await redis.zcard(keys.due_bulk) == 0
    assert (await look(redis, keys)).not_due == 0
    resumed = Transition({BackfillState.PAUSED}, BackfillState.RUNNING, token=token)
    assert (await night.store.transition(NAME, resumed))[0]
    assert len(await night.claim()) == 4


async def test_items_whose_backfill_is_gone_are_dropped(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    night = await begin(redis, keys, ledger, tmp_path)
    await night.feed(3)
    await redis.delete(keys.due_bulk, backfill_key(keys, NAME), keys.group(NAME))
    await repair(redis, ledger)
    assert await night.claim() == []
    assert [key async for key in redis.scan_iter(match=f"{keys.prefix}command:*")] == []
    assert [key async for key in redis.scan_iter(match=f"{keys.prefix}text:*")] == []


@pytest.mark.parametrize("part", ["text", "command"])
async def test_an_item_that_lost_a_part_fails_and_its_backfill_goes_on_without_it(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path, part: str
) -> None:
    night = await begin(redis, keys, ledger, tmp_path)
    await night.feed(2)
    row_id = f"{NAME}\x1f1"
    await redis.delete(getattr(keys, part)(row_id))
    (lease,) = await night.claim()
    await night.settle(lease)
    for _ in range(2):
        await repair(redis, ledger)
    standing = await night.standing()
    assert (standing.succeeded, standing.failed, standing.open) == (1, 1, 0)
    records = await entries_between(redis, keys.group_results(NAME), "-", "+")
    (failed,) = [
        record
        for _, fields in records
        if (record := orjson.loads(fields[b"result"]))["state"] == "failed"
    ]
    assert (failed["item"], failed["error"]["code"]) == (1, "data_loss")
    assert await ends(redis, keys, f"{NAME}/1") == [], "its backfill tells of it"


async def test_one_process_makes_a_pass_at_a_time_and_the_next_begins_after_a_pause(
    redis: Redis, keys: Keys
) -> None:
    scan = Repair(redis, keys, lease_seconds=LEASE_SECONDS)
    assert await scan.begin("one", 60)
    assert not await scan.begin("two", 60)
    await scan.end(0.001)
    await redis.wait(0, 1)
    assert await _soon(scan, "two")
    # As if it had been written before Redis' clock went back.
    await redis.set(keys.repair, "gone", px=86_400_000)
    assert not await scan.begin("three", 60)
    assert await redis.pttl(keys.repair) <= 60_000


async def _soon(scan: Repair, holder: str) -> bool:
    return any([await scan.begin(holder, 60) for _ in range(1000)])


async def test_whoever_makes_a_long_pass_says_so_again_and_again(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After half a minute of silence another worker begins one beside it."""
    monkeypatch.setattr("worker.queue.ledger.repair._HOLD_AGAIN_SECONDS", 0.0)
    await open_group(redis, keys)
    for number in range(3):
        await accept_one(redis, ledger, f"c-{number}")
    scan = StepByStep(redis, keys, lease_seconds=LEASE_SECONDS)
    holders = [await redis.getdel(keys.repair) async for _ in scan.steps("me")]
    assert holders == [b"me"] * 3
