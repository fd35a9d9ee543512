"""One command sent three times with the same id: twice while it runs, and once after its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.rounds import in_rounds
from benchmarks.running import START_SECONDS, running
from benchmarks.testbed import open_testbed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.contenders.contender import Contender
    from benchmarks.plan import Plan
    from benchmarks.processes import Cores

# So long that the second message comes while the first one runs.
LATENCY_MS: Final = 1_000
# After so long without a further call there is none to come.
QUIET_SECONDS: Final = 3.0


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields how often each contender called the API."""

    def calls(contender: Contender) -> int:
        return measure(contender, plan.cores)

    for _, contender, count in in_rounds(1, plan.queued, calls):
        yield {"contender": contender.name, "calls": count}


def measure(contender: Contender, cores: Cores) -> int:
    """Returns how often the API was called for one id.

    Raises:
        BenchmarkError: the command did not end.
    """
    with (
        open_testbed(cores, latency_ms=LATENCY_MS) as testbed,
        running(testbed, contender) as at_work,
    ):
        at_work.warm_up(1)
        work = at_work.make(1)
        name = work[0]["id"]
        at_work.producer.enqueue(work)
        at_work.producer.enqueue(work)
        at_work.await_ends(at_work.sent, START_SECONDS)
        time.sleep(QUIET_SECONDS)
        at_work.producer.enqueue(work)
        calls, last = testbed.calls()[name], time.monotonic()
        while time.monotonic() - last < QUIET_SECONDS:
            time.sleep(0.1)
            if (now := testbed.calls()[name]) > calls:
                calls, last = now, time.monotonic()
        return calls
