"""Leases: workers that thaw too late, wake-ups that vanish, messages that come three times."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

from tests.faults.audit import Audit, Report, report
from tests.faults.fleet import QUICK, Fleet, Repeater, bar
from tests.faults.workload import Scene, doubled_titles, mixed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEASE_SECONDS = float(QUICK["TRAINMASTER_LEASE_SECONDS"])
PLACES = 32
# A busy machine may take long to do what the next step builds on.
PATIENCE_SECONDS = 60


def frozen(folder: Path, seed: int, commands: int, freezes: int, **settings: str) -> Report:
    """Freezes a worker in the middle of its runs until its leases are over, then lets it go on."""
    rng = random.Random(seed)
    # So few places that each worker has something to do.
    with Fleet(folder, 2, {"TRAINMASTER_CONCURRENCY": str(PLACES), **settings}) as fleet:
        scene = Scene.prepare(fleet)
        work = mixed(scene, commands, rng)
        # Answers take a while, so that there is always something in the middle.
        fleet.sandbox.faults({"operation": "*", "effect": "latency", "seconds": 1.0})
        fleet.wait_ready()
        work.send(fleet.client, shuffle=rng)
        audit = Audit(fleet)
        thawed = 0
        for _ in range(freezes):
            victim = rng.choice(fleet.workers)
            time.sleep(rng.uniform(0.3, 0.7))
            _see(lambda: _both_work(fleet))
            victim.send(signal.SIGSTOP)
            time.sleep(LEASE_SECONDS + 1.5)
            _see(lambda: _all_is_claimed(fleet))
            victim.send(signal.SIGCONT)
            thawed += victim.alive
        audit.settle(len(work.expected))
        fenced = fleet.logs().count('"run.fenced"') + fleet.logs().count('"run.lease_lost"')
        models = fleet.sandbox.truth()["created"]["models"]
        return report(
            f"frozen workers[seed {seed}]",
            audit,
            work.expected,
            faults=thawed,
            doubled=doubled_titles(models, "c "),
            # A worker that was frozen with nothing to do has shown nothing.
            wrong=int(fenced == 0),
            details={"fenced": fenced},
        )


def _see(holds: Callable[[], bool]) -> None:
    """Waits for what need not come: the work may be over before."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)


def _both_work(fleet: Fleet) -> bool:
    """Whether more calls are under way than one worker has places."""
    running: int = fleet.sandbox.truth(created="false")["concurrent"]["now"]
    return running > PLACES or not _is_due(fleet)


def _all_is_claimed(fleet: Fleet) -> bool:
    """Whether the other worker has taken all that was due, leases that are over included."""
    return not _is_due(fleet)


def _is_due(fleet: Fleet) -> bool:
    seconds, microseconds = fleet.client.time()
    now = seconds * 1000 + microseconds // 1000
    lanes = ("interactive", "bulk")
    return any(fleet.client.zcount(f"{{trainmaster}}:due:{lane}", 0, now) for lane in lanes)


def lost_wake_ups(folder: Path, seed: int, commands: int) -> Report:
    """Deletes every Celery message once: those that the workers send, and those in Redis."""
    rng = random.Random(seed)
    # Only a worker that is full calls the other one.
    settings = {"FAILPOINT": "wake.send:drop:0", "TRAINMASTER_CONCURRENCY": "2"}
    with Fleet(folder, 2, settings) as fleet:
        scene = Scene.prepare(fleet)
        work = mixed(scene, commands, rng)
        fleet.wait_ready()
        keys = [f"{{trainmaster}}:{name}" for name in ("wake", "unacked", "unacked_index")]
        eraser = Repeater(lambda: fleet.client.delete(*keys), 0.05)
        audit = Audit(fleet)
        begun = time.monotonic()
        work.send(fleet.client, shuffle=rng)
        longest = bar(LEASE_SECONDS + 10)
        while audit.ended() < len(work.expected) and time.monotonic() - begun < longest + 30:
            eraser.tick()
            time.sleep(0.02)
            audit.update()
        took = time.monotonic() - begun
        audit.settle(len(work.expected))
        dropped = fleet.logs().count("failpoint wake.send: drop")
        return report(
            f"lost wake-ups[seed {seed}]",
            audit,
            work.expected,
            faults=dropped + eraser.times,
            wrong=int(took > longest) + (not dropped),
            details={"seconds": round(took, 1), "bar": longest},
        )


def tripled(folder: Path, seed: int, commands: int) -> Report:
    """Sends every message three times to three workers."""
    rng = random.Random(seed)
    with Fleet(folder, 3) as fleet:
        scene = Scene.prepare(fleet)
        work = mixed(scene, commands, rng)
        fleet.wait_ready()
        work.send(fleet.client, times=3, shuffle=rng)
        audit = Audit(fleet)
        audit.settle(len(work.expected))
        models = fleet.sandbox.truth()["created"]["models"]
        return report(
            f"every message three times[seed {seed}]",
            audit,
            work.expected,
            faults=2 * commands,
            doubled=doubled_titles(models, "c "),
        )
