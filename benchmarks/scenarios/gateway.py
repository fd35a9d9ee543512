"""Commands over HTTP: one at a time at a steady pace, and many as NDJSON. Of trainmaster alone.

The gateway has a core to itself; the worker, Redis, the stub and whoever sends share the other.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson

from benchmarks.contenders.contender import program
from benchmarks.contenders.ours import NAMESPACE
from benchmarks.contenders.registry import OURS
from benchmarks.errors import BenchmarkError
from benchmarks.follower import Follower
from benchmarks.http_sender import post_paced
from benchmarks.processes import Measured
from benchmarks.statistics import percentile
from benchmarks.testbed import READY_SECONDS, open_testbed
from benchmarks.work import messages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.plan import Plan
    from benchmarks.testbed import Testbed
    from benchmarks.work import Message

LATENCY_MS: Final = 5
PER_SECOND: Final = 500
SECONDS: Final = 60.0
SHORT_SECONDS: Final = 5.0
LINES: Final = 100_000
SHORT_LINES: Final = 5_000
CONNECTIONS: Final = 64
WARM_UP: Final = 200
_URL = re.compile(rb'"url": "(http://[^"]+)"')


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields what a round of single commands comes to, and then one of lines."""
    for number in range(plan.rounds):
        seconds = SHORT_SECONDS if plan.short else SECONDS
        with _served(plan) as (testbed, gateway, url):
            yield {"round": number, "way": "single", **_singles(testbed, gateway, url, seconds)}
        with _served(plan) as (testbed, gateway, url):
            count = SHORT_LINES if plan.short else LINES
            yield {"round": number, "way": "lines", **_lines(testbed, gateway, url, count)}


@contextmanager
def _served(plan: Plan) -> Iterator[tuple[Testbed, Measured, str]]:
    with open_testbed(plan.cores, latency_ms=LATENCY_MS) as testbed:
        environment = testbed.environment(OURS, OURS.concurrency)
        worker = Measured(OURS.command(OURS.concurrency), environment, testbed.log, plan.cores.rest)
        log = testbed.folder / "gateway.log"
        gateway = Measured(
            [program("trainmaster"), "gateway", "--port", "0"],
            environment | {"TRAINMASTER_LOG_LEVEL": "INFO"},
            log,
            plan.cores.worker,
        )
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not (found := _URL.search(log.read_bytes())):
                if time.monotonic() > deadline or not gateway.alive:
                    raise BenchmarkError(f"the gateway did not start: {log.read_text()}")
                time.sleep(0.05)
            yield testbed, gateway, found[1].decode()
        finally:
            gateway.stop()
            worker.stop()


def _singles(testbed: Testbed, gateway: Measured, url: str, seconds: float) -> dict[str, Any]:
    work = _commands("single", int(PER_SECOND * seconds))
    _post_paced(url, _commands("warm", WARM_UP))
    cpu = gateway.cpu_seconds()
    begun = time.monotonic()
    answers = _post_paced(url, work)
    took = time.monotonic() - begun
    spent = gateway.cpu_seconds() - cpu
    milliseconds = [answer for answer in answers if answer is not None]
    return {
        "commands": len(work),
        "per_second": len(work) / took,
        "refused": len(work) - len(milliseconds),
        "lost": len(work) + WARM_UP - _accepted(testbed, len(work) + WARM_UP),
        "p50_ms": percentile(milliseconds, 0.50),
        "p99_ms": percentile(milliseconds, 0.99),
        "cpu_seconds_per_1000": spent / len(work) * 1000,
        "memory_bytes": gateway.memory_bytes(),
    }


def _lines(testbed: Testbed, gateway: Measured, url: str, count: int) -> dict[str, Any]:
    body = b"\n".join(map(orjson.dumps, _commands("line", count)))
    cpu = gateway.cpu_seconds()
    begun = time.monotonic()
    answer = asyncio.run(_post_lines(url, body))
    took = time.monotonic() - begun
    return {
        "commands": count,
        "per_second": count / took,
        "refused": answer["refused"],
        "lost": count - _accepted(testbed, count),
        "cpu_seconds_per_1000": (gateway.cpu_seconds() - cpu) / count * 1000,
        "memory_bytes": gateway.memory_bytes(),
    }


def _commands(run: str, count: int) -> list[Message]:
    return [{"type": "predict", **message} for message in messages(run, 0, count)]


def _post_paced(url: str, work: Sequence[Message]) -> list[float | None]:
    """Returns how many milliseconds each answer took from when it was due, None for a refusal."""
    bodies = list(map(orjson.dumps, work))
    return post_paced(f"{url}/v1/commands", bodies, per_second=PER_SECOND, connections=CONNECTIONS)


async def _post_lines(url: str, body: bytes) -> dict[str, Any]:
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        headers = {"Content-Type": "application/x-ndjson"}
        async with session.post(f"{url}/v1/commands", data=body, headers=headers) as response:
            found: dict[str, Any] = orjson.loads(await response.read())
            return found


def _accepted(testbed: Testbed, count: int) -> int:
    """Returns how many commands a worker has accepted, once it has all or waits for no more."""
    follower = Follower(testbed.redis, f"{{{NAMESPACE}}}:events")
    deadline = time.monotonic() + 60 + count / 500
    while (found := follower.read_accepted()) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    return found
