"""Servers of files that break off, stall or never answer, under a load of datarefs and items."""

from __future__ import annotations

import base64
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import orjson

from tests.faults.audit import Audit, Report, report
from tests.faults.fleet import READY_SECONDS, Fleet, Repeater, bar, wait_until
from tests.faults.scenarios.backfills import ASKED
from tests.faults.workload import Scene, Workload, doubled_titles, mixed
from tests.stub_api import StubApi, reply
from tests.web_server import CUT_WAYS, WAYS, Bodies
from worker.backfill.results.output import Output
from worker.backfill.results.parts import read_records

if TYPE_CHECKING:
    from pathlib import Path

BACKFILL = "pictures"
STALL = "stall-cut"
CUTS = 2
# Larger than one piece of the server's, so that a half of it is several.
PICTURE_BYTES = 90_000
# Of an ordinary command while others hang.
MOST_SECONDS = 10.0


@dataclass
class _Pictures:
    """What lies behind URLs: half of it pictures of items, half of it data of commands."""

    rng: random.Random
    bodies: Bodies = field(default_factory=Bodies)
    whole: set[str] = field(default_factory=set)
    paths: dict[str, list[str]] = field(default_factory=lambda: {"jpg": [], "json": []})

    def add(self, number: int, kind: str) -> None:
        """Adds a file, and the way in which it comes."""
        content = self.rng.randbytes(PICTURE_BYTES + number)
        encoded = base64.b64encode(content).decode()
        self.whole.add(encoded)
        if kind == "json":
            data = {**ASKED, "task": "object_detection", "data_base64": encoded}
            content = orjson.dumps(data)
        name = f"{number}.{kind}"
        self.bodies.files[name] = content
        way = self.rng.choice((*WAYS, *CUT_WAYS, STALL))
        path = f"/{way}/{name}"
        if way.endswith("-cut"):
            self.bodies.cuts_left[path] = CUTS
        self.paths[kind].append(path)


def remote_bodies(
    folder: Path, seed: int, files: int, *, kills: int = 10, seconds: float = 300
) -> Report:
    """Has bodies break off in every way while workers die: each is sent whole, or read again.

    Args:
        folder: for everything that the scenario leaves.
        seed: of the files, of how they come, and of whom it hits.
        files: half of them items of a backfill, half datarefs of commands.
        kills: of a worker, one every two seconds.
        seconds: when to give up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    pictures = _Pictures(rng)
    for number in range(files):
        pictures.add(number, "json" if number % 2 else "jpg")
    answers = reply(200, b'{"result": {"0": []}}')
    with pictures.bodies.serve() as url, StubApi(default=answers) as api:
        source = folder / "items.jsonl"
        rows = [{"data_path": url + path} for path in pictures.paths["jpg"]]
        source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        settings = {
            "ENCORD_DOMAIN": api.url,
            "TRAINMASTER_DATA_ROOTS": str(folder),
            "TRAINMASTER_SOURCE_URLS": url,
            "TRAINMASTER_DOWNLOAD_IDLE_TIMEOUT_SECONDS": "1",
            # A worker may die as often as that with the same command in hand.
            "TRAINMASTER_MAX_CLAIMS": "100",
        }
        work = Workload()
        for number, path in enumerate(pictures.paths["json"]):
            _add(work, f"c-{number}", "predict", url + path)
        backfill = {**ASKED, "task": "object_detection", "source": str(source)}
        work.add(BACKFILL, "backfill", backfill, "succeeded")
        with Fleet(folder / "fleet", 2, settings) as fleet:
            fleet.wait_ready()
            work.send(fleet.client, shuffle=rng)
            audit = Audit(fleet)
            killed = _kill(fleet, audit, rng, len(work.expected), kills, seconds)
            pictures.bodies.awake.set()
            output = Output(str(fleet.folder / "results" / "backfills" / f"backfill-{BACKFILL}"))
            items: Counter[int] = Counter()
            failed = 0
            for record in read_records(output):
                items[record["item"]] += 1
                failed += record["state"] == "failed"
            bodies = (orjson.loads(each.body) for each in api.recorded if each.method == "POST")
            sent = Counter(body["dataBase64"] for body in bodies)
            cut = {path: CUTS - max(0, left) for path, left in pictures.bodies.cuts_left.items()}
            found = report(
                f"remote bodies[seed {seed}]",
                audit,
                work.expected,
                faults=killed + sum(cut.values()),
                doubled=items.total() - len(items),
                wrong=failed + len(set(sent) - pictures.whole),
                details={
                    "kills": killed,
                    "cut": sum(cut.values()),
                    "asked": pictures.bodies.asked.total(),
                    "sent": sent.total(),
                },
            )
            unsent = len(pictures.whole - set(sent)) + len(rows) - len(items)
            return replace(found, commands=files, lost=found.lost + unsent)


def silent_downloads(
    folder: Path, seed: int, commands: int, *, hanging: int = 100, rounds: int = 5
) -> Report:
    """Has more datarefs than places wait for a server that does not answer; others go on.

    Args:
        folder: for everything that the scenario leaves.
        seed: of the ordinary commands and of whom it hits.
        commands: ordinary ones in each round, all sent at once.
        hanging: datarefs of commands at the silent server.
        rounds: of ordinary commands; a worker is killed after each.
    """
    rng = random.Random(seed)
    bodies = Bodies()
    settings = {
        "TRAINMASTER_CONCURRENCY": "32",
        "TRAINMASTER_DOWNLOAD_TIMEOUT_SECONDS": "60",
        "TRAINMASTER_DOWNLOAD_IDLE_TIMEOUT_SECONDS": "30",
    }
    with bodies.serve() as url:
        settings["TRAINMASTER_SOURCE_URLS"] = url
        with Fleet(folder, 2, settings) as fleet:
            scene = Scene.prepare(fleet)
            bodies.files["model.json"] = orjson.dumps({"model_uuid": scene.model_uuid})
            work = Workload()
            for number in range(hanging):
                _add(work, f"h-{number}", "get_model", f"{url}/silent/model.json")
            fleet.wait_ready()
            work.send(fleet.client)
            try:
                wait_until(
                    lambda: bodies.asked.total() > 0, READY_SECONDS, "the silent server is asked"
                )
                audit = Audit(fleet)
                took = _rounds(fleet, scene, audit, work, rng, commands, rounds)
                before = sum(bool(audit.ends(f"h-{number}")) for number in range(hanging))
            finally:
                bodies.awake.set()
            begun = time.monotonic()
            audit.settle(len(work.expected), Repeater(fleet.revive, 0.5))
            created = fleet.sandbox.truth()["created"]["models"]
            return report(
                f"silent downloads[seed {seed}]",
                audit,
                work.expected,
                faults=hanging + rounds,
                doubled=doubled_titles(created, "r"),
                wrong=sum(each > bar(MOST_SECONDS) for each in took) + before,
                details={
                    "asked": bodies.asked.total(),
                    "slowest round": f"{max(took):.1f} s",
                    "all ended after": f"{time.monotonic() - begun:.1f} s",
                },
            )


def _rounds(
    fleet: Fleet,
    scene: Scene,
    audit: Audit,
    work: Workload,
    rng: random.Random,
    commands: int,
    rounds: int,
) -> list[float]:
    """Returns how long the ordinary commands of each round took, all together."""
    took = []
    for number in range(rounds):
        part = mixed(scene, commands, rng, prefix=f"r{number}")
        part.send(fleet.client)
        work.expected |= part.expected
        begun = time.monotonic()
        end = begun + 60
        while not all(audit.ends(each) for each in part.expected) and time.monotonic() < end:
            time.sleep(0.05)
            audit.update()
        took.append(time.monotonic() - begun)
        victim = rng.choice(fleet.workers)
        victim.kill()
        victim.start()
        wait_until(partial(getattr, victim, "ready"), READY_SECONDS, "the worker is back")
    return took


def _add(work: Workload, command_id: str, kind: str, dataref: str) -> None:
    work.texts[command_id] = json.dumps({"id": command_id, "type": kind, "dataref": dataref})
    work.expected[command_id] = "succeeded"


def _kill(
    fleet: Fleet, audit: Audit, rng: random.Random, wanted: int, kills: int, seconds: float
) -> int:
    killed = 0

    def kill_one() -> None:
        nonlocal killed
        if killed < kills:
            killed += 1
            rng.choice(fleet.workers).kill()

    begun = time.monotonic()
    repeaters = (
        Repeater(kill_one, 2),
        Repeater(fleet.revive, 0.5),
        Repeater(audit.update, 0.25),
    )
    while audit.ended() < wanted and time.monotonic() - begun < seconds:
        for repeater in repeaters:
            repeater.tick()
        time.sleep(0.05)
    audit.settle(wanted, Repeater(fleet.revive, 0.5))
    return killed
