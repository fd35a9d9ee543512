"""Latency at rest: from before a message is queued until its event is read, with nothing to do."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

import orjson
from redis import Redis

from benchmarks.contenders.node_queues import NodeProducer
from benchmarks.errors import BenchmarkError
from benchmarks.rounds import in_rounds
from benchmarks.running import Running, running
from benchmarks.statistics import percentile
from benchmarks.testbed import open_testbed
from worker.queue.ledger.streams import of_one_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.contenders.contender import Contender, Producer
    from benchmarks.plan import Plan
    from benchmarks.processes import Cores
    from benchmarks.work import Message

# Of the stub: what is measured is the way through the queue.
LATENCY_MS = 0
# Enough for a compiler that works while programs run.
WARM_UP = 300
COMMANDS = 100
SHORT_COMMANDS = 40
MEAN_PAUSE_SECONDS = 0.05
PATIENCE_SECONDS = 30.0
_BLOCK_MS = 1_000


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields each contender's latencies, round by round."""
    count = SHORT_COMMANDS if plan.short else COMMANDS

    def latencies(contender: Contender) -> list[float]:
        return measure(contender, count, plan.cores)

    for number, contender, milliseconds in in_rounds(plan.rounds, plan.queued, latencies):
        yield {
            "round": number,
            "contender": contender.name,
            "commands": count,
            "p50_ms": percentile(milliseconds, 0.50),
            "p99_ms": percentile(milliseconds, 0.99),
            "milliseconds": [round(value, 2) for value in milliseconds],
        }


def measure(contender: Contender, count: int, cores: Cores) -> list[float]:
    """Returns the latency of each command in milliseconds.

    Raises:
        BenchmarkError: an event did not come.
    """
    with (
        open_testbed(cores, latency_ms=LATENCY_MS) as testbed,
        running(testbed, contender) as at_work,
    ):
        at_work.warm_up(WARM_UP)
        with Listener(testbed.server.url, contender.stream) as listener:
            return one_by_one(at_work, listener, count)


def one_by_one(at_work: Running, listener: Listener, count: int) -> list[float]:
    """Returns the latency in milliseconds of each of so many commands, at random spacing.

    Raises:
        BenchmarkError: an event did not come.
    """
    pauses = random.Random(1)
    sent: dict[str, float] = {}
    for _ in range(count):
        work = at_work.make(1)
        time.sleep(pauses.uniform(0.5, 1.5) * MEAN_PAUSE_SECONDS)
        sent[work[0]["id"]] = send(at_work.producer, work)
    return heard(at_work, listener, sent)


def heard(at_work: Running, listener: Listener, sent: Mapping[str, float]) -> list[float]:
    """Returns after how many milliseconds the end of each command was heard, once all were.

    Args:
        at_work: whose commands.
        listener: of the stream of its events.
        sent: when each command was sent, by the monotonic clock.

    Raises:
        BenchmarkError: an event did not come.
    """
    if not listener.wait(sent.keys(), PATIENCE_SECONDS):
        raise BenchmarkError(
            f"{at_work.contender.name}: events are missing\n{at_work.testbed.last_lines()}"
        )
    return [(listener.heard[name] - begun) * 1000 for name, begun in sent.items()]


def send(producer: Producer, work: Sequence[Message]) -> float:
    """Sends messages; returns when they were about to be sent, by the monotonic clock."""
    begun = time.monotonic()
    producer.enqueue(work)
    return producer.began if isinstance(producer, NodeProducer) else begun


class Listener:
    """Reads events the moment they come, in a thread of its own.

    Attributes:
        heard: when each command's end was read, by the monotonic clock.
    """

    def __init__(self, redis_url: str, stream: str) -> None:
        self._redis = Redis.from_url(redis_url)
        self._stream = stream
        self._since: bytes | str = "$"
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._stopped = False
        self.heard: dict[str, float] = {}

    def __enter__(self) -> Listener:
        newest = self._redis.xrevrange(self._stream, count=1)
        self._since = newest[0][0] if newest else "0-0"  # type: ignore[assignment]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.join()
        self._redis.close()

    def wait(self, names: Any, seconds: float) -> bool:
        """Returns whether all of these have ended within a time."""
        deadline = time.monotonic() + seconds
        while not names <= self.heard.keys():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _listen(self) -> None:
        while not self._stopped:
            reply = self._redis.xread({self._stream: self._since}, count=100, block=_BLOCK_MS)
            now = time.monotonic()
            for entry_id, fields in of_one_stream(reply):
                self._since = entry_id
                event = orjson.loads(fields[b"event"])
                if event["type"].endswith(".succeeded"):
                    self.heard.setdefault(event["subject"], now)
