"""Interactive commands behind a backlog of bulk ones: how long they wait, and what is lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import orjson

from tests.faults.audit import EVENTS, Audit, Report, entries, report, state
from tests.faults.fleet import Fleet, Repeater
from tests.faults.scenarios.backfills import ASKED, running_stub
from worker.queue.ledger.keys import CommandStream, Keys

if TYPE_CHECKING:
    from pathlib import Path

KEYS = Keys("trainmaster")
# Half of the interactive ones stand right behind the backlog, the others come one by one.
INTERACTIVE = 40
EVERY_SECONDS = 0.25
API_SECONDS = 0.05


def bulk_backlog(
    folder: Path,
    seed: int,
    commands: int,
    stream: CommandStream,
    longest_seconds: float,
    *,
    workers: int = 2,
    seconds: float = 900,
) -> Report:
    """Sends a backlog at once and interactive commands behind it; then kills all workers once.

    Args:
        folder: for everything that the scenario leaves.
        seed: stands in the report's name.
        commands: bulk ones.
        stream: in which they stand.
        longest_seconds: an interactive command that waits longer is counted as wrong.
        workers: processes.
        seconds: when to give up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        running_stub(folder, API_SECONDS) as url,
        Fleet(folder / "fleet", workers, {"ENCORD_DOMAIN": url}) as fleet,
    ):
        fleet.wait_ready()
        sent = _send_backlog(fleet, commands, stream)
        audit = Audit(fleet)
        begun = time.monotonic()
        sender = Repeater(lambda: sent.update(_send_one(fleet, len(sent))), EVERY_SECONDS)
        revive, read = Repeater(fleet.revive, 0.5), Repeater(audit.update, 0.5)
        killed = 0
        while audit.ended() < commands + INTERACTIVE and time.monotonic() - begun < seconds:
            revive.tick()
            read.tick()
            if len(sent) < INTERACTIVE:
                sender.tick()
            elif not killed and all(audit.ends(command_id) for command_id in sent):
                killed = len(fleet.workers)
                for worker in fleet.workers:
                    worker.kill()
            time.sleep(0.02)
        audit.settle(commands + INTERACTIVE, revive)
        lasted = time.monotonic() - begun
        waits = _waits(fleet, sent)
        late = sum(wait > longest_seconds for wait in waits)
        ids = [*(f"bulk-{number}" for number in range(commands)), *sent]
        return report(
            f"bulk backlog, {stream.name.lower()} stream[seed {seed}]",
            audit,
            dict.fromkeys(ids, "succeeded"),
            faults=killed,
            wrong=late,
            details={
                "longest wait": f"{max(waits, default=0):.2f} s",
                "the bound": f"{longest_seconds:g} s",
                "all ended after": f"{lasted:.0f} s",
            },
        )


def _send_backlog(fleet: Fleet, commands: int, stream: CommandStream) -> dict[str, int]:
    """Sends all at once; returns when each interactive one was added, in Redis' ms."""
    half = INTERACTIVE // 2
    pipe = fleet.client.pipeline(transaction=True)
    for number in range(commands):
        pipe.xadd(KEYS.stream(stream), {"command": _command(f"bulk-{number}", priority="bulk")})
    for number in range(half):
        pipe.xadd(KEYS.commands, {"command": _command(f"interactive-{number}")})
    added = cast("list[bytes]", pipe.execute())[-half:]
    return {f"interactive-{number}": _ms(entry_id) for number, entry_id in enumerate(added)}


def _send_one(fleet: Fleet, number: int) -> dict[str, int]:
    name = f"interactive-{number}"
    return {name: _ms(fleet.client.xadd(KEYS.commands, {"command": _command(name)}))}


def _command(command_id: str, **more: Any) -> bytes:
    data = {**ASKED, "task": "object_detection", "data_uuid": str(UUID(int=9))}
    return orjson.dumps({"id": command_id, "type": "predict", "data": data, **more})


def _waits(fleet: Fleet, sent: dict[str, int]) -> list[float]:
    """Returns how long each took to its end, by Redis' clock."""
    waits = []
    since = "-"
    while page := entries(fleet.client, EVENTS, since, count=5_000):
        since = f"({page[-1][0].decode()}"
        for entry_id, fields in page:
            if b'"subject":"interactive-' not in fields[b"event"]:
                continue
            event = orjson.loads(fields[b"event"])
            if state(event) == "succeeded":
                waits.append((_ms(entry_id) - sent[event["subject"]]) / 1000)
    return waits


def _ms(entry_id: Any) -> int:
    return int(entry_id.partition(b"-")[0])
