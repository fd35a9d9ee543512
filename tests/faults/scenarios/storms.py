"""Storms: a load of commands while processes are killed again and again."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tests.faults.audit import Audit, Report, report
from tests.faults.fleet import Fleet, Repeater
from tests.faults.workload import Scene, bad_messages, made_twice, mixed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.fleet import WorkerProcess


def crashes(
    folder: Path,
    seed: int,
    commands: int,
    bad: int,
    *,
    workers: int = 3,
    kill_every_seconds: float = 2.0,
    redis_every_seconds: float = 0.0,
    poison: int = 0,
    seconds: float = 300,
) -> Report:
    """Kills a worker every so often, and Redis if asked for, until every command has ended.

    Args:
        folder: for everything that the scenario leaves.
        seed: of the commands and of whom it hits.
        commands: good ones, poison not counted.
        bad: messages that are none.
        workers: processes.
        kill_every_seconds: between two kills of a worker.
        redis_every_seconds: between two kills of Redis; 0 for none.
        poison: commands at which their worker dies, each time.
        seconds: when to give up.
    """
    rng = random.Random(seed)
    settings = (
        {"FAILPOINT": "run.before/poison-:kill:0", "TRAINMASTER_MAX_CLAIMS": "5"} if poison else {}
    )
    with Fleet(folder, workers, settings) as fleet:
        scene = Scene.prepare(fleet)
        work = mixed(scene, commands, rng)
        for number in range(poison):
            data = {"model_uuid": scene.model_uuid}
            work.add(f"poison-{number}", "get_model", data, "failed")
        work.bad = bad_messages(bad, rng)
        fleet.wait_ready()
        victims = list(fleet.workers)
        audit = Audit(fleet)
        killed: list[WorkerProcess] = []
        worker_kills, redis_kills = _InStep(), _InStep()

        def kill_one() -> None:
            # One that is still starting holds nothing yet, and must come to it on a busy machine.
            ready = [worker for worker in victims if worker.ready]
            if ready and worker_kills.are_due(audit.ended()):
                killed.append(rng.choice(ready))
                _restart(killed[-1])

        def kill_redis() -> None:
            if redis_kills.are_due(audit.ended()):
                fleet.redis.kill()
                fleet.redis.start()

        work.send(fleet.client, shuffle=rng)
        begun = time.monotonic()
        killer = Repeater(kill_one, kill_every_seconds)
        reviver = Repeater(fleet.revive, 0.5)
        redis_killer = Repeater(kill_redis, redis_every_seconds or 1e6)
        reader = Repeater(audit.update, 0.5)
        while not _done(audit, len(work.expected), bad) and time.monotonic() - begun < seconds:
            for repeater in (killer, reviver, redis_killer, reader):
                repeater.tick()
            time.sleep(0.05)
        took = time.monotonic() - begun
        audit.settle(len(work.expected), reviver, rejections=bad)
        twice = made_twice(fleet.sandbox.truth()["created"]["models"], "c ")
        dead = audit.dead_letters()
        poisoned = sum(1 for letter in dead if letter["error"]["code"] == "poison")
        unknown = sum(1 for letter in dead if letter["error"]["code"] == "outcome_unknown")
        letters = sum(1 for letter in dead if letter["id"].startswith(("c-", "poison-")))
        failed = sum(
            1
            for command_id in work.expected
            for event in audit.ends(command_id)
            if event["type"].endswith(".failed")
        )
        return report(
            f"crashes[seed {seed}]",
            audit,
            work.expected,
            faults=len(killed) + redis_kills.times,
            rejections=bad,
            doubled=len(twice),
            wrong=abs(poisoned - poison) + abs(letters - failed),
            odd=twice,
            details={
                "rejected": len(audit.rejected),
                "poisoned": poisoned,
                "outcome_unknown": unknown,
                "starts": sum(worker.starts for worker in fleet.workers),
                "redis_kills": redis_kills.times,
                "seconds": round(took),
            },
        )


class _InStep:
    """Lets something be killed again only once commands have ended since.

    A machine on which nothing comes to an end between two kills would show nothing.

    Attributes:
        times: that it was let.
    """

    def __init__(self) -> None:
        self.times = 0
        self._ended = -1

    def are_due(self, ended: int) -> bool:
        if ended <= self._ended:
            return False
        self._ended = ended
        self.times += 1
        return True


def _restart(worker: WorkerProcess) -> None:
    worker.kill()
    worker.start()


def _done(audit: Audit, commands: int, bad: int) -> bool:
    return audit.ended() >= commands and len(audit.rejected) >= bad
