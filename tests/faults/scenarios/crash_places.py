"""Lets a worker die, freeze or lose Redis at every seam between its parts, one after the other."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any, Literal

from celery import Celery

from tests.faults.audit import (
    DEAD_LETTERS,
    EVENTS,
    QUIET_SECONDS,
    Audit,
    Report,
    entries,
    report,
    state,
)
from tests.faults.fleet import READY_SECONDS, Fleet, WorkerProcess, wait_until
from tests.faults.workload import ARCHITECTURE, Scene, Workload, doubled_titles

if TYPE_CHECKING:
    from pathlib import Path

Action = Literal["kill", "stop", "disconnect"]

PAST_LEASE_SECONDS = 4.0
BAD = 2


def open_fleet(folder: Path, **settings: str) -> Fleet:
    """Returns a fleet without workers, for many places one after the other."""
    return Fleet(folder, 0, {"TRAINMASTER_DOUBT_SECONDS": "6", **settings})


def crash_at(
    fleet: Fleet, scene: Scene, place: str, action: Action, *, seconds: float = QUIET_SECONDS
) -> Report:
    """Runs a little of everything with a worker that fails at a place, then with a whole one."""
    name = f"{place}:{action}"
    prefix = name.replace(".", "-").replace(":", "-")
    fleet.sandbox.faults(
        {"operation": "create_training_job", "effect": "commit_then_fail", "count": 1},
        {"operation": "create_training_job", "effect": "training", "training": "simulated"},
        {"operation": "*", "effect": "running_trainings", "shown": "hidden"},
    )
    work = _work(fleet, scene, prefix)
    before = len(entries(fleet.client, DEAD_LETTERS))
    audit = Audit(fleet, since=_newest(fleet))
    failing = WorkerProcess(fleet.folder / f"{prefix}.log", fleet.environment())
    work.send(fleet.client)
    submitted = _submit_by_celery(fleet, scene, prefix, work)
    # Who can take all by itself calls nobody.
    few = {"TRAINMASTER_CONCURRENCY": "4"} if place.startswith("wake.") else {}
    failing.start(FAILPOINT=f"{place}:{action}:1", **few)
    fleet.workers.append(failing)
    reached = _reached(fleet, failing, place, action)
    whole = WorkerProcess(fleet.folder / "whole.log", fleet.environment())
    whole.start()
    fleet.workers.append(whole)
    audit.settle(len(work.expected), rejections=BAD, quiet_seconds=seconds)
    if action == "stop":
        # The frozen worker wakes up when another one has long done its work.
        failing.send(signal.SIGCONT)
    time.sleep(1.0)
    # Before it has begun, a signal would end it with the signal for a code.
    wait_until(lambda: whole.ready or not whole.alive, 120, "the worker is ready")
    codes = [worker.terminate()[0] for worker in (whole, failing) if worker.alive]
    audit.update()
    fleet.workers.clear()
    letters = len(entries(fleet.client, DEAD_LETTERS)) - before
    failed = sum(
        state(event) == "failed" for command_id in work.expected for event in audit.ends(command_id)
    )
    truth = fleet.sandbox.truth()["created"]
    return report(
        name,
        audit,
        work.expected,
        faults=int(reached),
        rejections=BAD,
        doubled=doubled_titles(truth["models"], prefix) + _doubled_trainings(truth, audit),
        wrong=(not reached) + any(codes) + abs(letters - failed - BAD),
        details={"by celery": submitted},
    )


def _work(fleet: Fleet, scene: Scene, prefix: str) -> Workload:
    work = Workload()
    fresh = fleet.sandbox.create_model(ARCHITECTURE)
    doomed = [fleet.sandbox.create_model(ARCHITECTURE) for _ in range(2)]
    for number in range(3):
        data: dict[str, Any] = {
            "features": list(scene.features),
            "model": ARCHITECTURE,
            "title": f"{prefix} {number}",
        }
        work.add(f"{prefix}-create-{number}", "create_model", data, "created")
    for number in range(2):
        data = scene.training(fresh, epochs=number + 1, timeout_seconds=8)
        work.add(f"{prefix}-train-{number}", "train", data, "created")
    data = {
        "project_uuid": scene.project_uuid,
        "model_uuid": fresh,
        "features_mapping": scene.features,
        "iteration_policy": "useAll",
    }
    work.add(f"{prefix}-attach", "attach", data, "created")
    for number, model_uuid in enumerate(doomed):
        work.add(
            f"{prefix}-delete-{number}", "delete_model", {"model_uuid": model_uuid}, "succeeded"
        )
    for number in range(6):
        data = {"model_uuid": scene.model_uuid}
        work.add(f"{prefix}-get-{number}", "get_model", data, "succeeded")
    work.bad = [f"bad {prefix} {number}".encode() for number in range(BAD)]
    return work


def _submit_by_celery(fleet: Fleet, scene: Scene, prefix: str, work: Workload) -> int:
    app = Celery("producer", broker=fleet.redis.url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": "{trainmaster}:"}
    command = {
        "id": f"{prefix}-celery",
        "type": "get_model",
        "data": {"model_uuid": scene.model_uuid},
    }
    app.send_task("trainmaster.submit", [command])
    app.close()
    work.expected[f"{prefix}-celery"] = "succeeded"
    return 1


def _reached(fleet: Fleet, failing: WorkerProcess, place: str, action: Action) -> bool:
    """Waits until the failpoint has struck; False if it never did."""
    mark = f"failpoint {place}: {action}"

    def struck() -> bool:
        return mark in failing.log.read_text("utf-8", "replace")

    try:
        wait_until(struck, READY_SECONDS, f"{place} was reached")
    except AssertionError:
        return False
    if action == "kill":
        wait_until(lambda: not failing.alive, READY_SECONDS, "the worker is dead")
    if action == "stop":
        time.sleep(PAST_LEASE_SECONDS)
    assert fleet.client.ping()
    return True


def _newest(fleet: Fleet) -> str:
    found = entries(fleet.client, EVENTS)
    return f"({found[-1][0].decode()}" if found else "-"


def _doubled_trainings(truth: dict[str, Any], audit: Audit) -> int:
    """Returns how many trainings belong to two commands, or to none that could have found it."""
    owners: dict[str, set[str]] = {}
    for command_id, events in audit.events.items():
        for event in events:
            if uuid := event["data"].get("training_uuid"):
                owners.setdefault(uuid, set()).add(command_id)
    twice = sum(len(ids) - 1 for ids in owners.values())
    models = {one["model_uuid"] for one in truth["trainings"] if one["training_uuid"] in owners}
    made = [one for one in truth["trainings"] if one["model_uuid"] in models]
    kinds = [(one["model_uuid"], one["epochs"]) for one in made]
    return twice + len(kinds) - len(set(kinds))
