"""What handlers of Encord's commands need: the API, its pace, and slots for creations."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.encord.api.client import MlModelsApi
from worker.queue.ledger.models import RowState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.encord.api.throttle import ThrottledTransport
    from worker.queue.lane_slots import LaneSlots
    from worker.queue.run_context import RunContext


@dataclass(frozen=True, slots=True)
class PollSchedule:
    """When to ask for a training again: a share of the time it has run, within bounds."""

    minimum_seconds: float = 10.0
    maximum_seconds: float = 300.0
    share: float = 0.05

    def interval_seconds(self, elapsed_seconds: float) -> float:
        """Returns the next interval, before jitter."""
        return min(self.maximum_seconds, max(self.minimum_seconds, elapsed_seconds * self.share))


class LongPolls:
    """Slots for long polls, which hold a request open; where many wait, polls are short."""

    def __init__(self, slots: int, seconds: float) -> None:
        self._free = slots
        self._seconds = seconds

    @contextmanager
    def slot(self, most_seconds: float) -> Iterator[int]:
        """Yields how many seconds a poll may stay open: 0 when no slot is free.

        Args:
            most_seconds: when the wait for the training ends, a second more or less.
        """
        seconds = min(60, int(self._seconds), math.ceil(most_seconds))
        if self._free < 1 or seconds < 1:
            yield 0
            return
        self._free -= 1
        try:
            yield seconds
        finally:
            self._free += 1


@dataclass(frozen=True, slots=True)
class Encord:
    """What all runs of a process that ask Encord's API share.

    Attributes:
        transport: the way to the API, through the limits of the fleet.
        creations: slots between the intent of a creation and its end. A worker that is killed
            leaves no more commands in doubt than there are slots.
        doubt_seconds: how long a creation in doubt is looked for.
    """

    transport: ThrottledTransport
    polls: PollSchedule
    long_polls: LongPolls
    creations: LaneSlots
    doubt_seconds: float

    @classmethod
    def of(cls, run: RunContext[Any]) -> Encord:
        """Returns that of a run."""
        return run.dependencies.service(cls)


def api_of(run: RunContext[Any]) -> MlModelsApi:
    """Returns the API's client; it starts no call past the command's deadline.

    Whoever is in doubt may ask later too: asking starts nothing, and not asking would leave the
    outcome unknown.
    """
    transport, lane = Encord.of(run).transport, run.lease.lane
    deadline = None if run.state is RowState.IN_DOUBT else run.command.deadline
    ends_at = None if deadline is None else deadline.timestamp()
    return MlModelsApi(transport.until(ends_at, lane, run.turn))
