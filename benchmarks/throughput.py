"""Commands per second: one worker on one core, until everything that was queued has ended."""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.arena import Arena, BenchmarkError, open_arena
from benchmarks.follower import Follower
from benchmarks.work import IMAGE_CHARACTERS, messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.contenders.contender import Contender
    from benchmarks.plan import Plan
    from benchmarks.processes import Cores

# A worker that is this much slower than expected is broken, not slow.
PATIENCE = 20.0
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a run is made of.

    Attributes:
        seconds: about how long it takes a contender that is as fast as it is said to be.
        latency_ms: of the stub.
        size: characters of each image.
        warm_up_seconds: the same as `seconds`, for what is not counted.
    """

    seconds: float
    latency_ms: int = 50
    size: int = IMAGE_CHARACTERS
    warm_up_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Rate:
    """What one run came to.

    Attributes:
        seconds: from before the first message was queued to the last event.
        enqueuing_seconds: how much of that the producer took, on the other core.
        cpu_seconds: of the worker's whole tree in that time.
        memory_bytes: the most that the tree held.
        twice: commands that were told to have ended more than once.
    """

    contender: str
    latency_ms: int
    commands: int
    seconds: float
    enqueuing_seconds: float
    cpu_seconds: float
    memory_bytes: int
    twice: int

    @property
    def per_second(self) -> float:
        """Commands per second."""
        return self.commands / self.seconds

    @property
    def cpu_seconds_per_1000(self) -> float:
        """Seconds of the worker's core for a thousand commands."""
        return self.cpu_seconds / self.commands * 1000

    def as_json(self) -> dict[str, Any]:
        """Returns everything, rates included."""
        rates = {
            "per_second": self.per_second,
            "cpu_seconds_per_1000": self.cpu_seconds_per_1000,
        }
        return asdict(self) | rates


def run(plan: Plan, latency_ms: int = 50) -> Iterator[dict[str, Any]]:
    """Yields each run as it ends: A B C, A B C, so that slow minutes of a machine hit all."""
    load = Load(plan.seconds, latency_ms)
    for number in range(plan.rounds):
        for contender in plan.contenders:
            yield {"round": number, **measure(contender, load, plan.cores).as_json()}


def measure(contender: Contender, load: Load, cores: Cores, **settings: str) -> Rate:
    """Returns what one run of a contender came to, in an arena of its own."""
    with open_arena(cores, latency_ms=load.latency_ms) as arena:
        return measure_in(arena, contender, load, **settings)


def measure_in(arena: Arena, contender: Contender, load: Load, **settings: str) -> Rate:
    """Returns what one run came to; the worker is warm when it begins, and its queue empty.

    Raises:
        BenchmarkError: not everything ended in time.
    """
    run = uuid.uuid4().hex[:8]
    expected = contender.per_second_at(load.latency_ms)
    warm_up = max(contender.places, int(expected * load.warm_up_seconds))
    count = max(50, int(expected * load.seconds))
    work = messages(run, 0, warm_up + count, size=load.size)
    follower = Follower(arena.redis, contender.stream)
    producer = contender.producer(arena.server.url)
    worker = arena.start(contender, contender.places_for(load.latency_ms), **settings)
    try:
        producer.enqueue(work[:warm_up])
        if not follower.until(warm_up, START_SECONDS + load.warm_up_seconds * PATIENCE):
            raise BenchmarkError(f"{contender.name} did not warm up:\n{arena.last_lines()}")
        most = worker.memory_bytes()

        def look() -> None:
            nonlocal most
            most = max(most, worker.memory_bytes())

        cpu = worker.cpu_seconds()
        begun = time.time()
        producer.enqueue(work[warm_up:])
        enqueued = time.time()
        if not follower.until(warm_up + count, 30 + load.seconds * PATIENCE, look=look):
            done = len(follower.ends) - warm_up
            raise BenchmarkError(f"{contender.name}: {done} of {count}\n{arena.last_lines()}")
        return Rate(
            contender=contender.name,
            latency_ms=load.latency_ms,
            commands=count,
            seconds=follower.last_ms / 1000 - begun,
            enqueuing_seconds=enqueued - begun,
            cpu_seconds=worker.cpu_seconds() - cpu,
            memory_bytes=most,
            twice=sum(ends > 1 for ends in follower.ends.values()),
        )
    finally:
        producer.close()
        worker.stop()
