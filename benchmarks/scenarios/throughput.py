"""Commands per second: one worker on one core, until everything that was queued has ended."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.processes import MemoryPeak
from benchmarks.rounds import in_rounds
from benchmarks.running import PATIENCE, START_SECONDS, running
from benchmarks.testbed import open_testbed
from benchmarks.work import IMAGE_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.contenders.contender import Contender
    from benchmarks.plan import Plan
    from benchmarks.processes import Cores
    from benchmarks.testbed import Testbed

LATENCY_MS = 50
SLOW_LATENCY_MS = 500
LEAST_COMMANDS = 50
# What the layer of HTTP costs over TLS is the same for every queue on the same layer.
OVER_TLS = ("trainmaster", "bullmq", "bee-queue", "bare-transport", "bare-aiohttp")


@dataclass(frozen=True, slots=True)
class Load:
    """What a run is made of.

    Attributes:
        seconds: about how long it takes a contender that is as fast as it is said to be.
        latency_ms: of the stub.
        size: characters of each image.
        tls: whether the stub speaks TLS.
        warm_up_seconds: the same as `seconds`, for what is not counted.
    """

    seconds: float
    latency_ms: int = LATENCY_MS
    size: int = IMAGE_CHARACTERS
    tls: bool = False
    warm_up_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Rate:
    """What one run came to.

    Attributes:
        seconds: from before the first message was queued to the last event.
        enqueuing_seconds: how much of that the producer took, on the other core.
        cpu_seconds: of the worker's whole tree in that time.
        redis_cpu_seconds: of Redis in that time.
        stub_cpu_seconds: of the stub in that time.
        memory_bytes: the most that the worker's tree held.
        twice: commands that were told to have ended more than once.
    """

    contender: str
    latency_ms: int
    commands: int
    seconds: float
    enqueuing_seconds: float
    cpu_seconds: float
    redis_cpu_seconds: float
    stub_cpu_seconds: float
    memory_bytes: int
    twice: int

    def as_json(self) -> dict[str, Any]:
        """Returns everything, and the rates that follow from it."""
        rates = {
            "per_second": self.commands / self.seconds,
            "cpu_seconds_per_1000": self.cpu_seconds / self.commands * 1000,
        }
        return asdict(self) | rates


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields each run at 50 ms as it ends."""
    return _rounds(plan.contenders, Load(plan.seconds), plan, plan.rounds)


def run_slow(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields each run at 500 ms as it ends, one round of them."""
    return _rounds(plan.contenders, Load(plan.seconds, SLOW_LATENCY_MS), plan, 1)


def run_tls(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields each run over TLS as it ends."""
    chosen = [one for one in plan.contenders if one.name in OVER_TLS]
    return _rounds(chosen, Load(plan.seconds, tls=True), plan, plan.rounds)


def _rounds(
    contenders: Sequence[Contender], load: Load, plan: Plan, rounds: int
) -> Iterator[dict[str, Any]]:
    """Yields A B C, A B C and so on, so that slow minutes of a machine hit all alike."""

    def rate(contender: Contender) -> Rate:
        return measure(contender, load, plan.cores)

    for number, _, found in in_rounds(rounds, contenders, rate):
        yield {"round": number, **found.as_json()}


def measure(contender: Contender, load: Load, cores: Cores) -> Rate:
    """Returns what one run of a contender came to, in a testbed of its own.

    Raises:
        BenchmarkError: not everything ended in time.
    """
    with open_testbed(cores, latency_ms=load.latency_ms, tls=load.tls) as testbed:
        return measure_in(testbed, contender, load)


def measure_in(
    testbed: Testbed, contender: Contender, load: Load, settings: Mapping[str, str] | None = None
) -> Rate:
    """Returns what one run came to; the worker is warm when it begins, and its queue empty.

    Args:
        testbed: where.
        contender: whose worker.
        load: what it is sent.
        settings: more of the worker's environment.

    Raises:
        BenchmarkError: not everything ended in time.
    """
    concurrency = contender.concurrency_for(load.latency_ms)
    expected = contender.per_second_at(load.latency_ms)
    count = max(LEAST_COMMANDS, int(expected * load.seconds))
    with running(
        testbed, contender, concurrency=concurrency, size=load.size, settings=settings
    ) as at_work:
        at_work.warm_up(max(concurrency, int(expected * load.warm_up_seconds)))
        worker = at_work.worker
        work = at_work.make(count)
        memory = MemoryPeak(worker)
        memory.look()
        before = _cpu(testbed)
        cpu = worker.cpu_seconds()
        begun = time.time()
        at_work.producer.enqueue(work)
        enqueued = time.time()
        at_work.await_ends(at_work.sent, START_SECONDS + load.seconds * PATIENCE, look=memory.look)
        after = _cpu(testbed)
        return Rate(
            contender=contender.name,
            latency_ms=load.latency_ms,
            commands=count,
            seconds=at_work.follower.last_ms / 1000 - begun,
            enqueuing_seconds=enqueued - begun,
            cpu_seconds=worker.cpu_seconds() - cpu,
            redis_cpu_seconds=after[0] - before[0],
            stub_cpu_seconds=after[1] - before[1],
            memory_bytes=memory.bytes,
            twice=sum(ends > 1 for ends in at_work.follower.ends.values()),
        )


def _cpu(testbed: Testbed) -> tuple[float, float]:
    return testbed.redis_cpu_seconds(), testbed.stub.cpu_seconds()
