"""A contender at work: its worker, its producer, and a follower of its events."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from benchmarks.follower import Follower
from benchmarks.work import IMAGE_CHARACTERS, Message, messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.contenders.contender import Contender, Producer
    from benchmarks.processes import Measured
    from benchmarks.testbed import Testbed

# A worker that is this much slower than expected is broken, not slow.
PATIENCE = 20.0
START_SECONDS = 60.0


@dataclass(slots=True)
class Running:
    """One worker at work, and how much it was sent.

    Attributes:
        sent: how many messages so far; it is the number of the next one.
    """

    testbed: Testbed
    contender: Contender
    worker: Measured
    producer: Producer
    follower: Follower
    size: int = IMAGE_CHARACTERS
    sent: int = 0
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def make(self, count: int) -> list[Message]:
        """Returns the next messages; to be sent with `send`."""
        made = messages(self.run, self.sent, count, size=self.size)
        self.sent += count
        return made

    def send(self, count: int) -> None:
        """Sends the next messages."""
        self.producer.enqueue(self.make(count))

    def await_ends(
        self,
        count: int,
        seconds: float,
        *,
        look: Callable[[], object] = lambda: None,
    ) -> None:
        """Returns once `count` commands in all have ended.

        Raises:
            BenchmarkError: they have not in time.
        """
        if not self.follower.until(count, seconds, look=look):
            done = len(self.follower.ends)
            name = self.contender.name
            raise BenchmarkError(f"{name}: {done} of {count} ended\n{self.testbed.last_lines()}")

    def warm_up(self, count: int) -> None:
        """Has the worker carry out messages that nobody counts."""
        self.send(count)
        self.await_ends(self.sent, START_SECONDS + count / self.contender.per_second * PATIENCE)

    def hold(self, backlog: int, until: int, look: Callable[[], object] = lambda: None) -> None:
        """Sends as much as ends, until so many have ended.

        Args:
            backlog: how many wait or run all the while.
            until: how many have ended then, of all that were sent.
            look: called at each look.

        Raises:
            BenchmarkError: it takes too long.
        """
        seconds = START_SECONDS + (until - len(self.follower.ends)) / 50

        def top_up() -> None:
            missing = backlog - (self.sent - len(self.follower.ends))
            if missing > 0:
                self.send(missing)
            look()

        self.await_ends(until, seconds, look=top_up)


@contextmanager
def running(
    testbed: Testbed,
    contender: Contender,
    *,
    concurrency: int | None = None,
    size: int = IMAGE_CHARACTERS,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Starts a contender's worker; it is stopped at the end, and its producer closed.

    Args:
        testbed: where.
        contender: whose worker.
        concurrency: how many commands may be under way; what it is best with at 50 ms by default.
        size: characters of each image.
        settings: more of the worker's environment.
    """
    producer = contender.producer(testbed.server.url)
    worker = testbed.start(contender, concurrency or contender.concurrency, settings)
    follower = Follower(testbed.redis, contender.stream)
    at_work = Running(testbed, contender, worker, producer, follower, size)
    try:
        yield at_work
    finally:
        producer.close()
        at_work.worker.stop()
