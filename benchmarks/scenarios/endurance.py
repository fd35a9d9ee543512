"""The worker's memory over a million commands. Of trainmaster alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.registry import OURS
from benchmarks.running import running
from benchmarks.testbed import open_testbed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plan import Plan

LATENCY_MS = 50
COMMANDS = 1_000_000
SHORT_COMMANDS = 10_000
SAMPLES = 100
BACKLOG = 5_000


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields the worker's memory after each hundredth of the commands."""
    count = SHORT_COMMANDS if plan.short else COMMANDS
    with (
        open_testbed(plan.cores, latency_ms=LATENCY_MS) as testbed,
        running(testbed, OURS) as at_work,
    ):
        begun = time.monotonic()
        for number in range(1, SAMPLES + 1):
            at_work.hold(BACKLOG, count * number // SAMPLES)
            yield {
                "commands": len(at_work.follower.ends),
                "seconds": time.monotonic() - begun,
                "cpu_seconds": at_work.worker.cpu_seconds(),
                "memory_bytes": at_work.worker.memory_bytes(),
                "redis_memory_bytes": testbed.memory_bytes(),
                "twice": sum(ends > 1 for ends in at_work.follower.ends.values()),
            }
