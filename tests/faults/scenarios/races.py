"""Races: cancels against completions, stops under load, four workers against one rate limit."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from tests.faults.audit import Audit, Report, report, state
from tests.faults.fleet import READY_SECONDS, Fleet, bar, wait_until
from tests.faults.workload import Scene, Workload, doubled_titles, mixed
from worker.queue.ledger.cancellation import CancelStatus, cancel
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_STOP_SECONDS = 10.0
DAY = 86_400
HOLD = "{trainmaster}:hold"


def cancels(folder: Path, seed: int, commands: int) -> Report:
    """Cancels every command at about the time at which it ends."""
    rng = random.Random(seed)
    with Fleet(folder, 2) as fleet:
        scene = Scene.prepare(fleet)
        fleet.sandbox.faults({"operation": "*", "effect": "latency", "seconds": 0.05})
        fleet.wait_ready()
        work = Workload()
        for number in range(commands):
            work.add(f"c-{number}", "get_model", {"model_uuid": scene.model_uuid}, "any")
        audit = Audit(fleet)
        verdicts: dict[str, CancelStatus] = {}
        ids = list(work.texts)
        # The last cancellations must come after the first ends, however busy the machine is.
        within = max(0.25, 2 * _time_of_one(fleet, audit, scene, work))
        for start in range(0, commands, 50):
            wave = ids[start : start + 50]
            Workload({command_id: work.texts[command_id] for command_id in wave}).send(fleet.client)
            verdicts |= asyncio.run(_cancel_all(fleet.redis.url, wave, within, rng))
        audit.settle(len(work.expected))
        wrong = sum(
            (verdicts[command_id] is CancelStatus.CANCELLED) != (state(end_event) == "cancelled")
            for command_id in ids
            for end_event in audit.ends(command_id)
        )
        won = sum(verdict is CancelStatus.CANCELLED for verdict in verdicts.values())
        return report(
            f"cancel against completion[seed {seed}]",
            audit,
            work.expected,
            faults=commands,
            # A race that one side always wins is none.
            wrong=wrong + (not 0 < won < commands),
            details={"cancelled": won},
        )


def _time_of_one(fleet: Fleet, audit: Audit, scene: Scene, work: Workload) -> float:
    """Runs one command more; returns the seconds from its sending to its end."""
    first = Workload()
    first.add("first", "get_model", {"model_uuid": scene.model_uuid}, "succeeded")
    work.expected |= first.expected
    begun = time.monotonic()
    first.send(fleet.client)

    def has_ended() -> bool:
        audit.update()
        return bool(audit.ends("first"))

    wait_until(has_ended, 120, "the first command has ended")
    return time.monotonic() - begun


async def _cancel_all(
    url: str, ids: list[str], within: float, rng: random.Random
) -> dict[str, CancelStatus]:
    redis = connect(url)

    async def one(command_id: str, delay: float) -> tuple[str, CancelStatus]:
        await asyncio.sleep(delay)
        while True:
            outcome = await cancel(
                redis,
                Keys("trainmaster"),
                command_id,
                retention_seconds=7 * DAY,
                reply_retention_seconds=DAY,
            )
            if outcome.status is not CancelStatus.UNKNOWN_ID:
                return command_id, outcome.status
            await asyncio.sleep(0.002)

    try:
        found = await asyncio.gather(*(one(each, rng.uniform(0, within)) for each in ids))
    finally:
        await redis.aclose()
    return dict(found)


def stops(folder: Path, seed: int, commands: int, times: int) -> Report:
    """Asks workers to stop again and again under load; each is started anew at once."""
    rng = random.Random(seed)
    with Fleet(folder, 2) as fleet:
        scene = Scene.prepare(fleet)
        work = mixed(scene, commands, rng)
        fleet.sandbox.faults({"operation": "*", "effect": "latency", "seconds": 0.5})
        fleet.wait_ready()
        audit = Audit(fleet)
        codes, took = [], []
        texts = list(work.texts.items())
        for number in range(times):
            part = dict(texts[len(texts) * number // times : len(texts) * (number + 1) // times])
            Workload(part).send(fleet.client)
            worker = fleet.workers[number % 2]
            wait_until(lambda: worker.ready, READY_SECONDS, "the worker is ready")  # noqa: B023 - used at once
            time.sleep(rng.uniform(0, 0.8))
            code, seconds = worker.terminate()
            codes.append(code)
            took.append(seconds)
            worker.start()
        audit.settle(commands)
        models = fleet.sandbox.truth()["created"]["models"]
        return report(
            f"SIGTERM under load[seed {seed}]",
            audit,
            work.expected,
            faults=times,
            doubled=doubled_titles(models, "c "),
            wrong=sum(map(bool, codes)) + (max(took) > bar(LONGEST_STOP_SECONDS)),
            details={"longest stop": f"{max(took):.1f} s", "exit codes": sorted(set(codes))},
        )


def rate_limit(folder: Path, seed: int, rate: int, seconds: float) -> Report:
    """Lets four workers share a rate; the sandbox counts what reaches it in any second."""
    commands = round(rate * seconds)
    with Fleet(folder, 4, {"TRAINMASTER_REQUESTS_PER_SECOND": str(rate)}) as fleet:
        scene = Scene.prepare(fleet)
        work = Workload()
        for number in range(commands):
            work.add(f"c-{number}", "get_model", {"model_uuid": scene.model_uuid}, "succeeded")
        fleet.wait_ready()
        fleet.sandbox.reset_truth()
        audit = Audit(fleet)
        work.send(fleet.client)
        audit.settle(commands)
        told = fleet.sandbox.truth()["rate"]
        most, mean = told["maximum_in_one_second"], told["mean_per_second"]
        return report(
            f"rate limit {rate}/s, 4 workers[seed {seed}]",
            audit,
            work.expected,
            faults=None,
            # A machine that is busy with other things can't use all of the rate.
            wrong=(most > rate) + (bar(mean) < 0.9 * rate),
            details={"most in a second": most, "mean": mean},
        )


def retry_after(folder: Path, seed: int, commands: int, seconds: int) -> Report:
    """Lets one answer say `Retry-After`; nothing of four workers may reach the API meanwhile."""
    with Fleet(folder, 4, {"TRAINMASTER_CONCURRENCY": "4"}) as fleet:
        scene = Scene.prepare(fleet)
        work = Workload()
        for number in range(commands):
            work.add(f"c-{number}", "get_model", {"model_uuid": scene.model_uuid}, "succeeded")
        limited = {
            "operation": "get_model",
            "effect": "status",
            "status": 429,
            "headers": {"Retry-After": str(seconds)},
            "after": commands // 4,
            "count": 1,
        }
        fleet.sandbox.faults(limited, {"operation": "*", "effect": "latency", "seconds": 0.1})
        fleet.wait_ready()
        audit = Audit(fleet)
        work.send(fleet.client, shuffle=random.Random(seed))
        wait_until(
            lambda: bool(fleet.client.exists(HOLD)), READY_SECONDS, "the API has asked for a pause"
        )
        # What was under way may end; each worker has four places.
        time.sleep(0.5)
        rest = fleet.client.pttl(HOLD) / 1000 - 0.5
        before = fleet.sandbox.truth(created="false")["total"]
        time.sleep(max(0.0, rest))
        within = fleet.sandbox.truth(created="false")["total"] - before
        audit.settle(commands)
        return report(
            f"Retry-After {seconds} s, 4 workers[seed {seed}]",
            audit,
            work.expected,
            faults=1,
            # A pause that was over before anybody looked has shown nothing.
            wrong=within + (rest <= 0),
            details={"calls within it": within},
        )
