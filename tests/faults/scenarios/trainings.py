"""Trainings: the calls that cost money, under every way in which a POST can go wrong."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from tests.faults.audit import Audit, Report, report, state
from tests.faults.fleet import Fleet, Repeater
from tests.faults.workload import ARCHITECTURE, Scene, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# How long an answer may stay unknown before the command gives up; trainings end well before.
DOUBT_SECONDS = 15
TRAINING_SECONDS = 3
IDENTICAL = 5
PER_MODEL = 15
# More than a lease, and what it takes others to be in doubt and to adopt.
THAW_SECONDS = 9.0


def post_faults(
    seed: int, share: float, shown: Literal["listed", "hidden"]
) -> list[dict[str, Any]]:
    """Returns fault rules under which this share of the POSTs of trainings goes wrong."""
    ways: list[dict[str, Any]] = [
        {"effect": "reset"},
        {"effect": "reset", "carried_out": True},
        {"effect": "status", "status": 503},
        {"effect": "commit_then_fail", "status": 502},
        {"effect": "truncated"},
    ]
    rules = [
        {
            "operation": "create_training_job",
            "probability": share / len(ways),
            "seed": seed * 100 + number,
            **way,
        }
        for number, way in enumerate(ways)
    ]
    simulated = {
        "operation": "create_training_job",
        "effect": "training",
        "training": "simulated",
        "seconds": TRAINING_SECONDS,
    }
    return [*rules, simulated, {"operation": "*", "effect": "running_trainings", "shown": shown}]


def trainings(
    folder: Path,
    seed: int,
    count: int,
    shown: Literal["listed", "hidden"],
    *,
    kill_every_seconds: float = 4.0,
    freezes: bool = False,
    seconds: float = 400,
) -> Report:
    """Trains while POSTs fail and workers die; a third of the commands are identical to others.

    Args:
        folder: for everything that the scenario leaves.
        seed: of faults and kills.
        count: trainings, a multiple of 15.
        shown: whether the API lists trainings that still run.
        kill_every_seconds: between two kills of a worker.
        freezes: whether a worker that was killed comes back as one that stands still before one of
            its first POSTs, until its leases are over and others have gone on; then it is sent.
            Half of the POSTs go wrong meanwhile.
        seconds: when to give up.
    """
    rng = random.Random(seed)
    with Fleet(folder, 3) as fleet:
        scene = Scene.prepare(fleet)
        fleet.sandbox.faults(*post_faults(seed, 0.5 if freezes else 0.15, shown))
        work, same = _work(fleet, scene, count)
        fleet.wait_ready()
        work.send(fleet.client, shuffle=rng)
        audit = Audit(fleet)
        begun = time.monotonic()
        killer = Repeater(lambda: _strike(fleet, rng, freezes=freezes), kill_every_seconds)
        repeaters = (
            killer,
            Repeater(fleet.revive, 0.5),
            Repeater(audit.update, 0.5),
            Repeater(lambda: _thaw(fleet), THAW_SECONDS),
        )
        while audit.ended() < count and time.monotonic() - begun < seconds:
            for repeater in repeaters:
                repeater.tick()
            time.sleep(0.05)
        keepers = (Repeater(fleet.revive, 0.5), Repeater(lambda: _thaw(fleet), 1.0))
        audit.settle(count, *keepers)
        truth = fleet.sandbox.truth()
        kind = f"{shown}, frozen" if freezes else shown
        return _judged(f"trainings {kind}[seed {seed}]", audit, work, same, truth, killer.times)


def _strike(fleet: Fleet, rng: random.Random, *, freezes: bool) -> None:
    victim = rng.choice(fleet.workers)
    victim.kill()
    if freezes:
        victim.start(FAILPOINT=f"post.before:stop:{rng.randint(1, 3)}")


def _thaw(fleet: Fleet) -> None:
    for worker in fleet.workers:
        worker.send(signal.SIGCONT)


def _work(fleet: Fleet, scene: Scene, count: int) -> tuple[Workload, dict[str, tuple[str, int]]]:
    """Returns the commands, and by id what tells a training from others: model and epochs."""
    work = Workload()
    same: dict[str, tuple[str, int]] = {}
    for number in range(count):
        place = number % PER_MODEL
        if place == 0:
            model_uuid = fleet.sandbox.create_model(ARCHITECTURE)
        epochs = max(1, place - IDENTICAL + 2)
        data = scene.training(model_uuid, epochs=epochs, timeout_seconds=DOUBT_SECONDS)
        work.add(f"t-{number}", "train", data, "created")
        same[f"t-{number}"] = (model_uuid, epochs)
    return work, same


def _judged(
    name: str,
    audit: Audit,
    work: Workload,
    same: dict[str, tuple[str, int]],
    truth: dict[str, Any],
    kills: int,
) -> Report:
    made = truth["created"]["trainings"]
    per_kind = Counter((training["model_uuid"], training["epochs"]) for training in made)
    wanted = Counter(same.values())
    doubled = sum(max(0, count - wanted[kind]) for kind, count in per_kind.items())
    owners = owners_of_trainings(audit, work.expected)
    unknown = 0
    wrong = 0
    for command_id in work.expected:
        for end in audit.ends(command_id):
            if state(end) == "failed":
                unknown += end["data"]["error"]["code"] == "outcome_unknown"
                wrong += end["data"]["error"]["code"] != "outcome_unknown"
    doubled += sum(len(ids) - 1 for ids in owners.values())
    orphans = {training["training_uuid"] for training in made} - set(owners)
    faults = kills + sum(
        count
        for status, count in truth["calls"]["create_training_job"]["by_status"].items()
        if status != "200"
    )
    return report(
        name,
        audit,
        work.expected,
        faults=faults,
        doubled=doubled,
        # A training that exists, is listed by now and belongs to no command could have been found.
        wrong=wrong + len(orphans),
        details={"trainings": len(made), "outcome_unknown": unknown, "kills": kills},
    )


def owners_of_trainings(audit: Audit, ids: Iterable[str]) -> dict[str, set[str]]:
    """Returns the commands that call a training theirs, by its uuid."""
    owners: dict[str, set[str]] = {}
    for command_id in ids:
        for event in audit.events[command_id]:
            uuid = event["data"].get("training_uuid") or _result_uuid(event)
            if uuid is not None:
                owners.setdefault(uuid, set()).add(command_id)
    return owners


def _result_uuid(event: dict[str, Any]) -> str | None:
    result = event["data"].get("result")
    return result["training_uuid"] if isinstance(result, dict) else None
