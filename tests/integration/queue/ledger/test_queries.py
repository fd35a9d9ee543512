"""Rules of what people look at: rows, their order, counts."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest

from schemas.enums import EventState, Priority
from schemas.events import event_json
from tests.integration.ledger_acts import (
    TEXT,
    accept_one,
    every_server,
    lease_one,
    letter_of,
    new_command,
    now_ms,
    open_group,
    read_entry,
)
from worker.cli.formatting import describe_error, show_timestamp
from worker.queue.ledger import queries
from worker.queue.ledger.command_status import UNREADABLE
from worker.queue.ledger.dead_letters import FIELD
from worker.queue.ledger.keys import COMMAND_FIELD, GROUP
from worker.queue.ledger.models import SUSPECT_CLAIMS, Lease, Phase, RowState, RunResult
from worker.queue.ledger.queries import LedgerReader, RowChoice

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

pytestmark = every_server


async def test_the_status_of_a_command_tells_where_it_stands(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    inspector = LedgerReader(redis, keys)
    assert await inspector.status("one") is None
    lease = await lease_one(redis, ledger)
    error = {"code": "server_error", "message": "m"}
    await ledger.finish([RunResult(lease, RowState.RETRYING, 1, errors=[error], delay_seconds=9)])
    view = await inspector.status("one")
    assert view is not None
    assert (view.state, view.attempts, view.last_error) == (RowState.RETRYING, 1, error)
    assert view.due_at_ms is not None
    assert view.due_at_ms > await now_ms(redis)
    assert view.ended_at_ms is None


async def claim_one(redis: Redis, ledger: Ledger, command_id: str) -> Lease:
    """Accepts and claims a command; other open ones must be claimed already."""
    if not await redis.exists(ledger.keys.commands):
        await open_group(redis, ledger.keys)
    await accept_one(redis, ledger, command_id)
    (lease,) = (await ledger.claim(1)).leases
    return lease


async def end_one(redis: Redis, ledger: Ledger, command_id: str, **changes: Any) -> None:
    """Accepts and ends a command, with the event that a worker writes of it."""
    lease = await claim_one(redis, ledger, command_id)
    event = event_json(
        event_id=f"{command_id}/succeeded",
        command_type="get_model",
        state=EventState.SUCCEEDED,
        subject=command_id,
        time_ms=0,
        data={},
        context={},
    )
    await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1, event=event, **changes)])


async def change_at(redis: Redis, keys: Keys, **moments_ms: int) -> None:
    """Moves the acceptance or the end of commands to other times."""
    for command_id, at_ms in moments_ms.items():
        name = "e" if await redis.hexists(keys.command(command_id), "e") else "m"
        await redis.hset(keys.command(command_id), name, str(at_ms))


async def newest(redis: Redis, keys: Keys, limit: int = 100, **choice: Any) -> list[str]:
    rows = await LedgerReader(redis, keys).newest(limit, RowChoice(**choice))
    return [row.id for row in rows]


async def test_rows_are_listed_by_their_last_change_whatever_has_ended(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    for command_id in ("c", "a"):
        await end_one(redis, ledger, command_id)
    for command_id, lane in (("d", Priority.BULK), ("b", Priority.INTERACTIVE)):
        await accept_one(redis, ledger, command_id, lane=lane)
    await change_at(redis, keys, c=3000, a=1000, d=4000, b=2000)
    assert await newest(redis, keys) == ["d", "c", "b", "a"]
    assert await newest(redis, keys, 2) == ["d", "c"]
    assert await newest(redis, keys, state=RowState.SUCCEEDED) == ["c", "a"]
    assert await newest(redis, keys, state=RowState.ACCEPTED) == ["d", "b"]
    assert await newest(redis, keys, since_ms=3000) == ["d", "c"]
    assert await newest(redis, keys, since_ms=-1) == await newest(redis, keys)
    assert await newest(redis, keys, command_type="get_model") == ["d", "c", "b", "a"]
    assert await newest(redis, keys, command_type="train") == []
    counts = await LedgerReader(redis, keys).counts()
    assert (counts["open_interactive"], counts["open_bulk"], counts["events"]) == (1, 1, 6)


async def test_an_error_and_progress_are_changes(redis: Redis, ledger: Ledger, keys: Keys) -> None:
    leases = {each: await claim_one(redis, ledger, each) for each in ("failed", "made", "idle")}
    await change_at(redis, keys, failed=1000, made=2000, idle=3000)
    error = {"at": "1970-01-01T00:00:05.000+00:00", "code": "server_error", "message": "m"}
    await ledger.finish([
        RunResult(leases["failed"], RowState.RETRYING, 1, errors=[error], delay_seconds=9)
    ])
    await ledger.checkpoint(leases["made"], {"at": 4.0}, phase=Phase.INTENDED)
    assert await newest(redis, keys) == ["failed", "made", "idle"]


async def test_the_newest_of_many_ends_are_found_without_reading_every_row(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """What has ended stands in no index, and there may be a million of it."""
    for number in range(150):
        await end_one(redis, ledger, f"id-{number}")
    before = (await redis.info("commandstats")).get("cmdstat_hgetall", {"calls": 0})["calls"]
    assert await newest(redis, keys, 3) == ["id-149", "id-148", "id-147"]
    after = (await redis.info("commandstats"))["cmdstat_hgetall"]["calls"]
    assert after - before <= 100


async def test_an_end_whose_event_is_no_longer_kept_is_listed(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    for command_id in ("a", "b", "c"):
        await end_one(redis, ledger, command_id)
    await redis.delete(keys.events)
    await change_at(redis, keys, a=1000, b=3000, c=2000)
    assert await newest(redis, keys) == ["b", "c", "a"]
    assert await newest(redis, keys, 1) == ["b"]


async def test_counts_of_what_is_open_and_due_add_up_with_suspects_among_them(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """A suspect stands in a set of its own, and is as open as any other."""
    await open_group(redis, keys)
    for command_id in ("a", "b", "c"):
        await accept_one(redis, ledger, command_id)
        await redis.hset(keys.command(command_id), "c", SUSPECT_CLAIMS)
    await ledger.claim(10)
    await accept_one(redis, ledger, "d")
    await accept_one(redis, ledger, "e", lane=Priority.BULK)
    counts = await LedgerReader(redis, keys).counts()
    for kind in ("open", "due"):
        told = [counts[f"{kind}_{lane}"] for lane in ("interactive", "bulk", "suspect")]
        assert told == [1, 1, 3]
    assert len(await newest(redis, keys)) == 5
    suspect = await LedgerReader(redis, keys).status("a")
    assert suspect is not None
    assert suspect.due_at_ms == await redis.zscore(keys.due_suspect, "a")
    pages = [page async for page in LedgerReader(redis, keys).open_rows(RowChoice())]
    assert sorted(row.id for page in pages for row in page) == ["a", "b", "c", "d", "e"]


async def test_rows_are_read_by_their_ids_in_pages(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "_PAGE", 2)
    await open_group(redis, keys)
    for command_id in "abcde":
        await accept_one(redis, ledger, command_id)
    rows = LedgerReader(redis, keys).rows([*"abcxde"], RowChoice(command_type="get_model"))
    assert [[row.id for row in page] async for page in rows] == [["a", "b"], ["c"], ["d", "e"]]


async def test_listing_goes_through_more_rows_than_one_page(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    await ledger.accept([new_command(entry, f"id-{number:04d}") for number in range(1200)])
    rows = await newest(redis, keys, 2000)
    assert len(set(rows)) == len(rows) == 1200


async def test_a_consumer_was_seen_when_it_read_either_of_its_streams(
    redis: Redis, keys: Keys
) -> None:
    """A worker whose other stream has been quiet for minutes is not gone."""
    for stream in (keys.bulk_commands, keys.commands):
        await redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
        await redis.xadd(stream, {COMMAND_FIELD: b"{}"})
        await redis.xreadgroup(GROUP, "worker", {stream: ">"})
        await asyncio.sleep(0.2)
    (told,) = await LedgerReader(redis, keys).consumers()
    (lately,) = await redis.xinfo_consumers(keys.commands, GROUP)
    assert (told["name"], told["pending"]) == ("worker", 2)
    assert told["idle_ms"] <= lately["idle"]


ODD_FIELDS: dict[str, dict[str, Any]] = {
    "no state": {"s": None},
    "no type": {"t": None},
    "no lane": {"l": None},
    "a number that is none": {"a": "many"},
    "errors that are no JSON": {"x": "{"},
    "errors that are no list": {"x": "{}"},
    "an error that is none": {"x": "[1]"},
    "progress that is no object": {"p": "[]"},
    "an error without its message": {"x": '[{"code": "not_found"}]'},
    "a time past all calendars": {"m": "9" * 40},
    "a time before all calendars": {"m": "-" + "9" * 40},
    "no UTF-8": {"s": b"\xff", "t": b"\xff"},
    "an end whose entry is none": {"v": "of somebody else"},
    "a due time without an end": {},
    "another type": {},
}


@pytest.mark.parametrize("odd", ODD_FIELDS)
async def test_one_odd_row_hides_no_other(
    redis: Redis, ledger: Ledger, keys: Keys, odd: str
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, "odd")
    await accept_one(redis, ledger, "good")
    for name, value in ODD_FIELDS[odd].items():
        if value is None:
            await redis.hdel(keys.command("odd"), name)
        else:
            await redis.hset(keys.command("odd"), name, value)
    if odd == "another type":
        await redis.set(keys.command("odd"), "no hash")
    if odd == "a due time without an end":
        await redis.zadd(keys.due_interactive, {"odd": math.inf})
    inspector = LedgerReader(redis, keys)
    found = {row.id: row.state for row in await inspector.newest(10)}
    assert found.keys() == {"odd", "good"}
    assert found["good"] == RowState.ACCEPTED
    row = await inspector.status("odd")
    assert row is not None
    assert (row.state == UNREADABLE) == (odd in {"no state", "another type"})
    for at_ms in (row.accepted_at_ms, row.due_at_ms or 0):
        assert show_timestamp(at_ms)
    assert row.last_error is None or describe_error(row.last_error)
    assert await inspector.terminal_event(row) is None


@pytest.mark.parametrize(("later_ms", "is_its_letter"), [(0, True), (10, True), (11, False)])
async def test_a_letter_is_found_though_its_id_is_a_moment_later_than_its_events(
    redis: Redis, ledger: Ledger, keys: Keys, later_ms: int, *, is_its_letter: bool
) -> None:
    """Before Redis 7.2 time goes on while a script runs."""
    lease = await lease_one(redis, ledger)
    event = event_json(
        event_id="1-0/failed",
        command_type="get_model",
        state=EventState.FAILED,
        subject="one",
        time_ms=1000,
        data={"error": {"code": "not_found", "message": "m"}, "attempts": 1},
        context={},
    )
    await ledger.finish([RunResult(lease, RowState.FAILED, 1, event=event)])
    reader = LedgerReader(redis, keys)
    status = await reader.status("one")
    assert status is not None
    ended = str(status.last_event_id)
    moment = int(ended.partition("-")[0])
    # A batch may fail together: another's letter stands before it.
    for command_id, at in (("other", f"{moment}-0"), ("one", f"{moment + later_ms}-1")):
        await redis.xadd(keys.dead_letters, {FIELD: letter_of(command_id, TEXT)}, id=at)
    (found,) = await reader.details([("one", ended)])
    assert found.event is not None
    assert (found.letter is not None) == is_its_letter
    assert found.letter is None or found.letter.command_id == "one"
