"""Interactive commands while a backlog of bulk ones is worked off. Of trainmaster alone.

The backlog is accepted before its lane is resumed, and never falls below its size while it is
measured. Interactive commands have a stream of events to themselves, so that whoever listens does
not read those of the bulk ones.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.contenders.ours import NAMESPACE
from benchmarks.contenders.registry import OURS
from benchmarks.errors import BenchmarkError
from benchmarks.running import START_SECONDS, Running, running
from benchmarks.scenarios.backlog import await_accepted, pause, resume
from benchmarks.scenarios.latency import Listener, heard, send
from benchmarks.statistics import percentile
from benchmarks.testbed import open_testbed
from schemas.enums import Priority
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plan import Plan
    from benchmarks.processes import Cores

LATENCY_MS: Final = 50
BACKLOG: Final = 100_000
SHORT_BACKLOG: Final = 5_000
COMMANDS: Final = 400
SHORT_COMMANDS: Final = 100
MEAN_PAUSE_SECONDS: Final = 0.025
# Bulk commands that end before the first interactive one is sent.
WARM_UP: Final = 2_000
# More than a worker does: so many a second are there beyond the backlog.
FASTEST: Final = 6_000
REPLY_TO: Final = "interactive"
_PART = 20_000


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields what interactive commands take while the bulk lane waits, and while it runs."""
    for number in range(plan.rounds):
        backlog = SHORT_BACKLOG if plan.short else BACKLOG
        count = SHORT_COMMANDS if plan.short else COMMANDS
        for record in measure(backlog, count, plan.cores):
            yield {"round": number, "backlog": backlog, "commands": count, **record}


def measure(backlog: int, count: int, cores: Cores) -> Iterator[dict[str, Any]]:
    """Yields a record before the bulk lane is resumed, and one while it runs.

    Raises:
        BenchmarkError: an event did not come, or too little of the backlog was left.
    """
    with (
        open_testbed(cores, latency_ms=LATENCY_MS) as testbed,
        running(testbed, OURS) as at_work,
    ):
        pause(testbed, Priority.BULK)
        _fill(at_work, backlog + WARM_UP + int(FASTEST * count * MEAN_PAUSE_SECONDS * 1.5))
        with Listener(testbed.server.url, Keys(NAMESPACE).replies(REPLY_TO)) as listener:
            yield {"way": "waits", **_told(_send(at_work, listener, count))}
            resume(testbed, Priority.BULK)
            follower = at_work.follower
            at_work.await_ends(len(follower.ends) + WARM_UP, START_SECONDS)
            begun, ended = time.monotonic(), follower.read()
            milliseconds = _send(at_work, listener, count)
            seconds, now_ended = time.monotonic() - begun, follower.read()
        if at_work.sent - now_ended < backlog:
            raise BenchmarkError(f"{at_work.sent - now_ended} of {backlog} bulk commands were left")
        rate = (now_ended - ended - count) / seconds
        yield {"way": "runs", "bulk_per_second": rate, **_told(milliseconds)}
        # What is left would hold up the worker's end in good order.
        at_work.worker.kill()


def _fill(at_work: Running, count: int) -> None:
    """Has so many bulk commands accepted."""
    while at_work.sent < count:
        work = at_work.make(min(_PART, count - at_work.sent))
        at_work.producer.enqueue([{**message, "priority": Priority.BULK} for message in work])
    await_accepted(at_work, count)


def _send(at_work: Running, listener: Listener, count: int) -> list[float]:
    """Returns the latency of each interactive command in milliseconds."""
    pauses = random.Random(1)
    sent: dict[str, float] = {}
    for _ in range(count):
        work = [{**message, "replyto": REPLY_TO} for message in at_work.make(1)]
        time.sleep(pauses.uniform(0.5, 1.5) * MEAN_PAUSE_SECONDS)
        sent[work[0]["id"]] = send(at_work.producer, work)
    return heard(at_work, listener, sent)


def _told(milliseconds: list[float]) -> dict[str, float]:
    return {
        "p50_ms": percentile(milliseconds, 0.50),
        "p99_ms": percentile(milliseconds, 0.99),
        "most_ms": max(milliseconds),
    }
