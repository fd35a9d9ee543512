"""Ids that producers choose, beside backfills whose items look the same: none harms another."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import orjson
import pytest
from jsonschema import Draft202012Validator

from schemas.claim_check import parse_message
from schemas.documents import events_schema
from schemas.enums import EventState
from schemas.events import ErrorCode, is_about_command, item_source
from schemas.parsing import InvalidCommandError
from tests.integration.backfilling import (
    LEASE_MS,
    NAME,
    Backfilling,
    begin,
    command,
    make_plan,
    store_of,
)
from tests.integration.ledger_acts import accept_one, events, lease_one, open_group
from worker.backfill.errors import IdTakenError
from worker.backfill.item_results import BackfillItems
from worker.backfill.plan import Plan, SourcePlan
from worker.backfill.status import BackfillState, Origin
from worker.backfill.store import NOBODY, FeedItem, Transition
from worker.backfill.transitions import cancel_backfill
from worker.cli.backfill.commands import retry_plan
from worker.queue.groups import event_source
from worker.queue.ledger.cancellation import CancelStatus, cancel
from worker.queue.ledger.event_builder import build_event
from worker.queue.ledger.models import AcceptStatus, Lease, RowState, RunResult
from worker.queue.pool.incompatible import LastWord, give_up
from worker.queue.telemetry import Listener, RunEnd

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.console import Console
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

COMMANDS = [f"{NAME}/{number}" for number in range(20)]
# Once `backfill:<id>:open` and `backfill:<id>:results` were keys.
CLOSE_IDS = (NAME, f"{NAME}:open", f"{NAME}:results", f"{NAME}/0", f"{NAME}/0/0")


@pytest.fixture
async def night(redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path) -> Backfilling:
    """A backfill whose items are `night/0` and so on."""
    return await begin(redis, keys, ledger, tmp_path, window=100)


async def accept_all(night: Backfilling) -> None:
    await open_group(night.redis, night.keys)
    for command_id in COMMANDS:
        assert await accept_one(night.redis, night.ledger, command_id) is AcceptStatus.ACCEPTED


async def end(night: Backfilling, lease: Lease) -> None:
    if lease.group:
        assert await night.settle(lease)
        return
    told = build_event(
        parse_message(lease.text).command, lease.entry_id, lease.command_id, *SUCCEEDED, now=0
    )
    (done,) = await night.ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1, event=told)])
    assert done


SUCCEEDED = (EventState.SUCCEEDED, {"result": None, "attempts": 1, "duration_seconds": 0.1})


@pytest.mark.parametrize("commands_first", [True, False])
async def test_commands_and_items_of_the_same_id_all_run_and_each_ends_once(
    night: Backfilling, *, commands_first: bool
) -> None:
    if commands_first:
        await accept_all(night)
    await night.feed(len(COMMANDS))
    if not commands_first:
        await accept_all(night)
    leases = await night.claim()
    assert sorted(lease.command_id for lease in leases) == sorted(COMMANDS * 2)
    assert sum(bool(lease.group) for lease in leases) == len(COMMANDS)
    for lease in leases:
        assert (lease.row_id in COMMANDS) == (not lease.group)
        await end(night, lease)
    told = await events(night.redis, night.keys.events)
    ends = [event["subject"] for event in told if event["type"].endswith(".succeeded")]
    assert sorted(ends) == sorted(COMMANDS)
    now = await night.standing()
    assert (now.succeeded, now.open, now.dropped) == (len(COMMANDS), 0, 0)


async def test_a_cancelled_backfill_takes_no_command_with_it(night: Backfilling) -> None:
    await accept_all(night)
    await night.feed(len(COMMANDS))
    await night.let_lease_end()
    cancelled = await cancel_backfill(night.store, NAME)
    assert cancelled is not None
    assert (cancelled.state, cancelled.dropped) == (BackfillState.CANCELLED, len(COMMANDS))
    assert sorted(lease.command_id for lease in await night.claim()) == sorted(COMMANDS)


async def test_an_ended_backfill_s_items_are_dropped_without_the_commands(
    night: Backfilling,
) -> None:
    await accept_all(night)
    await night.feed(len(COMMANDS))
    await night.store.transition(NAME, Transition({BackfillState.RUNNING}, BackfillState.FAILED))
    assert sorted(lease.command_id for lease in await night.claim()) == sorted(COMMANDS)


async def test_backfills_whose_ids_are_close_keep_apart(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    store, plan = store_of(redis, keys), make_plan(tmp_path)
    for number, backfill_id in enumerate(CLOSE_IDS, start=1):
        await store.open(backfill_id, plan, Origin.CONSOLE, f"bf-{number}")
        token, standing = await store.lead(backfill_id, NOBODY, lease_ms=LEASE_MS)
        assert standing is not None
        items = [FeedItem(orjson.dumps(command(step))) for step in range(number)]
        items.append(FeedItem(b"", b"{}"))
        assert await store.feed(standing, token, items, str(number), exhausted=True)
    for number, backfill_id in enumerate(CLOSE_IDS, start=1):
        standing = await store.look(backfill_id)
        assert standing is not None
        assert (standing.read, standing.open, standing.waiting) == (number + 1, number, 1)
    leases = (await ledger.claim(100, bulk_most=100)).leases
    assert len(leases) == sum(range(1, len(CLOSE_IDS) + 1))
    assert {lease.group for lease in leases} == set(CLOSE_IDS)


async def test_a_command_finds_the_id_of_its_backfill_taken_though_it_looked_before(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    """The console may begin one between the worker's look and its own beginning."""
    lease = await lease_one(redis, ledger, NAME)
    store = store_of(redis, keys)
    others = make_plan(tmp_path)
    await store.open(NAME, others, Origin.CONSOLE, "bf-1")
    with pytest.raises(IdTakenError):
        await store.open_for(lease, Plan({}, others.source, "elsewhere"))
    standing = await store.look(NAME)
    assert standing is not None
    assert standing.plan == others


async def test_an_item_s_event_has_another_source_than_a_command_s(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    """Consumers that look for the end of a command look at source and subject."""
    night = await begin(redis, keys, ledger, tmp_path, item_events=True)
    await accept_all(night)
    await night.feed(1)
    validator = Draft202012Validator(events_schema())
    for lease in await night.claim():
        parsed = parse_message(lease.text).command
        event = orjson.loads(
            build_event(
                parsed,
                lease.entry_id,
                lease.command_id,
                *SUCCEEDED,
                source=event_source(BackfillItems(), lease),
                now=0,
            )
        )
        validator.validate(event)
        assert is_about_command(event) == (not lease.group)
        assert event["source"] == (
            "/trainmaster/backfills/night" if lease.group else "/trainmaster"
        )
    odd = orjson.loads(
        build_event(parsed, "1-1", "a b/c/0", *SUCCEEDED, source=item_source("a b/c"), now=0),
    )
    assert odd["source"] == "/trainmaster/backfills/a%20b%2Fc"
    validator.validate(odd)


async def test_an_item_that_nobody_can_read_ends_in_its_backfill_alone(
    night: Backfilling,
) -> None:
    await night.feed(1)
    (lease,) = await night.claim()
    error = InvalidCommandError(ErrorCode.INVALID_COMMAND, "too new")
    heard: list[RunEnd] = []
    ear = type("Ear", (Listener,), {"failed": lambda _, end: heard.append(end)})
    night.ledger.telemetry = ear()
    finish = give_up(lease, error, LastWord(night.ledger, BackfillItems(), time.time()))
    assert [(end.command_id, end.code) for end in heard] == [("night/0", "internal_error")]
    assert await night.ledger.finish([finish]) == [True]
    assert await events(night.redis, night.keys.events) == []
    assert await night.redis.xlen(night.keys.dead_letters) == 0
    assert (await night.standing()).failures == {"internal_error": 1}


async def test_the_console_means_the_command_where_an_item_has_the_same_id(
    night: Backfilling, console: Console
) -> None:
    await accept_all(night)
    await night.feed(len(COMMANDS) + 1)

    def row(*arguments: str) -> tuple[str, str | None]:
        (told,) = console.run("status", "--json", *arguments).lines
        return told["type"], told["backfill"]

    assert row(COMMANDS[3]) == ("get_model", None)
    assert row("--item", COMMANDS[3]) == ("predict", NAME)
    only_item = f"{NAME}/{len(COMMANDS)}"
    assert row(only_item) == ("predict", NAME)
    assert f"the backfill {NAME}" in console.run("status", only_item).out
    assert console.run("status", "--item", f"{NAME}/99").code == 1
    listed = console.run("list", "--json", "--limit", "100").lines
    assert sum(row["backfill"] == NAME for row in listed) == len(COMMANDS) + 1
    assert {row["id"] for row in listed} == {*COMMANDS, only_item}

    said = console.run("cancel", COMMANDS[3])
    assert (said.code, "cancelled" in said.out) == (0, True)
    said = console.run("cancel", COMMANDS[3])
    assert "it had already ended" in said.out
    said = console.run("cancel", only_item)
    assert (said.code, "an item of a backfill" in said.out) == (1, True)
    outcome = await cancel(
        night.redis, night.keys, f"{NAME}/99", retention_seconds=1, reply_retention_seconds=1
    )
    assert outcome.status is CancelStatus.UNKNOWN_ID
    assert (await night.standing()).open == len(COMMANDS) + 1


async def test_a_retry_goes_on_with_no_backfill_of_another_that_has_its_id(
    redis: Redis, keys: Keys, ledger: Ledger, console: Console, tmp_path: Path
) -> None:
    night = await begin(redis, keys, ledger, tmp_path)
    await night.feed(1)
    (lease,) = await night.claim()
    await night.settle(lease, "not_found")
    await night.let_lease_end()
    await night.store.transition(NAME, Transition({BackfillState.RUNNING}, BackfillState.SUCCEEDED))
    foreign = replace(night.plan, source=SourcePlan("/elsewhere.jsonl", night.plan.source.format))
    await night.store.open(f"{NAME}.retry", foreign, Origin.QUEUE, "1-1")
    assert retry_plan(await night.standing()).source != foreign.source
    said = console.run("backfill", "retry-failed", NAME)
    assert said.code == 1
    assert f"another backfill has the id {NAME}.retry" in said.err
    standing = await night.store.look(f"{NAME}.retry")
    assert standing is not None
    assert (standing.plan, standing.read, standing.led_ms) == (foreign, 0, 0)


async def test_a_run_of_an_id_that_was_begun_with_other_options_is_refused(
    night: Backfilling, console: Console
) -> None:
    ended = Transition({BackfillState.RUNNING}, BackfillState.CANCELLED)
    await night.store.transition(NAME, ended)
    plan = night.plan
    given = {
        "project": plan.common["project_uuid"],
        "attachment": plan.common["project_model_uuid"],
        "training": plan.common["training_uuid"],
        "task": plan.common["task"],
        "output": plan.output,
        "window": plan.window,
        "part-items": plan.part_items,
        "id": NAME,
    }
    options = [text for key, value in given.items() for text in (f"--{key}", str(value))]
    begun = ["backfill", "run", plan.source.location, *options]
    again = console.run(*begun)
    assert again.code == 1
    assert "cancelled" in again.out
    other = console.run(*begun, "--conf-thresh", "0.5")
    assert other.code == 2
    assert "was begun with other options (conf_thresh): give the same" in other.err


@pytest.mark.parametrize("name", [".", "..", "😀" * 100])
def test_an_id_that_can_t_name_a_folder_asks_for_an_output(
    console: Console, tmp_path: Path, name: str
) -> None:
    source = tmp_path / "items.jsonl"
    source.write_text(f'{{"data_uuid": "{UUID(int=1)}"}}\n')
    options = {"project": UUID(int=1), "attachment": UUID(int=2), "training": UUID(int=3)}
    given = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    said = console.run(
        "backfill", "run", str(source), *given, "--task", "classification", "--id", name
    )
    assert said.code == 2
    assert "--output" in said.err
