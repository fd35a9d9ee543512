"""Commands whose ids are those of backfills' items, and backfills whose ids nearly are keys."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import orjson

from tests.faults.audit import Audit, Report, report
from tests.faults.fleet import Fleet, Repeater
from tests.faults.scenarios.backfills import ASKED, running_stub
from worker.backfill.results.output import Output, folder_name
from worker.backfill.results.parts import read_records

if TYPE_CHECKING:
    from pathlib import Path

# Of what the first command is about; items are about the numbers from 1 on.
COMMAND_UUIDS = 1_000_000
BACKFILLS = ("night", "night:open", "night:results", "night/0", "Night")


def colliding_ids(
    folder: Path, seed: int, items: int, *, kills: int = 4, seconds: float = 240
) -> Report:
    """Runs backfills and a command for each of their items' ids, half of them sent before.

    Args:
        folder: for everything that the scenario leaves.
        seed: stands in the report's name; when is killed follows from the progress alone.
        items: of each backfill, and as many commands.
        kills: how often all workers are killed at once.
        seconds: when to give up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "items.jsonl"
    with source.open("wb") as file:
        for number in range(items):
            file.write(orjson.dumps({"data_uuid": str(UUID(int=number + 1))}) + b"\n")
    ids = [f"{name}/{number}" for name in BACKFILLS for number in range(items)]
    ids = [command_id for command_id in ids if command_id not in BACKFILLS]
    with running_stub(folder) as url:
        settings = {
            "ENCORD_DOMAIN": url,
            "TRAINMASTER_DATA_ROOTS": str(folder),
            "TRAINMASTER_BACKFILL_PART_ITEMS": "100",
        }
        with Fleet(folder / "fleet", 2, settings) as fleet:
            fleet.wait_ready()
            _send(fleet, ids, 0)
            for name in BACKFILLS:
                _backfill(fleet, name, source)
            _send(fleet, ids, 1)
            audit = Audit(fleet)
            killed = _kill(fleet, audit, len(ids) + len(BACKFILLS), kills, seconds)
            calls = httpx.get(f"{url}/calls").json()
            wrong = _not_asked(calls, len(ids), items)
            return _judged(fleet, audit, ids, items, killed, wrong, seed)


def _send(fleet: Fleet, ids: list[str], first: int) -> None:
    """Sends every other command, each about something of its own."""
    pipe = fleet.client.pipeline(transaction=True)
    for number in range(first, len(ids), 2):
        uuid = str(UUID(int=COMMAND_UUIDS + number))
        data = {**ASKED, "task": "object_detection", "data_uuid": uuid}
        text = orjson.dumps({"id": ids[number], "type": "predict", "data": data})
        pipe.xadd("{trainmaster}:commands", {"command": text})
    pipe.execute()


def _backfill(fleet: Fleet, name: str, source: Path) -> None:
    data = {**ASKED, "task": "object_detection", "source": str(source), "item_events": True}
    command = {"id": name, "type": "backfill", "data": data}
    fleet.client.xadd("{trainmaster}:commands", {"command": orjson.dumps(command)})


def _kill(fleet: Fleet, audit: Audit, wanted: int, kills: int, seconds: float) -> int:
    begun = time.monotonic()
    killed = 0
    repeaters = (Repeater(fleet.revive, 0.5), Repeater(audit.update, 0.25))
    while audit.ended() < wanted and time.monotonic() - begun < seconds:
        for repeater in repeaters:
            repeater.tick()
        if killed < kills and audit.ended() >= wanted * (killed + 1) / (kills + 2):
            killed += 1
            for worker in fleet.workers:
                worker.kill()
        time.sleep(0.05)
    audit.settle(wanted, Repeater(fleet.revive, 0.5))
    return killed


def _not_asked(calls: dict[str, int], commands: int, items: int) -> int:
    """Returns how often the API was not asked what a command or an item is about."""
    asked_of_commands = (calls.get(str(UUID(int=COMMAND_UUIDS + n)), 0) for n in range(commands))
    asked_of_items = (calls.get(str(UUID(int=n + 1)), 0) for n in range(items))
    missing = sum(not times for times in asked_of_commands)
    return missing + sum(max(0, len(BACKFILLS) - times) for times in asked_of_items)


def _judged(
    fleet: Fleet,
    audit: Audit,
    ids: list[str],
    items: int,
    killed: int,
    wrong: int,
    seed: int,
) -> Report:
    lost = doubled = 0
    told = Counter((event["source"], event["subject"]) for event in audit.items)
    lost += items * len(BACKFILLS) - len(told)
    doubled += told.total() - len(told)
    for name in BACKFILLS:
        at = fleet.folder / "results" / "backfills" / f"backfill-{folder_name(name)}"
        found: Counter[Any] = Counter(record["item"] for record in read_records(Output(str(at))))
        lost += items - len(found)
        doubled += found.total() - len(found)
    expected = dict.fromkeys([*ids, *BACKFILLS], "succeeded")
    report_of_commands = report(
        f"ids collide[seed {seed}]",
        audit,
        expected,
        faults=killed * len(fleet.workers),
        doubled=doubled,
        wrong=wrong,
        details={"backfills": len(BACKFILLS), "items": items * len(BACKFILLS)},
    )
    return replace(report_of_commands, lost=report_of_commands.lost + lost)
