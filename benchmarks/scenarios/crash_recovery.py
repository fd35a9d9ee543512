"""What is lost, and what runs twice, when a worker is killed with half of its work done."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.contender import RECOVERY_SECONDS
from benchmarks.rounds import in_rounds
from benchmarks.running import PATIENCE, START_SECONDS, running
from benchmarks.testbed import open_testbed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.contenders.contender import Contender
    from benchmarks.plan import Plan
    from benchmarks.testbed import Testbed

LATENCY_MS = 50
SECONDS = 4.0
SHORT_SECONDS = 1.0
# So long nothing has come: what is missing is not coming.
QUIET_SECONDS = 3.0 * RECOVERY_SECONDS
# Longer nobody waits, though more may come back.
MOST_SECONDS = 60.0
# Some look for what a dead worker left only when something new comes.
NUDGE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class CrashResult:
    """What one kill came to.

    Attributes:
        commands: that were queued, those sent to keep the restarted worker awake not among them.
        lost: commands without any event.
        told_twice: commands with more than one event.
        called_twice: commands that reached the API more than once.
        seconds: from the kill to the last event.
        waited_seconds: how long it was waited for what is lost.
    """

    contender: str
    commands: int
    lost: int
    told_twice: int
    called_twice: int
    seconds: float
    waited_seconds: float


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields what became of each contender's commands."""
    seconds = SHORT_SECONDS if plan.short else SECONDS

    def killed(contender: Contender) -> CrashResult:
        with open_testbed(plan.cores, latency_ms=LATENCY_MS) as testbed:
            return kill(testbed, contender, seconds)

    for number, _, result in in_rounds(plan.rounds if plan.long else 1, plan.queued, killed):
        yield {"round": number, **asdict(result)}


def kill(testbed: Testbed, contender: Contender, seconds: float) -> CrashResult:
    """Returns what becomes of commands whose worker is killed and started again at once."""
    count = int(contender.per_second * seconds) + contender.concurrency
    settings = contender.quick_recovery()
    with running(testbed, contender, settings=settings) as at_work:
        at_work.warm_up(contender.concurrency)
        follower = at_work.follower
        begin = at_work.sent
        work = at_work.make(count)
        counted = {message["id"] for message in work}
        at_work.producer.enqueue(work)
        at_work.await_ends(begin + count // 2, START_SECONDS + seconds * PATIENCE)
        at_work.worker.kill()
        killed = time.time()
        at_work.worker = testbed.start(contender, contender.concurrency, settings)
        last = time.monotonic()
        ended = 0
        while time.monotonic() - last < QUIET_SECONDS and time.time() - killed < MOST_SECONDS:
            at_work.send(1)
            time.sleep(NUDGE_SECONDS)
            follower.read()
            now_ended = len(counted & follower.ends.keys())
            if now_ended == count:
                break
            if now_ended > ended:
                last, ended = time.monotonic(), now_ended
        calls = testbed.calls()
        at_work.worker.stop()
        ends = [follower.ends[name] for name in counted]
        return CrashResult(
            contender=contender.name,
            commands=count,
            lost=ends.count(0),
            told_twice=sum(number > 1 for number in ends),
            called_twice=sum(calls.get(name, 0) > 1 for name in counted),
            seconds=max(follower.times.get(name, killed) for name in counted) - killed,
            waited_seconds=time.time() - killed,
        )
