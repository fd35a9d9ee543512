"""BullMQ and Bee-Queue: queues of Node, in JavaScript that does the same work as `benchmarks.work`.

Their programs lie in the folder `node`. `dev.py bench` installs what they need there with `npm ci`;
without it they are known, so that results of theirs can be shown, and take no part.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from benchmarks.contenders.contender import Contender, Producer
from benchmarks.errors import BenchmarkError
from benchmarks.work import PATH, REDIS_URL
from worker.encord.api.transport import BASE_PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.work import Message

FOLDER: Final = Path(__file__).parent / "node"
LOCK: Final = FOLDER / "package-lock.json"
# What `dev.py bench` writes once everything is installed.
_INSTALLED: Final = FOLDER / "node_modules" / "locked"
_CLOSE_SECONDS = 10.0


class NodeProducer:
    """A contender's own producer in a process of its own, which makes the messages by itself.

    Attributes:
        began: when the last messages were about to be added, by the monotonic clock. The way from
            here to that process is not the queue's.
    """

    def __init__(self, program: str, redis_url: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - a contender's own program
            [_node(), FOLDER / program, "produce"],
            env=os.environ | {REDIS_URL: redis_url, "NODE_ENV": "production"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._answer()
        self.began = 0.0

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Has jobs added for the messages, whose numbers follow each other."""
        first = messages[0]
        run, _, number = first["id"].rpartition("-")
        data = {name: value for name, value in first["data"].items() if name != "data_base64"}
        order = {
            "run": run,
            "first": int(number),
            "count": len(messages),
            "size": len(first["data"]["data_base64"]),
            "data": data,
        }
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        self._process.stdin.write(orjson.dumps(order) + b"\n")
        self._process.stdin.flush()
        self.began = float(self._answer())

    def close(self) -> None:
        """Ends the process, which closes its connections."""
        try:
            self._process.communicate(timeout=_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        if not (line := self._process.stdout.readline()):
            raise BenchmarkError("a producer of Node ended; it has said why above")
        return line


class NodeQueue(Contender):
    """One of Node's queues."""

    language = "Node"
    record = "the job, until it ends"
    program: str

    def command(self, concurrency: int) -> list[str]:  # noqa: ARG002 - they are in the environment
        """Returns the worker's command line."""
        return [_node(), str(FOLDER / self.program), "work"]

    def environment(self, redis_url: str, folder: Path, concurrency: int) -> dict[str, str]:  # noqa: ARG002 - as all
        """Returns what its program finds in the environment."""
        return {"BENCH_PATH": BASE_PATH + PATH, "NODE_ENV": "production"}

    def producer(self, redis_url: str) -> Producer:
        """Returns its producer."""
        return NodeProducer(self.program, redis_url)

    @property
    def installed(self) -> bool:
        """Whether it can take part here."""
        return installed()


class BullMq(NodeQueue):
    """BullMQ."""

    name = "bullmq"
    title = "BullMQ, Node"
    settings = "1 process, concurrency 256, ioredis, undici; jobs removed when done"
    concurrency = 256
    slow_concurrency = 2048
    per_second = 2_500
    program = "bullmq.js"


class BeeQueue(NodeQueue):
    """Bee-Queue."""

    name = "bee-queue"
    title = "Bee-Queue, Node"
    settings = "1 process, concurrency 256, undici; jobs removed when done, no events of its own"
    concurrency = 256
    slow_concurrency = 2048
    per_second = 3_000
    program = "beequeue.js"


def installed() -> bool:
    """Returns whether the queues of Node can take part here."""
    return shutil.which("node") is not None and _INSTALLED.exists()


def version() -> str:
    """Returns Node's version, empty where its queues take no part."""
    if not installed():
        return ""
    said = subprocess.run([_node(), "--version"], capture_output=True, text=True, check=True)  # noqa: S603 - the Node that runs them
    return said.stdout.strip().removeprefix("v")


def packages() -> dict[str, str]:
    """Returns the packages that were asked for, with their versions, where they take part."""
    if not installed():
        return {}
    found: dict[str, str] = orjson.loads((FOLDER / "package.json").read_bytes())["dependencies"]
    return found


def _node() -> str:
    """Returns the program `node`."""
    return shutil.which("node") or "node"
