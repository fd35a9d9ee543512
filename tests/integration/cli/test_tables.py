"""Tables on a terminal of 80 columns, and through a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len

from schemas.enums import Priority
from tests.console import run_on_terminal
from tests.integration.backfilling import NAME, begin
from tests.integration.ledger_acts import lease
from worker.backfill.keys import backfill_key
from worker.backfill.status import Origin
from worker.queue.ledger.dead_letters import FIELD, dead_letter_json
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.models import RowState, RunResult

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.console import Console
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

LIST: dict[str, Any] = {"type": "list_models", "data": {}}
LONG = f"night-{'x' * 240}-f3a2"
WIDE = f"東京の夜-{'写' * 60}-f3a2"
UUID = "2f1c8a52-6f0f-4a57-9a0b-1f0a4d6c9e01"
MESSAGE = "the API is out of order and says so at length; " * 6


async def fill(redis: Redis, ledger: Ledger) -> None:
    """Commands with ids of every kind, one of which has failed an attempt."""
    for command_id in (UUID, WIDE, LONG):
        held = await lease(redis, ledger, **LIST, id=command_id)
        error = {"at": "", "code": "server_error", "message": MESSAGE}
        await ledger.finish([
            RunResult(held, RowState.RETRYING, 1, delay_seconds=9, errors=[error])
        ])


async def bury(redis: Redis, keys: Keys, command_id: str) -> None:
    letter = dead_letter_json(
        command_id=command_id,
        command_type="get_weights_download_link",
        error={"code": "idempotency_conflict", "message": f"{MESSAGE}\nsecond line"},
        text=b"{}",
        at_ms=1_700_000_000_000,
        attempts=1,
        history=[],
    )
    await redis.xadd(keys.dead_letters, {FIELD: letter})


def lines_within(out: str, columns: int) -> list[str]:
    lines = out.splitlines()
    assert [line for line in lines if cell_len(line) > columns] == []
    return lines


@pytest.mark.parametrize("columns", [50, 80, 120])
async def test_a_list_fits_the_terminal_with_ids_shortened_and_messages_below(
    console: Console, redis: Redis, ledger: Ledger, columns: int
) -> None:
    await fill(redis, ledger)
    said = run_on_terminal(console, "list", columns=columns)
    assert said.code == 0
    counts = said.out.index("id ")
    head, *rows = lines_within(said.out[counts:], columns)
    assert head.split()[0] == "id"
    (long,) = (row for row in rows if row.startswith("night-"))
    assert long.split()[0].endswith("f3a2")
    assert "…" in long.split()[0]
    (wide,) = (row for row in rows if row.startswith("東京の夜-"))
    assert wide.split()[0].endswith("f3a2")
    assert any(row.startswith(f"{UUID} ") for row in rows) == (columns >= 80)
    messages = [row for row in rows if row.startswith("    ")]
    assert sum("server_error" in row for row in messages) == 3
    assert " ".join(said.out.split()).endswith("all of it with --json, or through a pipe)")


async def test_through_a_pipe_every_id_and_message_is_whole_whatever_the_width(
    console: Console, redis: Redis, ledger: Ledger
) -> None:
    await fill(redis, ledger)
    await bury(redis, ledger.keys, LONG)
    for command in (["list"], ["dead-letters", "list"]):
        said = console.run(*command, environment={"COLUMNS": "80"})
        (row,) = (line for line in said.out.splitlines() if LONG in line)
        assert MESSAGE.strip() in row
        assert "…" not in said.out
    assert {row["id"] for row in console.run("list", "--json").lines} == {UUID, LONG, WIDE}


async def test_dead_letters_keep_their_key_and_reason_at_any_width(
    console: Console, redis: Redis, keys: Keys
) -> None:
    assert run_on_terminal(console, "dead-letters", "list").out == "no dead letters\n"
    for command_id in (UUID, LONG, WIDE):
        await bury(redis, keys, command_id)
    lines = lines_within(run_on_terminal(console, "dead-letters", "list").out, 80)
    letters = console.run("dead-letters", "list", "--json").lines
    assert [letter["command_id"] for letter in letters] == [WIDE, LONG, UUID]
    for letter in letters:
        (row,) = (line for line in lines if line.startswith(letter["key"]))
        assert row.endswith("idempotency_conflict")


async def test_many_rows_are_cut_at_the_newest_and_it_is_said(
    console: Console, redis: Redis, keys: Keys
) -> None:
    for number in range(120):
        await bury(redis, keys, f"{number}")
    lines = run_on_terminal(console, "dead-letters", "list").out.splitlines()
    assert lines[1].split()[1] == "119"
    assert lines[-1] == "there may be more than the 100 shown: see --newest and --since"


async def test_lanes_and_holds_fit_too(console: Console, redis: Redis, keys: Keys) -> None:
    await Lanes(redis, keys).pause(Priority.BULK, MESSAGE, 60)
    lines = lines_within(run_on_terminal(console, "lanes").out, 80)
    assert [line.split()[0] for line in lines[:3]] == ["lane", "interactive", "bulk"]
    assert lines[3].startswith("    the API is out of order")
    await redis.set(keys.hold, "x", px=60_000)
    lines = lines_within(run_on_terminal(console, "holds").out, 80)
    assert lines[1].startswith("all workers ")


async def test_backfills_are_listed_newest_first_in_a_table(
    console: Console, redis: Redis, ledger: Ledger, keys: Keys, tmp_path: Path
) -> None:
    assert run_on_terminal(console, "backfill", "status").out == "no backfills\n"
    night = await begin(redis, keys, ledger, tmp_path)
    await night.store.open(LONG, night.plan, Origin.CONSOLE, "bf-2")
    await redis.hset(backfill_key(keys, LONG), "begun", "1")
    await redis.hset(keys.group(NAME), mapping={"state": "paused", "reason": MESSAGE})
    lines = lines_within(run_on_terminal(console, "backfill", "status").out, 80)
    assert lines[0].split()[:3] == ["id", "state", "done"]
    assert lines[1].split()[:2] == [NAME, "paused"]
    assert lines[2].startswith("    the API is out of order")
    assert "…" in next(line for line in lines if line.startswith("night-x"))
    # Of those that have ended the last one comes first, though it was begun before the other.
    for number, (begun, ended) in enumerate([(100, 900), (200, 800)]):
        await night.store.open(f"ended-{number}", night.plan, Origin.CONSOLE, f"bf-{number + 3}")
        name = f"ended-{number}"
        await redis.hset(keys.group(name), "state", "succeeded")
        await redis.hset(backfill_key(keys, name), mapping={"begun": begun, "ended": ended})
    rows = console.run("backfill", "status", "--json").lines
    assert [row["id"] for row in rows] == [NAME, LONG, "ended-0", "ended-1"]
