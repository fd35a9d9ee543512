"""The first command after a minute of rest, against the latency at rest of the same worker.

All contenders rest at the same time, each with a Redis and a stub of its own, and are woken one
after the other; or ten commands of each would take most of an hour.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.running import Running, running
from benchmarks.scenarios.latency import LATENCY_MS, WARM_UP, Listener, heard, one_by_one, send
from benchmarks.testbed import open_testbed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.contenders.contender import Contender
    from benchmarks.plan import Plan

# The fastest at rest.
CONTENDERS: Final = ("trainmaster", "taskiq", "bullmq", "bee-queue")
REST_SECONDS: Final = 60.0
# After 20 s without a command a worker of ours leaves its drain.
SHORT_REST_SECONDS: Final = 25.0
COMMANDS: Final = 10
SHORT_COMMANDS: Final = 2
AT_REST: Final = 100
# Between two contenders, so that one's end is not in the next one's beginning.
_APART_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Resting:
    """One contender's worker, who listens to it, and what it took so far in milliseconds."""

    at_work: Running
    listener: Listener
    at_rest: list[float]
    after: list[float]

    def wake(self) -> None:
        """Has the worker carry out one command."""
        work = self.at_work.make(1)
        sent = {work[0]["id"]: send(self.at_work.producer, work)}
        self.after.extend(heard(self.at_work, self.listener, sent))


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields what each contender's commands took, round by round."""
    rest = SHORT_REST_SECONDS if plan.short else REST_SECONDS
    count = SHORT_COMMANDS if plan.short else COMMANDS
    chosen = [one for one in plan.queued if one.name in CONTENDERS]
    for number in range(plan.rounds):
        with ExitStack() as stack:
            all_resting = [_start(stack, one, plan) for one in chosen]
            for _ in range(count):
                time.sleep(rest)
                for resting in all_resting:
                    time.sleep(_APART_SECONDS)
                    resting.wake()
            for resting in all_resting:
                yield {
                    "round": number,
                    "contender": resting.at_work.contender.name,
                    "rest_seconds": rest,
                    "milliseconds": resting.after,
                    "at_rest_milliseconds": resting.at_rest,
                }


def _start(stack: ExitStack, contender: Contender, plan: Plan) -> Resting:
    """Starts a contender's worker and measures it at rest, while the others before it rest."""
    testbed = stack.enter_context(open_testbed(plan.cores, latency_ms=LATENCY_MS))
    at_work = stack.enter_context(running(testbed, contender))
    at_work.warm_up(WARM_UP)
    listener = stack.enter_context(Listener(testbed.server.url, contender.stream))
    return Resting(at_work, listener, one_by_one(at_work, listener, AT_REST), [])
