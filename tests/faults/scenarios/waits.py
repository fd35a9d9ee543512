"""Waits: thousands of trainings that run for days, on a clock that is compressed."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.audit import Audit, Report, report, state
from tests.faults.fleet import Fleet, Repeater
from tests.faults.workload import ARCHITECTURE, Scene, Workload

if TYPE_CHECKING:
    from tests.faults.fleet import WorkerProcess

WAVE = 500
WEEK_SECONDS = 7 * 24 * 3600
# With polls this far apart two workers keep up with 10,000 trainings on two cores.
POLL_SECONDS = (10, 20)


def waiting_trainings(
    folder: Path, seed: int, count: int, week_seconds: float, *, kill_every_seconds: float = 20
) -> Report:
    """Waits for trainings that end all along a week of `week_seconds`, while workers die.

    Args:
        folder: for everything that the scenario leaves.
        seed: of the kills.
        count: trainings.
        week_seconds: how long the longest training takes.
        kill_every_seconds: between two kills; one worker is spared, to see its memory.
    """
    rng = random.Random(seed)
    settings = {
        "TRAINMASTER_POLL_MIN_SECONDS": str(POLL_SECONDS[0]),
        "TRAINMASTER_POLL_MAX_SECONDS": str(POLL_SECONDS[1]),
        "TRAINMASTER_LEASE_SECONDS": "5",
    }
    with Fleet(folder, 2, settings) as fleet:
        scene = Scene.prepare(fleet)
        fleet.wait_ready()
        spared, victim = fleet.workers
        audit = Audit(fleet)
        killer = Repeater(victim.kill, kill_every_seconds)
        keepers = (killer, Repeater(fleet.revive, 0.5), Repeater(audit.update, 1.0))
        work = Workload()
        takes: dict[str, float] = {}
        size = min(count, WAVE)
        waves = count // size
        begun = time.monotonic()
        for wave in range(waves):
            seconds = week_seconds * (wave + 1) / waves
            longest = int(week_seconds) + 30
            takes |= _send_wave(fleet, scene, work, (wave, size), (seconds, longest), rng)
            _wait(lambda: _sent(audit) >= len(work.expected), keepers, 120)
        memory = [_resident_mib(spared)]
        polls_before = _polls(fleet)
        waiting = time.monotonic()
        _wait(lambda: audit.ended() >= len(work.expected), keepers, week_seconds + 240)
        seconds_waited = time.monotonic() - waiting
        memory.append(_resident_mib(spared))
        polls = _polls(fleet) - polls_before
        time.sleep(1)
        audit.update()
        late = _lateness(fleet, audit, takes)
        codes = [
            end["data"]["error"]["code"]
            for command_id in work.expected
            for end in audit.ends(command_id)
            if state(end) == "failed"
        ]
        made = fleet.sandbox.truth()["created"]["trainings"]
        kinds = Counter((one["model_uuid"], one["epochs"]) for one in made)
        return report(
            f"{count} waiting trainings, a week in {week_seconds:.0f} s[seed {seed}]",
            audit,
            work.expected,
            faults=killer.times,
            doubled=kinds.total() - len(kinds),
            wrong=sum(code != "outcome_unknown" for code in codes),
            details={
                "outcome_unknown": len(codes),
                "polls a second": round(polls / seconds_waited),
                "late p50": f"{statistics.median(late):.1f} s",
                "late p99": f"{_percentile(late, 99):.1f} s",
                "resident": f"{memory[0]:.0f} then {memory[1]:.0f} MiB",
                "seconds": round(time.monotonic() - begun),
            },
        )


def _send_wave(
    fleet: Fleet,
    scene: Scene,
    work: Workload,
    wave: tuple[int, int],
    times: tuple[float, int],
    rng: random.Random,
) -> dict[str, float]:
    number_of_wave, size = wave
    seconds, longest = times
    fleet.sandbox.faults({
        "operation": "create_training_job",
        "effect": "training",
        "training": "simulated",
        "seconds": seconds,
    })
    model_uuid = fleet.sandbox.create_model(ARCHITECTURE)
    part = Workload()
    for number in range(size):
        # Epochs tell them apart: nothing here is about identical trainings.
        data: dict[str, Any] = scene.training(
            model_uuid, epochs=number + 1, timeout_seconds=longest
        )
        part.add(f"w-{number_of_wave}-{number}", "train", data, "created")
    part.send(fleet.client, shuffle=rng)
    work.expected |= part.expected
    return dict.fromkeys(part.expected, seconds)


def _sent(audit: Audit) -> int:
    """Returns how many trainings were sent; of some nobody knows whether they exist."""
    return sum(
        any(state(event) in {"started", "in_doubt"} for event in events)
        for events in audit.events.values()
    )


def _wait(holds: Any, keepers: tuple[Repeater, ...], seconds: float) -> None:
    end = time.monotonic() + seconds
    look = Repeater(lambda: None, 0.5)
    while time.monotonic() < end:
        for keeper in keepers:
            keeper.tick()
        before = look.times
        look.tick()
        if look.times > before and holds():
            return
        time.sleep(0.05)


def _polls(fleet: Fleet) -> int:
    told = fleet.sandbox.truth(created="false")["calls"]
    return int(told.get("get_training_status", {}).get("total", 0))


def _lateness(fleet: Fleet, audit: Audit, takes: dict[str, float]) -> list[float]:
    """Returns how many seconds after a training's end its event came, for each command."""
    made = {
        one["training_uuid"]: datetime.fromisoformat(one["created_at"])
        for one in fleet.sandbox.truth()["created"]["trainings"]
    }
    late = []
    for command_id, seconds in takes.items():
        for event in audit.ends(command_id):
            uuid = (event["data"].get("result") or {}).get("training_uuid")
            if uuid in made:
                over = made[uuid] + timedelta(seconds=seconds)
                late.append((datetime.fromisoformat(event["time"]) - over).total_seconds())
    return sorted(late) or [0.0]


def _percentile(values: list[float], share: int) -> float:
    return values[min(len(values) - 1, len(values) * share // 100)]


def _resident_mib(worker: WorkerProcess) -> float:
    pages = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1024 / 1024
