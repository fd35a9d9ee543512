"""A steady load far below what a worker can do: what a command costs then, and what it takes."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.rounds import in_rounds
from benchmarks.running import running
from benchmarks.scenarios.latency import Listener, heard, send
from benchmarks.statistics import percentile
from benchmarks.testbed import open_testbed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.contenders.contender import Contender
    from benchmarks.plan import Plan
    from benchmarks.processes import Cores
from benchmarks.running import Running

# Those that can do more than this at all, and cost the least.
CONTENDERS: Final = ("trainmaster", "taskiq", "bullmq", "bee-queue")
PER_SECOND: Final = 600
LATENCY_MS: Final = 50
WARM_UP_SECONDS: Final = 2.0


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields what the load came to with each contender, round by round."""
    chosen = [one for one in plan.queued if one.name in CONTENDERS]
    count = int(PER_SECOND * plan.seconds * 2)

    def cost(contender: Contender) -> dict[str, Any]:
        return measure(contender, count, plan.cores)

    for number, _, record in in_rounds(plan.rounds, chosen, cost):
        yield {"round": number, **record}


def measure(contender: Contender, count: int, cores: Cores) -> dict[str, Any]:
    """Returns what so many commands cost and took.

    Raises:
        BenchmarkError: an event did not come.
    """
    with (
        open_testbed(cores, latency_ms=LATENCY_MS) as testbed,
        running(testbed, contender) as at_work,
    ):
        at_work.warm_up(int(PER_SECOND * WARM_UP_SECONDS))
        with Listener(testbed.server.url, contender.stream) as listener:
            cpu, redis_cpu = at_work.worker.cpu_seconds(), testbed.redis_cpu_seconds()
            begun = time.monotonic()
            sent = _send_paced(at_work, count)
            seconds = time.monotonic() - begun
            milliseconds = heard(at_work, listener, sent)
            cpu = at_work.worker.cpu_seconds() - cpu
            redis_cpu = testbed.redis_cpu_seconds() - redis_cpu
    return {
        "contender": contender.name,
        "commands": count,
        "per_second": count / seconds,
        "cpu_seconds_per_1000": cpu / count * 1000,
        "redis_cpu_seconds_per_1000": redis_cpu / count * 1000,
        "p50_ms": percentile(milliseconds, 0.50),
        "p99_ms": percentile(milliseconds, 0.99),
    }


def _send_paced(at_work: Running, count: int) -> dict[str, float]:
    """Sends commands one by one, at random spacing, those together that are late.

    Returns:
        When each was sent, by the monotonic clock.
    """
    pauses = random.Random(1)
    due = time.monotonic()
    work = at_work.make(count)
    times = []
    for _ in work:
        due += pauses.uniform(0.5, 1.5) / PER_SECOND
        times.append(due)
    sent: dict[str, float] = {}
    while len(sent) < count:
        first = len(sent)
        time.sleep(max(0.0, times[first] - time.monotonic()))
        now, last = time.monotonic(), first + 1
        while last < count and times[last] <= now:
            last += 1
        begun = send(at_work.producer, work[first:last])
        sent.update((message["id"], begun) for message in work[first:last])
    return sent
