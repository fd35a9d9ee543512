"""Doubts that a person settles, while workers die: by what the API really holds, each once."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.faults.audit import Audit, Report, report, state
from tests.faults.fleet import Fleet, Repeater
from tests.faults.scenarios.trainings import owners_of_trainings, post_faults
from tests.faults.workload import ARCHITECTURE, COMMANDS, Scene, Workload

if TYPE_CHECKING:
    from pathlib import Path

# Nothing else ends a doubt here: no training is listed while it runs, and these run for an hour.
HOUR = 3600
# What a worker had sent when it died has arrived by then.
LOOK_SECONDS = 2.0
LOST_SHARE = 0.5


@dataclass
class Person:
    """Looks at the sandbox for what each command in doubt created, and says it by a command.

    Attributes:
        same: what tells the training of each command from all others.
        said: how often each command's doubt was settled.
    """

    fleet: Fleet
    audit: Audit
    work: Workload
    same: dict[str, tuple[str, int]]
    rng: random.Random
    said: Counter[str] = field(default_factory=Counter)
    _since: dict[tuple[str, int], float] = field(default_factory=dict)

    def look(self) -> None:
        """Settles every doubt that has lasted for a while."""
        self.audit.update()
        doubts = [(each, count) for each in self.same if (count := self._open_doubt(each))]
        if not doubts:
            return
        made = {
            (each["model_uuid"], each["epochs"]): each["training_uuid"]
            for each in self.fleet.sandbox.truth()["created"]["trainings"]
        }
        for command_id, count in doubts:
            begun = self._since.setdefault((command_id, count), time.monotonic())
            if time.monotonic() - begun < LOOK_SECONDS:
                continue
            uuid = made.get(self.same[command_id])
            self._say(command_id, count, uuid)

    def _open_doubt(self, command_id: str) -> int:
        """Returns which doubt of the command nobody has settled yet, 0 for none."""
        states = [state(event) for event in self.audit.events[command_id]]
        doubts = states.count("in_doubt")
        return doubts if doubts > self.said[command_id] and states[-1] == "in_doubt" else 0

    def _say(self, command_id: str, count: int, uuid: str | None) -> None:
        self.said[command_id] = count
        said: dict[str, Any] = {"not_created": True} if uuid is None else {"created": uuid}
        own_id = f"r-{command_id}-{count}"
        data = {"command_id": command_id, "by": "a person", **said}
        self.work.add(own_id, "resolve", data, "succeeded")
        # Sent twice at times, as by a person who is not sure.
        for _ in range(self.rng.choice((1, 1, 2))):
            self.fleet.client.xadd(
                COMMANDS, {"command": json.dumps({"id": own_id, "type": "resolve", "data": data})}
            )


def resolved_doubts(
    folder: Path, seed: int, count: int, *, kill_every_seconds: float = 3.0, seconds: float = 400
) -> Report:
    """Starts trainings of which half of the POSTs are lost, and settles each doubt.

    Args:
        folder: for everything that the scenario leaves.
        seed: of faults and kills.
        count: trainings, no two of them alike.
        kill_every_seconds: between two kills of a worker.
        seconds: when to give up.
    """
    rng = random.Random(seed)
    with Fleet(folder, 3) as fleet:
        scene = Scene.prepare(fleet)
        rules = post_faults(seed, LOST_SHARE, "hidden")
        fleet.sandbox.faults(*[
            {**rule, "seconds": HOUR} if rule.get("training") else rule for rule in rules
        ])
        work = Workload()
        same: dict[str, tuple[str, int]] = {}
        for number in range(count):
            model_uuid = (
                fleet.sandbox.create_model(ARCHITECTURE)
                if number % 10 == 0
                else same[f"t-{number - 1}"][0]
            )
            same[f"t-{number}"] = model_uuid, number % 10 + 1
            data = scene.training(model_uuid, epochs=number % 10 + 1, wait=False)
            work.add(f"t-{number}", "train", data, "succeeded")
        fleet.wait_ready()
        work.send(fleet.client, shuffle=rng)
        audit = Audit(fleet)
        person = Person(fleet, audit, work, same, rng)
        killer = Repeater(lambda: rng.choice(fleet.workers).kill(), kill_every_seconds)
        keepers = (Repeater(fleet.revive, 0.5), Repeater(person.look, 0.5))
        begun = time.monotonic()
        while audit.ended() < len(work.expected) and time.monotonic() - begun < seconds:
            for repeater in (killer, *keepers):
                repeater.tick()
            time.sleep(0.05)
        audit.settle(len(work.expected), *keepers)
        return _judged(f"doubts settled[seed {seed}]", audit, person, killer.times)


def _judged(name: str, audit: Audit, person: Person, kills: int) -> Report:
    made = person.fleet.sandbox.truth()["created"]["trainings"]
    per_kind = Counter((training["model_uuid"], training["epochs"]) for training in made)
    owners = owners_of_trainings(audit, person.same)
    doubled = sum(count - 1 for count in per_kind.values())
    doubled += sum(len(ids) - 1 for ids in owners.values())
    orphans = {training["training_uuid"] for training in made} - set(owners)
    adopted = sum(
        event["data"]["created"] is not None
        for command_id in person.same
        for event in audit.events[command_id]
        if state(event) == "resolved"
    )
    settled = sum(
        state(event) == "resolved" for each in person.same for event in audit.events[each]
    )
    return report(
        name,
        audit,
        person.work.expected,
        faults=kills + settled,
        doubled=doubled,
        wrong=len(orphans),
        details={
            "trainings": len(made),
            "settled": settled,
            "adopted": adopted,
            "said": sum(person.said.values()),
            "kills": kills,
        },
    )
