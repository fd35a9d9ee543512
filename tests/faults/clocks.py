"""Clocks and long pauses: Redis' clock goes back, a worker's is fast, the API asks for a day."""

from __future__ import annotations

import random
import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.console import SCRIPT
from tests.faults.audit import Audit, Report, report, state
from tests.faults.fleet import Fleet, wait_until
from tests.faults.workload import Scene, Workload, doubled_titles, mixed
from tests.moved_clock import make_clock, moved_machine

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600
DAY = 86_400
HOLD = "{trainmaster}:hold"
# Longer than any pause of a worker that nothing holds, however busy the machine is.
SOON_SECONDS = 60.0
LATENCY: dict[str, Any] = {"operation": "*", "effect": "latency", "seconds": 0.1}


def long_retry_after(folder: Path, seed: int, commands: int) -> Report:
    """Answers four workers 429 with a day of `Retry-After`; then a person lifts the hold."""
    with Fleet(folder, 4, {"TRAINMASTER_PLACES": "4"}) as fleet:
        work = _reads(Scene.prepare(fleet), commands)
        limited: dict[str, Any] = {
            "operation": "get_model",
            "effect": "status",
            "status": 429,
            "headers": {"Retry-After": str(DAY)},
            "after": commands // 4,
            "count": 4,
        }
        fleet.sandbox.faults(limited, LATENCY)
        fleet.wait_ready()
        audit = Audit(fleet)
        work.send(fleet.client, shuffle=random.Random(seed))
        wait_until(lambda: bool(fleet.client.exists(HOLD)), 120, "the fleet is held")
        # What was under way may end.
        time.sleep(2)
        before = _calls(fleet)
        time.sleep(3)
        within = _calls(fleet) - before
        longest = fleet.client.pttl(HOLD) / 1000
        fleet.sandbox.faults(LATENCY)
        lifted = _release(fleet)
        begun = time.monotonic()
        _until(audit, commands, 240)
        rest = commands - audit.ended()
        took = time.monotonic() - begun
        workers = sum('"command.succeeded"' in _since(worker.log) for worker in fleet.workers)
        return report(
            f"Retry-After of a day, lifted[seed {seed}]",
            audit,
            work.expected,
            faults=4,
            wrong=within + (longest > 300) + (lifted != 0) + (workers < 4),
            details={
                "held for": f"{longest:.0f} s",
                "calls within it": within,
                "all ended after": f"{took:.1f} s",
                "not ended": rest,
            },
        )


def clock_back(folder: Path, seed: int, commands: int) -> Report:
    """Sets Redis' clock an hour back under load, with a rate limit; work goes on."""
    rng = random.Random(seed)
    clock = make_clock(folder / "clock")
    settings = {
        "TRAINMASTER_REQUESTS_PER_SECOND": "60",
        "TRAINMASTER_CONCURRENT_REQUESTS": "16",
    }
    with Fleet(folder, 2, settings, redis_server=clock.server) as fleet:
        work = mixed(Scene.prepare(fleet), commands, rng)
        fleet.sandbox.faults(LATENCY)
        fleet.wait_ready()
        audit = Audit(fleet)
        work.send(fleet.client, shuffle=rng)
        _until(audit, commands // 4, 240)
        clock.move(-HOUR)
        before, begun = audit.ended(), time.monotonic()
        # More than may have been under way.
        _until(audit, before + 40, 240)
        back_after = time.monotonic() - begun
        _until(audit, commands, 240)
        return report(
            f"Redis' clock an hour back[seed {seed}]",
            audit,
            work.expected,
            faults=1,
            doubled=doubled_titles(fleet.sandbox.truth()["created"]["models"], "c "),
            wrong=(back_after > SOON_SECONDS) + ("redis.clock_went_back" not in fleet.logs()),
            details={"ended before": before, "40 more after": f"{back_after:.1f} s"},
        )


def fast_clock(folder: Path, seed: int, commands: int) -> Report:
    """Runs one of two workers on a machine whose clock is an hour fast; no deadline fails."""
    machine = moved_machine(folder / "machine", HOUR)
    # Few places, so that neither worker can take all there is.
    with Fleet(folder, 2, {"TRAINMASTER_PLACES": "4"}, first_machine=machine) as fleet:
        deadline = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
        work = _reads(Scene.prepare(fleet), commands, deadline=deadline)
        fleet.sandbox.faults(LATENCY)
        fleet.wait_ready()
        audit = Audit(fleet)
        work.send(fleet.client, shuffle=random.Random(seed))
        _until(audit, commands, 240)
        late = sum(state(end) == "failed" for each in work.expected for end in audit.ends(each))
        logs = [worker.log.read_text("utf-8", "replace") for worker in fleet.workers]
        shares = [log.count('"command.succeeded"') for log in logs]
        return report(
            f"one of two clocks an hour fast[seed {seed}]",
            audit,
            work.expected,
            faults=1,
            wrong=(not all(shares)) + ('"clock.differs"' not in logs[0]),
            details={"failed": late, "by each worker": shares},
        )


def _reads(scene: Scene, commands: int, **more: Any) -> Workload:
    work = Workload()
    for number in range(commands):
        data = {"model_uuid": scene.model_uuid}
        work.add(f"c-{number}", "get_model", data, "succeeded", **more)
    return work


def _calls(fleet: Fleet) -> int:
    return int(fleet.sandbox.truth(created="false")["total"])


def _release(fleet: Fleet) -> int:
    """Lifts all holds as a person does; returns the exit code."""
    environment = {"TRAINMASTER_REDIS_URL": fleet.redis.url}
    return subprocess.run([SCRIPT, "holds", "release"], env=environment, check=False).returncode


def _since(log: Path) -> str:
    """Returns what a worker logged after it was held."""
    return log.read_text("utf-8", "replace").rpartition('"limits.held"')[2]


def _until(audit: Audit, ended: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while audit.ended() < ended and time.monotonic() < end:
        time.sleep(0.05)
        audit.update()
