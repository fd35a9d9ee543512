"""Commands to send: a mix of every kind that the sandbox answers quickly, and bad messages."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from redis import Redis

    from tests.faults.fleet import Fleet

COMMANDS = "{trainmaster}:commands"
INBOX = "{trainmaster}:inbox"
ARCHITECTURE = "fasterRcnn"
MISSING = "00000000-0000-4000-8000-000000000000"


@dataclass
class Workload:
    """Commands by id, and how each should end, as `audit.is_right` reads it."""

    texts: dict[str, str] = field(default_factory=dict)
    expected: dict[str, str] = field(default_factory=dict)
    bad: list[bytes] = field(default_factory=list)

    def add(self, command_id: str, kind: str, data: dict[str, Any], end: str, **more: Any) -> None:
        """Adds a command."""
        command = {"id": command_id, "type": kind, "data": data, **more}
        self.texts[command_id] = json.dumps(command)
        self.expected[command_id] = end

    def send(self, client: Redis, *, times: int = 1, shuffle: random.Random | None = None) -> None:
        """Puts everything on the stream, one in ten on the inbox, `times` times over."""
        messages = [text.encode() for text in self.texts.values()] * times + self.bad
        if shuffle is not None:
            shuffle.shuffle(messages)
        for start in range(0, len(messages), 500):
            pipe = client.pipeline(transaction=True)
            for number, message in enumerate(messages[start : start + 500]):
                if number % 10:
                    pipe.xadd(COMMANDS, {"command": message})
                else:
                    pipe.rpush(INBOX, message)
            pipe.execute()


@dataclass(frozen=True)
class Scene:
    """What commands can name: a project, its features and labels, and a model."""

    project_uuid: str
    features: dict[str, str]
    labels: list[str]
    model_uuid: str

    @classmethod
    def prepare(cls, fleet: Fleet) -> Scene:
        """Makes what the commands of a scenario are about."""
        sandbox = fleet.sandbox
        return cls(
            sandbox.project()["project_uuid"],
            sandbox.features(ARCHITECTURE),
            [item["label_uuid"] for item in sandbox.items()],
            sandbox.create_model(ARCHITECTURE),
        )

    def training(self, model_uuid: str, *, epochs: int, **more: Any) -> dict[str, Any]:
        """Returns the data of a `train` command."""
        return {
            "model_uuid": model_uuid,
            "batch_size": 4,
            "epochs": epochs,
            "features_mapping": {
                self.project_uuid: {node: [name] for name, node in self.features.items()}
            },
            "labels_uuids": self.labels[:4],
            **more,
        }


def mixed(scene: Scene, count: int, rng: random.Random, *, prefix: str = "c") -> Workload:
    """Returns commands that read, create, change, delete and fail, in about even shares."""
    work = Workload()
    data: dict[str, Any]
    for number in range(count):
        command_id = f"{prefix}-{number}"
        match rng.choices(
            ("get", "list", "data", "create", "update", "missing", "later"),
            (40, 10, 10, 20, 10, 5, 5),
        )[0]:
            case "get":
                work.add(command_id, "get_model", {"model_uuid": scene.model_uuid}, "succeeded")
            case "list":
                data = {"project_uuid": scene.project_uuid}
                work.add(command_id, "list_attachments", data, "succeeded", priority="bulk")
            case "data":
                data = {"query": f"no such title {number}"}
                work.add(command_id, "list_models", data, "succeeded")
            case "create":
                data = {
                    "features": list(scene.features),
                    "model": ARCHITECTURE,
                    "title": f"{prefix} {number}",
                }
                work.add(command_id, "create_model", data, "created")
            case "update":
                data = {"model_uuid": scene.model_uuid, "description": f"of {command_id}"}
                work.add(command_id, "update_model", data, "succeeded", priority="bulk")
            case "missing":
                work.add(command_id, "get_model", {"model_uuid": MISSING}, "failed")
            case _:
                data = {"model_uuid": scene.model_uuid}
                work.add(command_id, "get_model", data, "succeeded", replyto=f"r{number % 3}")
    return work


def bad_messages(count: int, rng: random.Random) -> list[bytes]:
    """Returns messages that are no commands, no two of them alike."""
    return [_bad(number, rng) for number in range(count)]


def _bad(number: int, rng: random.Random) -> bytes:
    forms = (
        lambda: b"not json %d" % number,
        lambda: b"\xff\xfe%d" % number,
        lambda: json.dumps({"type": "train", "data": {"epochs": number}}).encode(),
        lambda: json.dumps({"type": "no_such_type", "data": {"n": number}}).encode(),
        lambda: json.dumps([number]).encode(),
        lambda: b'{"type":"get_model","data":{"model_uuid":NaN,"n":%d}}' % number,
        lambda: b'{"type":"get_model","type":"get_model","data":{"n":%d}}' % number,
        lambda: json.dumps({"type": "get_model", "id": "", "data": {"n": number}}).encode(),
    )
    return rng.choice(forms)()


def doubled_titles(models: Iterable[dict[str, Any]], prefix: str) -> int:
    """Returns how many models were created more than once for a title."""
    return len(made_twice(models, prefix))


def made_twice(models: Iterable[dict[str, Any]], prefix: str) -> list[str]:
    """Returns a line for each model that was created beside the first one of its title."""
    first: dict[str, str] = {}
    found = []
    for model in models:
        title, uuid = model["title"], model["model_uuid"]
        if title.startswith(prefix) and first.setdefault(title, uuid) != uuid:
            found.append(f"made twice: {title!r}, {first[title]} and {uuid}")
    return found
