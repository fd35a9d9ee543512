"""What a command costs as the backlog grows, and intake by itself. Of trainmaster alone.

The backlog waits in the ledger, accepted, before the first command runs: its lane is paused until
then. That alone measures intake. Afterwards it is held at its size: as much is sent as ends, so
that every command of the window is taken in and run with all the others waiting.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.ours import NAMESPACE
from benchmarks.contenders.registry import OURS
from benchmarks.errors import BenchmarkError
from benchmarks.running import Running, running
from benchmarks.testbed import open_testbed
from benchmarks.work import messages
from schemas.enums import Priority
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys
from worker.queue.ledger.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plan import Plan
    from benchmarks.processes import Cores
    from benchmarks.testbed import Testbed

# Of the stub; short, so that slots are never what is waited for.
LATENCY_MS = 5
SIZES = (1_000, 10_000, 100_000)
LONG_SIZES = (*SIZES, 1_000_000)
SHORT_SIZES = (1_000, 5_000)
WINDOW = 20_000
SHORT_WINDOW = 2_000
WARM_UP = 1_000
INTAKE = 100_000
SHORT_INTAKE = 10_000
_PROBE_SECONDS = 86_400
_SLOWEST = 500
_PART = 20_000


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields what a command costs with each backlog."""
    for size in SHORT_SIZES if plan.short else LONG_SIZES if plan.long else SIZES:
        window = SHORT_WINDOW if plan.short else WINDOW
        yield measure(size, window, plan.cores)


def run_intake(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields how fast commands are taken in, round by round."""
    for number in range(plan.rounds):
        with open_testbed(plan.cores, latency_ms=LATENCY_MS) as testbed:
            pause(testbed)
            count = SHORT_INTAKE if plan.short else INTAKE
            _fill(testbed, count)
            with running(testbed, OURS) as at_work:
                yield {"round": number, "commands": count, **_await_accepted(at_work, count)}


def measure(size: int, window: int, cores: Cores) -> dict[str, Any]:
    """Returns what a command of a window costs while `size` others wait."""
    with open_testbed(cores, latency_ms=LATENCY_MS) as testbed:
        pause(testbed)
        with running(testbed, OURS) as at_work:
            while at_work.sent < size:
                at_work.send(min(_PART, size - at_work.sent))
            await_accepted(at_work, size)
            resume(testbed)
            at_work.hold(size, WARM_UP)
            worker = at_work.worker
            begun, cpu = time.monotonic(), worker.cpu_seconds()
            redis_cpu = testbed.redis_cpu_seconds()
            ended = len(at_work.follower.ends)
            at_work.hold(size, ended + window)
            count = len(at_work.follower.ends) - ended
            seconds = time.monotonic() - begun
            return {
                "backlog": size,
                "commands": count,
                "per_second": count / seconds,
                "cpu_seconds_per_1000": (worker.cpu_seconds() - cpu) / count * 1000,
                "redis_cpu_seconds_per_1000": (testbed.redis_cpu_seconds() - redis_cpu)
                / count
                * 1000,
                "memory_bytes": worker.memory_bytes(),
                "redis_memory_bytes": testbed.memory_bytes(),
            }


def await_accepted(at_work: Running, count: int) -> None:
    """Returns once so many commands are accepted in all.

    Raises:
        BenchmarkError: they are not in time.
    """
    deadline = time.monotonic() + 60 + count / _SLOWEST
    while at_work.follower.read_accepted() < count:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"intake takes too long\n{at_work.testbed.last_lines()}")
        time.sleep(0.1)


def _await_accepted(at_work: Running, count: int) -> dict[str, Any]:
    """Returns the rate of intake, without the worker's start and its first entries."""
    await_accepted(at_work, count // 10)
    begun, cpu = time.monotonic(), at_work.worker.cpu_seconds()
    first = at_work.follower.accepted
    await_accepted(at_work, count)
    counted = count - first
    seconds = time.monotonic() - begun
    return {
        "per_second": counted / seconds,
        "cpu_seconds_per_1000": (at_work.worker.cpu_seconds() - cpu) / counted * 1000,
    }


def _fill(testbed: Testbed, count: int) -> None:
    """Puts commands on the stream before there is a worker."""
    producer = OURS.producer(testbed.server.url)
    for first in range(0, count, _PART):
        producer.enqueue(messages("intake", first, min(_PART, count - first)))
    producer.close()


def pause(testbed: Testbed, lane: Priority = Priority.INTERACTIVE) -> None:
    """Pauses a lane, as an operator would."""
    asyncio.run(_set_lane(testbed.server.url, lane, paused=True))


def resume(testbed: Testbed, lane: Priority = Priority.INTERACTIVE) -> None:
    """Resumes a lane."""
    asyncio.run(_set_lane(testbed.server.url, lane, paused=False))


async def _set_lane(redis_url: str, lane: Priority, *, paused: bool) -> None:
    client = connect(redis_url)
    lanes = Lanes(client, Keys(NAMESPACE))
    if paused:
        await lanes.pause(lane, "a benchmark", _PROBE_SECONDS)
    else:
        await lanes.resume(lane)
    await client.aclose()
