"""What the benchmarks need to know of a contender."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Protocol

from benchmarks.work import EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.work import Message


# After so long a worker that is silent counts as dead, where a contender lets one say so.
RECOVERY_SECONDS: Final = 10


# Up to this latency a contender has its usual concurrency.
FAST_MS: Final = 100


class Producer(Protocol):
    """Puts messages on a contender's queue."""

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Adds messages, as fast as the contender's own producer can."""

    def close(self) -> None:
        """Closes connections."""


class Contender(ABC):
    """A queue, or a loop without one.

    Attributes:
        name: for the command line and the raw results.
        title: for people.
        settings: what it was told, for people.
        concurrency: how many commands it has under way at 50 ms; each has what it is best with.
        slow_concurrency: the same at 500 ms; where a slot is a process, more would not fit a core.
        per_second: about what it does on one core at 50 ms; only the length of a run depends on it.
        queued: whether there is a queue, so that a killed worker's messages can come back.
        language: of its worker.
        validates: what it compares with a schema, for people.
        record: what it keeps of a command besides the message that waits, for people.
        events: how many are told of a command that succeeds.
        lost_answer: what becomes of a call that creates something when its answer is lost, or the
            worker dies before it.
    """

    name: str
    title: str
    settings: str
    concurrency: int
    slow_concurrency: int
    per_second: int
    queued: bool = True
    language: str = "Python"
    validates: str = "nothing"
    record: str = "none"
    events: int = 1
    lost_answer: str = "sent again when the job runs again"
    stream: str = EVENTS

    @property
    def installed(self) -> bool:
        """Whether it can take part here."""
        return True

    @abstractmethod
    def command(self, concurrency: int) -> list[str]:
        """Returns the worker's command line."""

    def environment(self, redis_url: str, folder: Path, concurrency: int) -> dict[str, str]:  # noqa: ARG002 - most need none
        """Returns what the worker finds in its environment, besides what all find there."""
        return {}

    def quick_recovery(self) -> dict[str, str]:
        """Returns settings by which a dead worker is noticed after `RECOVERY_SECONDS`.

        They are for contenders that take them from the environment and have others by default.
        """
        return {}

    @abstractmethod
    def producer(self, redis_url: str) -> Producer:
        """Returns a producer."""

    def concurrency_for(self, latency_ms: int) -> int:
        """Returns the concurrency it is best with at a latency."""
        return self.concurrency if latency_ms <= FAST_MS else self.slow_concurrency

    def per_second_at(self, latency_ms: int) -> float:
        """Returns about what it does at a latency: no more than its concurrency allows."""
        return min(self.per_second, self.concurrency_for(latency_ms) / (max(latency_ms, 1) / 1000))


def program(name: str) -> str:
    """Returns a program of this environment."""
    return f"{sys.exec_prefix}/bin/{name}"
