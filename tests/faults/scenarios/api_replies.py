"""Replies that mislead: those that nobody asked for, and statuses that prove nothing."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.faults.audit import Audit, Report, report, state
from tests.faults.fleet import Fleet, Repeater
from tests.faults.lying_proxy import Answer, LyingProxy
from tests.faults.scenarios.trainings import DOUBT_SECONDS, TRAINING_SECONDS
from tests.faults.workload import ARCHITECTURE, Scene, Workload, doubled_titles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ODD_STATUSES = (101, 301, 308, 499, 600, 999)
MODELS = 40
# Some come with the answer, some while the connection waits, some with the next request.
_DELAYS = (0.0, 0.0005, 0.002, 0.01)


class UnaskedReplies:
    """Sends, behind some replies, what another request was answered with."""

    def __init__(self, rng: random.Random, share: float) -> None:
        self._rng = rng
        self._share = share
        self._told: list[bytes] = []
        self.times = 0

    def __call__(self, request: bytes, reply: bytes) -> Answer:
        if request.startswith(b"GET ") and b'"modelGroup"' in reply:
            self._told = [*self._told[-MODELS:], reply]
        if not self._told or self._rng.random() >= self._share:
            return Answer(reply)
        self.times += 1
        lie = self._rng.choice(self._told)
        delay = self._rng.choice(_DELAYS)
        return Answer(reply + lie) if not delay else Answer(reply, lie, delay)


class OddStatuses:
    """Gives some answers to creations another status; what they say was done."""

    def __init__(self, rng: random.Random, share: float) -> None:
        self._rng = rng
        self._share = share
        self.times = 0

    def __call__(self, request: bytes, reply: bytes) -> Answer:
        is_creation = request.startswith(b"POST ") and b"/predict" not in request.split(b"\r\n")[0]
        if not is_creation or self._rng.random() >= self._share:
            return Answer(reply)
        self.times += 1
        status = self._rng.choice(ODD_STATUSES)
        _, _, rest = reply.partition(b"\r\n")
        place = b"location: https://elsewhere.example/\r\n" if 300 <= status < 400 else b""
        return Answer(b"HTTP/1.1 %d Odd\r\n%s%s" % (status, place, rest))


def unasked_replies(
    folder: Path,
    seed: int,
    count: int,
    *,
    kill_every_seconds: float = 4.0,
    seconds: float = 240,
) -> Report:
    """Reads many different models while kept connections bring answers nobody asked for.

    Args:
        folder: for everything that the scenario leaves.
        seed: of lies and kills.
        count: commands.
        kill_every_seconds: between two kills of a worker.
        seconds: when to give up.
    """
    rng = random.Random(seed)
    lie = UnaskedReplies(random.Random(seed), 0.3)
    with Fleet(folder, 0) as fleet, _proxy(fleet, lie) as proxy:
        # Few connections, so that each carries many requests.
        _start(fleet, proxy, TRAINMASTER_CONCURRENCY="4")
        models = [fleet.sandbox.create_model(ARCHITECTURE) for _ in range(MODELS)]
        work = Workload()
        asked: dict[str, str] = {}
        for number in range(count):
            asked[f"g-{number}"] = rng.choice(models)
            data = {"model_uuid": asked[f"g-{number}"]}
            work.add(f"g-{number}", "get_model", data, "succeeded")
        audit, kills = _run(fleet, work, rng, kill_every_seconds, seconds)
        anothers = sum(
            end["data"]["result"]["model_group"]["model_uuid"] != asked[command_id]
            for command_id in asked
            for end in audit.ends(command_id)
            if state(end) == "succeeded"
        )
        return report(
            f"unasked replies[seed {seed}]",
            audit,
            work.expected,
            faults=lie.times + kills,
            wrong=anothers,
            details={"lies": lie.times, "kills": kills, "another's answer": anothers},
        )


def odd_statuses(
    folder: Path,
    seed: int,
    count: int,
    *,
    kill_every_seconds: float = 4.0,
    seconds: float = 400,
) -> Report:
    """Creates models, trainings and attachments, and answers a third of them with odd statuses.

    Args:
        folder: for everything that the scenario leaves.
        seed: of statuses and kills.
        count: creations of each kind.
        kill_every_seconds: between two kills of a worker.
        seconds: when to give up.
    """
    rng = random.Random(seed)
    lie = OddStatuses(random.Random(seed), 0.33)
    with Fleet(folder, 0) as fleet, _proxy(fleet, lie) as proxy:
        scene = Scene.prepare(fleet)
        simulated = {"effect": "training", "training": "simulated", "seconds": TRAINING_SECONDS}
        fleet.sandbox.faults(
            {"operation": "create_training_job", **simulated},
            {"operation": "*", "effect": "running_trainings", "shown": "listed"},
        )
        _start(fleet, proxy)
        work = _creations(fleet, scene, count)
        audit, kills = _run(fleet, work, rng, kill_every_seconds, seconds)
        made = fleet.sandbox.truth()["created"]
        doubled, orphans = _judge(audit, work, made)
        unknown = sum(
            state(end) == "failed" for command_id in work.expected for end in audit.ends(command_id)
        )
        return report(
            f"odd statuses[seed {seed}]",
            audit,
            work.expected,
            faults=lie.times + kills,
            doubled=doubled,
            wrong=orphans,
            details={"odd": lie.times, "kills": kills, "failed": unknown, "orphans": orphans},
        )


def _proxy(fleet: Fleet, lie: Callable[[bytes, bytes], Answer]) -> LyingProxy:
    return LyingProxy(int(fleet.sandbox.told["domain"].rpartition(":")[2]), lie)


def _start(fleet: Fleet, proxy: LyingProxy, **settings: str) -> None:
    fleet.settings = {"ENCORD_DOMAIN": proxy.url, **settings}
    fleet.add_workers(3)
    fleet.wait_ready()


def _run(
    fleet: Fleet, work: Workload, rng: random.Random, kill_every_seconds: float, seconds: float
) -> tuple[Audit, int]:
    """Sends everything and kills workers until all has ended; returns how often."""
    work.send(fleet.client, shuffle=rng)
    audit = Audit(fleet)
    killer = Repeater(lambda: rng.choice(fleet.workers).kill(), kill_every_seconds)
    repeaters = (killer, Repeater(fleet.revive, 0.5), Repeater(audit.update, 0.5))
    begun = time.monotonic()
    while audit.ended() < len(work.expected) and time.monotonic() - begun < seconds:
        for repeater in repeaters:
            repeater.tick()
        time.sleep(0.05)
    audit.settle(len(work.expected), Repeater(fleet.revive, 0.5))
    return audit, killer.times


def _creations(fleet: Fleet, scene: Scene, count: int) -> Workload:
    work = Workload()
    data: dict[str, Any]
    features = list(scene.features)
    for number in range(count):
        data = {"features": features, "model": ARCHITECTURE, "title": f"odd {number}"}
        work.add(f"m-{number}", "create_model", data, "created")
        # Each of a model of its own, so that whatever is made belongs to one command.
        model_uuid = fleet.sandbox.create_model(ARCHITECTURE)
        data = scene.training(model_uuid, epochs=1, timeout_seconds=DOUBT_SECONDS)
        work.add(f"t-{number}", "train", data, "created")
        data = {
            "project_uuid": scene.project_uuid,
            "model_uuid": model_uuid,
            "features_mapping": scene.features,
            "iteration_policy": "useAll",
        }
        work.add(f"a-{number}", "attach", data, "created")
    return work


def _judge(audit: Audit, work: Workload, made: dict[str, Any]) -> tuple[int, int]:
    """Returns how much was made more than once, and how much belongs to no command."""
    doubled = doubled_titles(made["models"], "odd ")
    for kind in ("trainings", "attachments"):
        per_model = Counter(each["model_uuid"] for each in made[kind])
        doubled += sum(times - 1 for times in per_model.values())
    told = {
        text
        for command_id in work.expected
        for event in audit.events[command_id]
        for text in _texts(event["data"])
    }
    mine = [each["model_uuid"] for each in made["models"] if each["title"].startswith("odd ")]
    mine += [each["training_uuid"] for each in made["trainings"]]
    mine += [each["project_model_uuid"] for each in made["attachments"]]
    return doubled, sum(uuid not in told for uuid in mine)


def _texts(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for each in value.values() for text in _texts(each)]
        case list():
            return [text for each in value for text in _texts(each)]
    return []
