"""Clocks and long pauses: Redis' clock goes back, a worker's is fast, the API asks for a day."""

from __future__ import annotations

import random
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from tests.console import SCRIPT
from tests.faults.audit import ENDS, EVENTS, Audit, Report, entries, report, state
from tests.faults.fleet import Fleet, bar, wait_until
from tests.faults.lying_proxy import Answer, LyingProxy
from tests.faults.workload import Scene, Workload, doubled_titles, mixed
from tests.moved_clock import make_clock, moved_machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

HOUR = 3600
DAY = 86_400
HOLD = "{trainmaster}:hold"
# Longer than any pause that a worker makes when nothing holds it.
SOON_SECONDS = 10.0
# The default of the longest wait that the API can ask for.
LONGEST_HOLD_SECONDS = 300.0
# Until commands may begin that are sent for later.
WAIT_SECONDS = 8
LATENCY: dict[str, Any] = {"operation": "*", "effect": "latency", "seconds": 0.1}


def long_retry_after(folder: Path, seed: int, commands: int) -> Report:
    """Answers four workers 429 with a day of `Retry-After`; then a person lifts the hold."""
    with _watched_fleet(folder, 4) as (fleet, passed):
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
        audit.update()
        ended, sent = audit.ended(), [each.requests for each in passed]
        lifted = _release(fleet)
        begun = time.monotonic()
        _until(audit, ended + 1, 240)
        back_after = time.monotonic() - begun
        audit.settle(commands)
        idle = sum(each.requests == before for each, before in zip(passed, sent, strict=True))
        return report(
            f"Retry-After of a day, lifted[seed {seed}]",
            audit,
            work.expected,
            faults=4,
            wrong=sum((
                within,
                not 0 < longest <= LONGEST_HOLD_SECONDS,
                lifted != 0,
                back_after > bar(SOON_SECONDS),
                idle,
                not 0 < max(_pauses(audit), default=0) <= LONGEST_HOLD_SECONDS,
            )),
            details={
                "held for": f"{longest:.0f} s",
                "calls within it": within,
                "back after": f"{back_after:.1f} s",
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
        audit.settle(commands)
        return report(
            f"Redis' clock an hour back[seed {seed}]",
            audit,
            work.expected,
            faults=1,
            doubled=doubled_titles(fleet.sandbox.truth()["created"]["models"], "c "),
            wrong=(back_after > bar(SOON_SECONDS)) + ("redis.clock_went_back" not in fleet.logs()),
            details={"ended before": before, "40 more after": f"{back_after:.1f} s"},
        )


def fast_clock(folder: Path, seed: int, commands: int) -> Report:
    """Runs one of two workers on a machine whose clock is an hour fast.

    No deadline fails, nothing begins before its time, and every event tells Redis' time.
    """
    machine = moved_machine(folder / "machine", HOUR)
    with _watched_fleet(folder, 2, machine) as (fleet, passed):
        scene = Scene.prepare(fleet)
        fleet.sandbox.faults(LATENCY)
        fleet.wait_ready()
        now = datetime.now(UTC)
        deadline, begin = now + timedelta(minutes=10), now + timedelta(seconds=WAIT_SECONDS)
        work = _reads(scene, commands, deadline=deadline.isoformat())
        later = _reads(scene, commands // 10, prefix="later", notbefore=begin.isoformat())
        work.texts |= later.texts
        work.expected |= later.expected
        sent = [each.requests for each in passed]
        audit = Audit(fleet)
        work.send(fleet.client, shuffle=random.Random(seed))
        audit.settle(len(work.expected))
        late = sum(state(end) == "failed" for each in work.expected for end in audit.ends(each))
        shares = [each.requests - before for each, before in zip(passed, sent, strict=True)]
        told = fleet.workers[0].log.read_text("utf-8", "replace")
        early, mistimed = _misjudged(fleet, begin)
        return report(
            f"one of two clocks an hour fast[seed {seed}]",
            audit,
            work.expected,
            faults=1,
            wrong=(not all(shares)) + ('"clock.differs"' not in told) + early + mistimed,
            details={"failed": late, "calls of each worker": shares, "too early": early},
        )


@dataclass
class _Passed:
    """Lets every reply be, and counts the requests."""

    requests: int = 0

    def __call__(self, _: bytes, reply: bytes) -> Answer:
        self.requests += 1
        return Answer(reply)


@contextmanager
def _watched_fleet(
    folder: Path, size: int, first_machine: Mapping[str, str] | None = None
) -> Iterator[tuple[Fleet, list[_Passed]]]:
    """Runs workers each of which has its own way to the API, where its requests are counted."""
    passed = [_Passed() for _ in range(size)]
    with ExitStack() as stack, Fleet(folder, 0, first_machine=first_machine or {}) as fleet:
        port = int(fleet.sandbox.told["domain"].rpartition(":")[2])
        for each in passed:
            proxy = stack.enter_context(LyingProxy(port, each))
            # Few places, so that none of them can take all there is.
            fleet.settings = {"TRAINMASTER_CONCURRENCY": "4", "ENCORD_DOMAIN": proxy.url}
            fleet.add_workers(1)
        yield fleet, passed


def _pauses(audit: Audit) -> list[float]:
    """Returns for how many seconds each attempt that failed was put off."""
    return [
        (datetime.fromisoformat(event["data"]["retry_at"]) - datetime.fromisoformat(event["time"]))
        / timedelta(seconds=1)
        for events in audit.events.values()
        for event in events
        if state(event) == "retrying"
    ]


def _misjudged(fleet: Fleet, begin: datetime) -> tuple[int, int]:
    """Returns how many commands ended before their time, and how many events tell another time."""
    early = mistimed = 0
    for entry_id, fields in entries(fleet.client, EVENTS):
        event = orjson.loads(fields[b"event"])
        added = int(entry_id.partition(b"-")[0]) / 1000
        told = datetime.fromisoformat(event["time"]).timestamp()
        mistimed += abs(told - added) > HOUR / 2
        is_early = state(event) in ENDS and added < begin.timestamp()
        early += is_early and event["subject"].startswith("later-")
    return early, mistimed


def _reads(scene: Scene, commands: int, *, prefix: str = "c", **more: Any) -> Workload:
    work = Workload()
    for number in range(commands):
        data = {"model_uuid": scene.model_uuid}
        work.add(f"{prefix}-{number}", "get_model", data, "succeeded", **more)
    return work


def _calls(fleet: Fleet) -> int:
    return int(fleet.sandbox.truth(created="false")["total"])


def _release(fleet: Fleet) -> int:
    """Lifts all holds as a person does; returns the exit code."""
    environment = {"TRAINMASTER_REDIS_URL": fleet.redis.url}
    return subprocess.run([SCRIPT, "holds", "release"], env=environment, check=False).returncode


def _until(audit: Audit, ended: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while audit.ended() < ended and time.monotonic() < end:
        time.sleep(0.05)
        audit.update()
