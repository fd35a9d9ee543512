"""The worked example under fire: labels pushed, trained and attached while everything is killed."""

from __future__ import annotations

import itertools
import json
import queue
import random
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx

from tests.console import Console
from tests.faults.audit import Audit, Report, report, state
from tests.faults.fleet import Fleet, Repeater
from tests.faults.scenarios.deliveries import PREFIX, left_of_windows
from tests.faults.workload import COMMANDS
from tests.gateway_process import GatewayProcess
from tests.sandbox_process import SIMULATED
from tests.webhook_examples import (
    ENCORD_SECRET,
    TrainedProject,
    labels_example,
    signed_by_encord,
    submitted,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TRAIN: Final = "encord/train-on-submit/"
ATTACH: Final = "follow-up/attach-what-was-trained/"
# Each push is a window of its own, so that each becomes one training.
WINDOW: Final = 'coalesce = { key = "body.uid", window_seconds = 1 }'
TRAINING_SECONDS: Final = 1.0
# So many pushes are on their way at a time, that kills meet each of the steps.
UNDER_WAY: Final = 12
SENDERS: Final = 3
REPEATED_SHARE: Final = 0.25
_REQUEST_SECONDS: Final = 20.0
_PAUSE_SECONDS: Final = 0.2
# Workers settle a doubt by themselves where they can; a person looks after what they leave.
LOOK_SECONDS: Final = 8.0
SETTINGS: Final = {"TRAINMASTER_DOUBT_SECONDS": "120"}


@dataclass
class Push:
    """Labels that are submitted together, no two times the same.

    Attributes:
        answers: what its sends were answered.
        repeats: how often it was answered as one that was there before.
    """

    uid: str
    labels: tuple[str, ...]
    answers: list[int] = field(default_factory=list)
    repeats: int = 0


def reaction_chain(
    folder: Path, seed: int, count: int, kills: int, *, seconds: float = 1200
) -> Report:
    """Pushes labels; each push is to come to one training and one attachment.

    Args:
        folder: for everything that the scenario leaves.
        seed: of whom it hits, and when.
        count: pushes.
        kills: of a gateway, a worker or Redis.
        seconds: when to give up.
    """
    rng = random.Random(seed)
    with Fleet(folder, 2, SETTINGS) as fleet:
        project = TrainedProject.prepare(fleet.sandbox)
        fleet.sandbox.faults({**SIMULATED, "seconds": TRAINING_SECONDS})
        pushes = _pushes(project, count, rng)
        gateways = _gateways(folder, fleet, labels_example(project, WINDOW))
        try:
            for gateway in gateways:
                gateway.start()
            fleet.wait_ready()
            run = _Run(fleet, gateways, project, pushes, rng)
            run.go(kills, seconds)
            return run.judge(f"reaction-chain[seed {seed}]")
        finally:
            for gateway in gateways:
                with suppress(AssertionError):
                    gateway.kill()


def _pushes(project: TrainedProject, count: int, rng: random.Random) -> list[Push]:
    pairs = list(itertools.combinations(project.labels, 2))
    return [
        Push(str(uuid.UUID(int=rng.getrandbits(128), version=4)), pair)
        for pair in rng.sample(pairs, count)
    ]


def _gateways(folder: Path, fleet: Fleet, text: str) -> list[GatewayProcess]:
    file = folder / "integrations.toml"
    file.write_text(text, "utf-8")
    console = Console(
        fleet.redis.url,
        "trainmaster",
        ENCORD_WEBHOOK_SECRET=ENCORD_SECRET,
        TRAINMASTER_INTEGRATIONS_FILE=str(file),
        TRAINMASTER_GATEWAY_FOLDER=str(folder / "gateway"),
    )
    return [GatewayProcess(console, folder / f"gateway-{number}.log") for number in range(2)]


class _Sender:
    """Sends each push until it is answered 200, as Encord does, and some of them once more.

    Attributes:
        again: sends that got another answer, or none.
    """

    def __init__(
        self, project_uuid: str, pushes: list[Push], urls: list[str], rng: random.Random
    ) -> None:
        self._project_uuid = project_uuid
        self._urls = urls
        self._rng = rng
        self._waiting: queue.SimpleQueue[Push | None] = queue.SimpleQueue()
        self._unsent = list(pushes)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.again = 0
        self.released = 0
        self._threads = [threading.Thread(target=self._work) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def release(self, most: int) -> None:
        """Lets so many pushes be sent in all."""
        while self.released < most and self._unsent:
            self._waiting.put(self._unsent.pop())
            self.released += 1

    def end(self) -> None:
        """Returns once nothing is sent any more."""
        self._over.set()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        with httpx.Client(timeout=_REQUEST_SECONDS, trust_env=False) as http:
            while (push := self._waiting.get()) is not None:
                self._send(http, push)
                with self._lock:
                    is_repeated = self._rng.random() < REPEATED_SHARE
                if is_repeated:
                    self._send(http, push)

    def _send(self, http: httpx.Client, push: Push) -> None:
        body = submitted(push.uid, self._project_uuid, push.labels)
        while not self._over.is_set():
            with self._lock:
                url = self._rng.choice(self._urls)
            with suppress(httpx.HTTPError):
                answer = http.post(
                    f"{url}/v1/webhooks/encord", headers=signed_by_encord(body), content=body
                )
                push.answers.append(answer.status_code)
                if answer.status_code == 200:
                    push.repeats += answer.json()["repeat"]
                    return
            with self._lock:
                self.again += 1
            self._over.wait(_PAUSE_SECONDS)


class _Run:
    """A run of the scenario.

    Attributes:
        kills: by what was killed.
    """

    def __init__(
        self,
        fleet: Fleet,
        gateways: list[GatewayProcess],
        project: TrainedProject,
        pushes: list[Push],
        rng: random.Random,
    ) -> None:
        self.kills: Counter[str] = Counter()
        self._fleet = fleet
        self._gateways = gateways
        self._project = project
        self._pushes = pushes
        self._rng = rng
        self._audit = Audit(fleet)
        self._person = _Person(fleet, self._audit, {push.uid: push for push in pushes})
        self._sender = _Sender(
            project.project_uuid,
            pushes,
            [gateway.url for gateway in gateways],
            random.Random(rng.random()),
        )
        self._seconds = 0.0

    def go(self, kills: int, seconds: float) -> None:
        """Sends, kills at random moments of the way, and waits until all has ended."""
        count = len(self._pushes)
        # Each push is answered, trained and attached. The last steps have nobody to kill for.
        moments = sorted(self._rng.sample(range(1, 3 * count - 3), kills), reverse=True)
        reviver, person = Repeater(self._fleet.revive, 0.5), Repeater(self._person.look, 0.5)
        reader = Repeater(self._audit.update, 0.2)
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < seconds:
                answered = sum(200 in push.answers for push in self._pushes)
                trained, attached = self._ended(TRAIN), self._ended(ATTACH)
                if attached >= count and answered >= count and not moments:
                    break
                self._sender.release(attached + UNDER_WAY)
                if moments and answered + trained + attached >= moments[-1] and self._kill_one():
                    moments.pop()
                for keeper in (reviver, person, reader):
                    keeper.tick()
                time.sleep(0.02)
        finally:
            self._sender.end()
        self._seconds = time.monotonic() - begun
        self._audit.settle(2 * count + len(self._person.work), reviver, person)

    def _ended(self, prefix: str) -> int:
        return sum(
            each.startswith(prefix) and bool(self._audit.ends(each))
            for each in list(self._audit.events)
        )

    def _kill_one(self) -> bool:
        """Kills a gateway, a worker or Redis; False where the worker is not there again yet."""
        what = self._rng.choices(("gateway", "worker", "redis"), (2, 2, 1))[0]
        if what == "redis":
            self._fleet.redis.kill()
            self._fleet.redis.start()
        elif what == "gateway":
            gateway = self._rng.choice(self._gateways)
            gateway.kill()
            gateway.start()
        else:
            ready = [worker for worker in self._fleet.workers if worker.ready]
            if not ready:
                return False
            worker = self._rng.choice(ready)
            worker.kill()
            worker.start()
        self.kills[what] += 1
        return True

    def judge(self, name: str) -> Report:
        """Compares what was pushed with what the sandbox has, each once."""
        audit, client = self._audit, self._fleet.client
        odd: list[str] = []
        lost = doubled = wrong = 0
        expected: dict[str, str] = dict.fromkeys(self._person.work, "succeeded")
        for push in self._pushes:
            record: Any = client.hgetall(f"{PREFIX}delivery:encord/{push.uid}")
            windows = record.get(b"windows", b"").decode().split()
            taken = push.answers.count(200)
            lost += not taken or not windows
            doubled += len(windows) > 1 or taken - push.repeats > 1
            wrong += bool({*push.answers} - {200, 500, 503})
            for train_id in windows:
                expected[train_id] = "succeeded"
                for end in audit.ends(train_id):
                    expected[f"{ATTACH}{end['id']}"] = "succeeded"
        created = self._fleet.sandbox.truth()["created"]
        trainings = Counter(frozenset(each["labels_uuids"]) for each in created["trainings"])
        attached = Counter(each["training_uuids"][0] for each in created["attachments"])
        made = {each["training_uuid"] for each in created["trainings"]}
        wanted = {frozenset(push.labels) for push in self._pushes}
        lost += len(wanted - {*trainings}) + len(made - {*attached})
        doubled += sum(number - 1 for number in (*trainings.values(), *attached.values()))
        wrong += len({*trainings} - wanted) + len({*attached} - made)
        left = left_of_windows(client)
        wrong += len(left)
        odd += [f"left: {each}" for each in left]
        logs = "\n".join(each.log.read_text("utf-8", "replace") for each in self._gateways)
        for sign in (ENCORD_SECRET, "Traceback"):
            if sign in logs:
                wrong += 1
                odd.append(f"a gateway's log holds {sign}")
        return report(
            name,
            audit,
            expected,
            faults=self.kills.total(),
            lost=lost,
            doubled=doubled,
            wrong=wrong,
            odd=odd,
            details={
                "pushes": len(self._pushes),
                "answered 200": sum(push.answers.count(200) for push in self._pushes),
                "repeats": sum(push.repeats for push in self._pushes),
                "again": self._sender.again,
                "trainings": trainings.total(),
                "attachments": attached.total(),
                "doubts": sum(
                    state(event) == "in_doubt" for each in audit.events.values() for event in each
                ),
                "settled by a person": len(self._person.work),
                **{f"{what} kills": number for what, number in sorted(self.kills.items())},
                "seconds": round(self._seconds),
            },
        )


@dataclass
class _Person:
    """Looks at the sandbox for what a command in doubt created, where no worker can tell.

    Attributes:
        work: ids of the commands that said it.
    """

    fleet: Fleet
    audit: Audit
    pushes: Mapping[str, Push]
    work: list[str] = field(default_factory=list)
    _since: dict[tuple[str, int], float] = field(default_factory=dict)

    def look(self) -> None:
        """Settles every doubt that has lasted for a while."""
        now = time.monotonic()
        due = []
        for command_id, events in list(self.audit.events.items()):
            states = [state(event) for event in events]
            if not states or states[-1] != "in_doubt":
                continue
            doubt = command_id, states.count("in_doubt")
            if now - self._since.setdefault(doubt, now) > LOOK_SECONDS:
                due.append(doubt)
        if due:
            created = self.fleet.sandbox.truth()["created"]
            for doubt in due:
                self._say(doubt, created)

    def _say(self, doubt: tuple[str, int], created: dict[str, Any]) -> None:
        command_id, number = doubt
        own_id = f"person/{number}/{command_id}"
        if own_id in self.work:
            return
        uuids = self._made_by(command_id, created)
        said: dict[str, Any] = {"created": uuids[0]} if uuids else {"not_created": True}
        data = {"command_id": command_id, "by": "a person", **said}
        self.work.append(own_id)
        self.fleet.client.xadd(
            COMMANDS, {"command": json.dumps({"id": own_id, "type": "resolve", "data": data})}
        )

    def _made_by(self, command_id: str, created: dict[str, Any]) -> list[str]:
        if command_id.startswith(TRAIN):
            push = self.pushes[command_id.removeprefix(TRAIN).partition("/")[0]]
            return [
                each["training_uuid"]
                for each in created["trainings"]
                if {*each["labels_uuids"]} == {*push.labels}
            ]
        cause = command_id.removeprefix(ATTACH)
        (training,) = [
            event["data"]["result"]["training_uuid"]
            for events in self.audit.events.values()
            for event in events
            if event["id"] == cause
        ]
        return [
            each["project_model_uuid"]
            for each in created["attachments"]
            if each["training_uuids"] == [training]
        ]
