"""What a command with 1 kB of data takes of Redis while it waits, runs, and has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.contenders.registry import OURS
from benchmarks.errors import BenchmarkError
from benchmarks.running import START_SECONDS, running
from benchmarks.scenarios.backlog import await_accepted, pause, resume
from benchmarks.testbed import Testbed, open_testbed
from benchmarks.work import IMAGE_CHARACTERS, messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plan import Plan
    from benchmarks.processes import Cores

DATA_BYTES = 1_024
COMMANDS = 10_000
SHORT_COMMANDS = 2_000
RUNNING = 1_000
# Longer than it takes to start all of them and look.
RUNNING_LATENCY_MS = 20_000


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields the bytes for a command in each state, without and with its events."""
    count = SHORT_COMMANDS if plan.short else COMMANDS
    yield from waiting_and_ended(count, plan.cores)
    yield running_state(RUNNING, plan.cores)


def data_size() -> int:
    """Returns how many characters an image has with which the data is 1,024 bytes of JSON."""
    made = messages("size", 0, 1)[0]["data"]
    return (IMAGE_CHARACTERS - (len(orjson.dumps(made)) - DATA_BYTES)) // 4 * 4


def waiting_and_ended(count: int, cores: Cores) -> Iterator[dict[str, Any]]:
    """Yields a command that waits, and the same one after its end."""
    with open_testbed(cores, latency_ms=0) as testbed:
        pause(testbed)
        with running(testbed, OURS, size=data_size()) as at_work:
            _await_start(testbed)
            empty = _measure(testbed)
            at_work.send(count)
            await_accepted(at_work, count)
            yield {"state": "waiting", "commands": count, **_each(testbed, empty, count)}
            resume(testbed)
            at_work.await_ends(count, START_SECONDS + count / 50)
            # The last settlement is told before its leases are gone.
            time.sleep(2)
            yield {"state": "ended", "commands": count, **_each(testbed, empty, count)}


def running_state(count: int, cores: Cores) -> dict[str, Any]:
    """Returns a command whose request the API has."""
    with (
        open_testbed(cores, latency_ms=RUNNING_LATENCY_MS) as testbed,
        running(testbed, OURS, concurrency=count, size=data_size()) as at_work,
    ):
        _await_start(testbed)
        empty = _measure(testbed)
        at_work.send(count)
        deadline = time.monotonic() + START_SECONDS
        while len(testbed.calls()) < count:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"not all run\n{testbed.last_lines()}")
            time.sleep(0.1)
        found = {"state": "running", "commands": count, **_each(testbed, empty, count)}
        # What runs would hold up the worker's end in good order.
        at_work.worker.kill()
        return found


def _await_start(testbed: Testbed) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not testbed.redis.exists(OURS.stream.replace(":events", ":epoch")):
        if time.monotonic() > deadline:
            raise BenchmarkError(f"the worker did not start\n{testbed.last_lines()}")
        time.sleep(0.1)
    time.sleep(1)


def _measure(testbed: Testbed) -> tuple[int, int]:
    """Returns all that Redis holds, and what of it are events."""
    events = testbed.redis.memory_usage(OURS.stream, samples=0)
    return testbed.data_bytes(), int(events or 0)


def _each(testbed: Testbed, empty: tuple[int, int], count: int) -> dict[str, Any]:
    whole, events = _measure(testbed)
    told = events - empty[1]
    return {
        "bytes": (whole - empty[0] - told) / count,
        "events_bytes": told / count,
    }
