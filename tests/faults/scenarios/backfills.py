"""Backfills while their reader and all workers are killed, again and again: each result once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import orjson

from tests.console import SCRIPT
from tests.faults.audit import Audit, Report, report
from tests.faults.fleet import ROOT, Fleet, Repeater, wait_until
from worker.backfill.results.output import Output
from worker.backfill.results.parts import read_records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# One row of so many is none.
BAD_EVERY = 1_000
CONSOLE, QUEUED = "console", "queued"
ASKED = {
    "project_uuid": str(UUID(int=1)),
    "project_model_uuid": str(UUID(int=2)),
    "training_uuid": str(UUID(int=3)),
}


@contextmanager
def running_stub(folder: Path, latency_seconds: float = 0.02) -> Iterator[str]:
    """Runs the benchmarks' stub of the API; yields its URL."""
    ready = folder / "stub-port"
    stub = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stub", "--ready", str(ready)], cwd=ROOT
    )
    try:
        wait_until(lambda: ready.exists() and bool(ready.read_text()), 120, "the stub is ready")
        url = f"http://127.0.0.1:{ready.read_text().strip()}"
        httpx.put(f"{url}/latency/{round(1000 * latency_seconds)}").raise_for_status()
        yield url
    finally:
        stub.terminate()
        stub.wait()


def write_rows(path: Path, items: int) -> Path:
    """Writes a manifest of uuids in which one row of `BAD_EVERY` is not JSON."""
    with path.open("wb") as file:
        for number in range(items):
            if is_bad(number):
                file.write(b"{broken\n")
            else:
                file.write(orjson.dumps({"data_uuid": str(UUID(int=number + 1))}) + b"\n")
    return path


def is_bad(number: int) -> bool:
    """Tells whether the row of an item is broken."""
    return number % BAD_EVERY == BAD_EVERY // 2


class Readers:
    """The reader of the console's backfill, one process after the other."""

    def __init__(self, fleet: Fleet, source: Path, output: Path) -> None:
        self._fleet = fleet
        self._log = fleet.folder / "reader.log"
        self._run = [
            *("run", str(source), "--id", CONSOLE, "--output", str(output)),
            *("--task", "object_detection", "--project", ASKED["project_uuid"]),
            *("--attachment", ASKED["project_model_uuid"]),
            *("--training", ASKED["training_uuid"]),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begins the backfill, or goes on with it."""
        # A reader may be killed before it has begun anything.
        begun = self._fleet.client.exists(f"{{trainmaster}}:backfill:{CONSOLE}")
        arguments = ["resume", CONSOLE] if begun else self._run
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [SCRIPT, "backfill", *arguments],
                env=self._fleet.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def revive(self) -> None:
        """Goes on where the reader has ended by itself and the backfill has not."""
        if self._process is not None and self._process.poll() not in {None, 0, 1}:
            self.start()

    def kill(self) -> None:
        """Kills the process and waits until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def backfills(
    folder: Path, seed: int, items: int, *, kills: int = 5, workers: int = 2, seconds: float = 600
) -> Report:
    """Runs a backfill of the console and one of the queue, and kills all that work on them.

    Args:
        folder: for everything that the scenario leaves.
        seed: stands in the report's name; when is killed follows from the progress alone.
        items: of both backfills together.
        kills: how often all workers and the reader are killed at once, evenly over the items.
        workers: processes.
        seconds: when to give up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    half = items // 2
    sources = {name: write_rows(folder / f"{name}.jsonl", half) for name in (CONSOLE, QUEUED)}
    with running_stub(folder) as url:
        settings = {
            "ENCORD_DOMAIN": url,
            "TRAINMASTER_DATA_ROOTS": str(folder),
            "TRAINMASTER_BACKFILL_PART_ITEMS": "1000",
        }
        with Fleet(folder / "fleet", workers, settings) as fleet:
            output = folder / "console-out"
            readers = Readers(fleet, sources[CONSOLE], output)
            try:
                done = _run(fleet, readers, sources[QUEUED], items, kills, seconds)
            finally:
                readers.kill()
            outputs = {
                CONSOLE: output,
                QUEUED: folder / "fleet" / "results" / "backfills" / f"backfill-{QUEUED}",
            }
            calls = httpx.get(f"{url}/calls").json()
            return _judged(fleet, f"backfills[seed {seed}]", half, outputs, done, calls)


def _run(
    fleet: Fleet, readers: Readers, source: Path, items: int, kills: int, seconds: float
) -> dict[str, Any]:
    data = {**ASKED, "task": "object_detection", "source": str(source)}
    command = {"id": QUEUED, "type": "backfill", "data": data}
    fleet.wait_ready()
    fleet.client.xadd("{trainmaster}:commands", {"command": orjson.dumps(command)})
    readers.start()
    begun = time.monotonic()
    killed = 0
    audit = Audit(fleet)
    repeaters = (
        Repeater(fleet.revive, 0.5),
        Repeater(readers.revive, 1),
        Repeater(audit.update, 1),
    )
    while audit.ended() < 2 and time.monotonic() - begun < seconds:
        for repeater in repeaters:
            repeater.tick()
        if killed < kills and _ended(fleet) >= items * (killed + 1) / (kills + 1):
            killed += 1
            readers.kill()
            for worker in fleet.workers:
                worker.kill()
            fleet.revive()
            readers.start()
        time.sleep(0.05)
    audit.settle(2, *repeaters[:2], progress=lambda: _ended(fleet))
    return {"kills": killed, "seconds": round(time.monotonic() - begun, 1)}


def _ended(fleet: Fleet) -> int:
    counts = 0
    for name in (CONSOLE, QUEUED):
        told = fleet.client.hmget(f"{{trainmaster}}:group:{name}", "succeeded", "failed")
        counts += sum(int(each) for each in told if each is not None)
    return counts


def _judged(
    fleet: Fleet,
    name: str,
    half: int,
    outputs: dict[str, Path],
    done: dict[str, Any],
    calls: dict[str, int],
) -> Report:
    audit = Audit(fleet)
    audit.update()
    lost = doubled = 0
    odd = []
    for backfill, output in outputs.items():
        found: Counter[int] = Counter()
        for record in read_records(Output(str(output))):
            found[record["item"]] += 1
            if (record["state"] == "failed") != is_bad(record["item"]):
                odd.append(f"{backfill}/{record['item']}: {record}")
        lost += half - len(found)
        doubled += found.total() - len(found)
    expected = dict.fromkeys(outputs, "succeeded")
    told = report(
        name,
        audit,
        expected,
        faults=done["kills"] * (len(fleet.workers) + 1),
        doubled=doubled,
        wrong=len(odd),
        odd=odd,
        details={**done, "calls": sum(calls.values())},
    )
    return replace(told, commands=2 * half, lost=told.lost + lost)
