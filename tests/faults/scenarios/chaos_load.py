"""What chaos sends: a steady load by every way in, and what should become of each of it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from celery import Celery
from redis import Redis
from redis.exceptions import RedisError

from benchmarks.stub import prediction
from tests.faults.scenarios.backfills import ASKED
from tests.faults.workload import ARCHITECTURE, COMMANDS, Scene, Workload, bad_messages, mixed
from tests.web_server import CUT_WAYS, Bodies

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.faults.fleet import Fleet

BULK = "{trainmaster}:commands:bulk"
INBOX = "{trainmaster}:inbox"
TRAINING_SECONDS = 240
ROUNDS_PER_MODEL = 100
ROUNDS_PER_BACKFILL = 60
MODELS = 20
ITEMS = 150
# So long that a body which breaks off is a part of it.
FILE_BYTES = 30_000
_FILE_WAYS = ("length", "chunked", *CUT_WAYS, "stall-cut", "silent")


class BreakingBodies(Bodies):
    """A server of files whose bodies break off while it is told so.

    Attributes:
        breaks: whether they do.
    """

    breaks = False

    def is_cut(self, path: str) -> bool:
        """Tells whether an answer breaks off now."""
        return path in self.cuts_left and self.breaks


@dataclass
class Load:
    """A producer's view: what it sent, and what it has yet to send.

    Attributes:
        files: where the data of some commands lies.
        client: waits for nobody: a producer must know at once that Redis is away.
        work: all commands so far, and how each should end.
        asked: the model that a command reads, by its id.
        same: what tells a training from others, by its command's id: model and epochs.
        backfills: how many items each has, by its id.
        bad: how many messages were no commands.
        unsent: what Redis did not acknowledge; it is sent again, with the same id.
        sent: what it did.
        rounds_per_backfill: one begins in every so many.
        training_seconds: how long a training is waited for, and its creation may stay in doubt.
    """

    fleet: Fleet
    scene: Scene
    rng: random.Random
    folder: Path
    files: BreakingBodies
    files_url: str
    work: Workload = field(default_factory=Workload)
    asked: dict[str, str] = field(default_factory=dict)
    same: dict[str, tuple[str, int]] = field(default_factory=dict)
    backfills: dict[str, int] = field(default_factory=dict)
    bad: int = 0
    unsent: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    round: int = 0
    rounds_per_backfill: int = ROUNDS_PER_BACKFILL
    training_seconds: int = TRAINING_SECONDS

    def __post_init__(self) -> None:
        self.client = Redis.from_url(self.fleet.redis.url, socket_timeout=1, retry=None)
        self.celery = Celery("chaos", broker=self.fleet.redis.url, set_as_current=False)
        self.celery.conf.broker_transport_options = {
            "global_keyprefix": "{trainmaster}:",
            "socket_timeout": 1,
            "socket_connect_timeout": 1,
        }
        # All at once: later, when the API fails, none can be created.
        models = [self.fleet.sandbox.create_model(ARCHITECTURE) for _ in range(2 * MODELS)]
        self.models, self.trained = models[:MODELS], models[MODELS:]
        for number, model_uuid in enumerate(self.models):
            data = orjson.dumps({"model_uuid": model_uuid})
            self.files.files[f"{number}.json"] = data.ljust(FILE_BYTES)

    def make_round(self, count: int) -> None:
        """Makes a round of commands, a training, and now and then a backfill or no command."""
        self.round += 1
        part = mixed(self.scene, count, self.rng, prefix=f"c{self.round}")
        self._add_reads(part)
        self._add_training(part)
        if self.round % self.rounds_per_backfill == 1:
            self.add_backfill(part, self.round, ITEMS)
        part.bad = bad_messages(1, self.rng) if self.round % 7 == 0 else []
        part.bad = [message + b" %d" % self.round for message in part.bad]
        self.bad += len(part.bad)
        self.work.expected |= part.expected
        self.unsent += [*(text.encode() for text in part.texts.values()), *part.bad]

    def _add_reads(self, part: Workload) -> None:
        """Adds reads of different models, the data of one of them behind a URL."""
        for number in range(2):
            command_id = f"g{self.round}-{number}"
            place = self.rng.randrange(MODELS)
            self.asked[command_id] = self.models[place]
            part.add(command_id, "get_model", {"model_uuid": self.models[place]}, "succeeded")
            if number:
                way = self.rng.choice(_FILE_WAYS)
                if way.endswith("-cut"):
                    self.files.cuts_left[f"/{way}/{place}.json"] = 0
                command = {"id": command_id, "type": "get_model"}
                command["dataref"] = f"{self.files_url}/{way}/{place}.json"
                part.texts[command_id] = json.dumps(command)

    def _add_training(self, part: Workload) -> None:
        model_uuid = self.trained[self.round // ROUNDS_PER_MODEL % len(self.trained)]
        # Every other one is the same as the one before it.
        epochs = self.round // 2 + 1
        data = self.scene.training(model_uuid, epochs=epochs, timeout_seconds=self.training_seconds)
        part.add(f"t-{self.round}", "train", data, "created")
        self.same[f"t-{self.round}"] = (model_uuid, epochs)

    def add_backfill(self, part: Workload, number: int, items: int) -> str:
        """Adds a backfill of so many items; returns its id, which its number makes."""
        backfill_id = f"b-{number}"
        source = self.folder / f"{backfill_id}.jsonl"
        rows = [{"data_uuid": item_uuid(number, item)} for item in range(items)]
        source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        data = {**ASKED, "task": "object_detection", "source": str(source)}
        part.add(backfill_id, "backfill", data, "succeeded")
        self.backfills[backfill_id] = items
        return backfill_id

    def send(self) -> None:
        """Sends what is unsent until Redis refuses something."""
        while self.unsent:
            try:
                self._send_one(self.unsent[0])
            except RedisError:
                return
            self.sent.append(self.unsent.pop(0))

    def send_again(self) -> None:
        """Sends commands again that were sent before, whatever became of them."""
        commands = [message for message in self.sent[-2000:] if message.startswith(b'{"id"')]
        for message in self.rng.sample(commands, min(20, len(commands))):
            self.client.xadd(COMMANDS, {"command": message})

    def _send_one(self, message: bytes) -> None:
        way = self.rng.random()
        if not message.startswith(b'{"id"'):
            self._send_once(message)
        elif way < 0.1:
            self.client.rpush(INBOX, message)
        elif way < 0.15:
            with contextlib.suppress(Exception):
                self.celery.send_task("trainmaster.submit", [json.loads(message)], retry=False)
            # Celery's word is not trusted: the same id comes by the stream too.
            self.client.xadd(COMMANDS, {"command": message})
        elif way < 0.6 and b'"priority": "bulk"' in message:
            self.client.xadd(BULK, {"command": message})
        else:
            self.client.xadd(COMMANDS, {"command": message})

    def _send_once(self, message: bytes) -> None:
        """Adds a message that has no id exactly once, though replies get lost."""
        # One script: added before or not at all.
        self.client.eval(
            "if redis.call('SET', KEYS[2], '1', 'NX', 'EX', 86400) then "
            "redis.call('XADD', KEYS[1], '*', 'command', ARGV[1]) end",
            2,
            COMMANDS,
            f"{{trainmaster}}:sent:{hash(message)}",
            message,
        )


def item_uuid(backfill: int, number: int) -> str:
    """Returns what an item of a backfill is about."""
    return str(UUID(int=1_000_000 * backfill + number + 1))


def predicted(request: bytes) -> bytes:
    """Returns a reply to a prediction that names what it was asked about."""
    asked = orjson.loads(request.partition(b"\r\n\r\n")[2])
    told: dict[str, Any] = prediction()
    for each in told["result"]["0"]:
        each["name"] = asked["dataUuid"]
    body = orjson.dumps(told)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body
