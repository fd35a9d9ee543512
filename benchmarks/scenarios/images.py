"""Images of 200 kB, inline in base64 and by path. Of trainmaster alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.registry import OURS
from benchmarks.running import PATIENCE, START_SECONDS, Running, running
from benchmarks.scenarios.backlog import await_accepted, pause, resume
from benchmarks.stub import ID_BYTES
from benchmarks.testbed import open_testbed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.plan import Plan
    from benchmarks.processes import Cores
    from benchmarks.work import Message

IMAGE_BYTES = 200_000
COMMANDS = 2_000
SHORT_COMMANDS = 200
FILES = 100


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields the rate and Redis' memory for each way."""
    count = SHORT_COMMANDS if plan.short else COMMANDS
    for way in ("inline", "path"):
        yield measure(way, count, plan.cores)


def measure(way: str, count: int, cores: Cores) -> dict[str, Any]:
    """Returns what images come to that are all accepted before the first is sent on."""
    size = (IMAGE_BYTES + 2) // 3 * 4
    with open_testbed(cores) as testbed:
        files = _write(testbed.folder / "images")
        roots = {"TRAINMASTER_DATA_ROOTS": str(testbed.folder / "images")}
        with running(testbed, OURS, size=size, settings=roots) as at_work:
            _send(at_work, files, OURS.concurrency, way)
            at_work.await_ends(at_work.sent, START_SECONDS * 2)
            empty = testbed.memory_bytes()
            pause(testbed)
            accepted = at_work.follower.read_accepted()
            _send(at_work, files, count, way)
            await_accepted(at_work, accepted + count)
            waiting = testbed.memory_bytes() - empty
            cpu = at_work.worker.cpu_seconds()
            resume(testbed)
            begun = time.time()
            at_work.await_ends(at_work.sent, START_SECONDS + count / 100 * PATIENCE)
            seconds = at_work.follower.last_ms / 1000 - begun
            return {
                "way": way,
                "commands": count,
                "per_second": count / seconds,
                "cpu_seconds_per_1000": (at_work.worker.cpu_seconds() - cpu) / count * 1000,
                "waiting_bytes": waiting / count,
                "memory_bytes": at_work.worker.memory_bytes(),
            }


def _send(at_work: Running, files: list[Path], count: int, way: str) -> None:
    for _ in range(0, count, FILES):
        work = at_work.make(min(FILES, count))
        if way == "path":
            work = [_by_path(message, files[number]) for number, message in enumerate(work)]
        at_work.producer.enqueue(work)


def _by_path(message: Message, file: Path) -> Message:
    data = {name: value for name, value in message["data"].items() if name != "data_base64"}
    return message | {"data": data | {"data_path": str(file)}}


def _write(folder: Path) -> list[Path]:
    """Writes the images; each begins with what the stub counts calls by."""
    folder.mkdir()
    files = [folder / f"{number}.jpg" for number in range(FILES)]
    for file in files:
        file.write_bytes(file.name.ljust(ID_BYTES).encode() + bytes(IMAGE_BYTES - ID_BYTES))
    return files
