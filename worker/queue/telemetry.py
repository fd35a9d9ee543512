"""What happens in a worker, told to whoever listens.

Whoever has something to tell calls one method of a `Listener`, and knows nobody who hears it. Logs
are one listener, see `worker.queue.log_listener`; `Telemetry` tells several. All of them are built
in `worker.bootstrap.monitoring`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import structlog

from schemas.partial import read_partial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from schemas.claim_check import ClaimCheck
    from schemas.commands import Command
    from schemas.enums import Priority
    from schemas.partial import PartialCommand

log = structlog.get_logger(__name__)

CONTEXT = ("correlationid", "traceparent")


@dataclass(frozen=True, slots=True)
class SentCommand:
    """A command as it was sent.

    Attributes:
        command_id: of a group's member what people see, like `night/17`.
        origin: names the entry that it came in, see `worker.queue.ledger.keys`.
        group: whose member it is; empty for a command of its own.
        context: what its sender wants to find in every event, `traceparent` above all.
    """

    command_id: str
    command_type: str
    lane: Priority
    origin: str
    group: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunStart:
    """A run that begins; times are seconds since the epoch, by the clock of all workers.

    Attributes:
        token: of its lease: no other run of the command has it.
        attempts: made before this one.
        claims: since the last run that came to an end, this one included.
        accepted_at: when the ledger took the command.
        begun_at: when the run begins.
        waiting_since: since when the command has waited for it, None where that is not known.
        waits_for: what it has waited for: `slot`, or `retry` after an attempt that failed.
    """

    sent: SentCommand
    token: int
    attempts: int
    claims: int
    accepted_at: float
    begun_at: float
    waiting_since: float | None = None
    waits_for: str = ""


class RunOutcome(StrEnum):
    """What came of a run."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    WAITS = "waits"
    """For something outside, such as a training."""
    SPARED = "spared"
    """A probe of a paused lane that failed: it is tried again, and nothing is counted."""


# This and what follows is made for each run. None of it is frozen, which takes twice as long.
@dataclass(slots=True)
class RunEnd:
    """How one run of a command ended.

    Attributes:
        command_id: of a group's member what people see, like `night/17`.
        state: where the command stands now: an end, or where it waits.
        attempts: made until now, this one included where it counts.
        seconds: of the run, None where it ended without one, as at a deadline that passed while it
            waited; of a command that has succeeded `total_seconds` counts from accepting.
        code: of the error, empty without one.
        delay_seconds: when it is looked at again, for a command that has not ended.
        waited_seconds: from accepting the command to its first run; None for a later one.
    """

    command_id: str
    command_type: str
    lane: Priority
    outcome: RunOutcome
    state: str
    attempts: int
    seconds: float | None
    total_seconds: float = 0.0
    code: str = ""
    message: str = ""
    delay_seconds: float = 0.0
    waited_seconds: float | None = None


@dataclass(slots=True)
class RequestEnd:
    """How one request to the service ended.

    Attributes:
        status: of HTTP; 0 without an answer.
        seconds: from its turn to its answer.
        waited_seconds: for its turn.
        code: of the error, empty without one.
    """

    method: str
    path: str
    status: int
    seconds: float
    waited_seconds: float
    code: str = ""


@dataclass(slots=True)
class Settled:
    """How the end of one run was recorded.

    Attributes:
        seconds: that it waited for that.
        state: where the command stands now.
        published: whether an event tells it.
        dead_letter: code of the error, where one was made of the command; else empty.
        command_id, token: of the run.
        end: what came of the run; None where it was handed back without having come to an end.
    """

    seconds: float
    state: str
    published: bool
    dead_letter: str = ""
    command_id: str = ""
    token: int = 0
    end: RunEnd | None = None


class Listener:
    """Hears what happens; each method does nothing unless a subclass says more.

    Methods are called on the worker's loop, in the middle of its work: they must not block. What
    they raise is logged and changes nothing.
    """

    def hears(self, name: str) -> bool:
        """Returns whether a method does anything; else nobody need gather what it is told."""
        return getattr(type(self), name) is not getattr(Listener, name)

    def accepted(self, count: int) -> None:
        """So many commands were accepted."""

    def received(self, batch: Sequence[SentCommand], destination: str, seconds: float) -> None:
        """Commands were read from a stream and accepted together, within so many seconds."""

    def rejected(self, codes: Sequence[str]) -> None:
        """Messages were rejected, for errors with these codes."""

    def run_begun(self, start: RunStart) -> None:
        """A run begins; told in its task, so that a context variable lasts for all of it."""

    def run_over(self, is_recorded: bool) -> None:
        """The run of this task is over, whatever else was told of its end.

        Args:
            is_recorded: whether its end goes to the ledger; not that of a run which has lost its
                command to another holder, or its ledger.
        """

    def polled(self, late_seconds: float) -> None:
        """A run looks again at what it waits for outside, so much later than was due."""

    def settled(self, batch: Sequence[Settled]) -> None:
        """The ends of runs were recorded."""

    def succeeded(self, end: RunEnd) -> None:
        """A command has succeeded."""

    def snoozed(self, end: RunEnd) -> None:
        """A command waits for something outside and is looked at again."""

    def retried(self, end: RunEnd) -> None:
        """An attempt has failed, and another one follows."""

    def failed(self, end: RunEnd) -> None:
        """A command has failed for good."""

    def spared(self, end: RunEnd) -> None:
        """A probe has failed; its lane stays paused and the command waits."""

    def fenced(self, command_id: str, text: bytes, token: int) -> None:
        """A run has lost its command to another holder, and records nothing."""

    def lease_lost(self, command_id: str, text: bytes) -> None:
        """A lease could not be renewed, for another holder has it; its run is broken off."""

    def requested(self, end: RequestEnd) -> None:
        """A request was sent, or could not be."""

    def held(self, seconds: float, reason: str) -> None:
        """The service asked the whole fleet to pause."""

    def lane_paused(self, lane: Priority, reason: str) -> None:
        """Nearly everything in a lane fails."""

    def lane_resumed(self, lane: Priority) -> None:
        """A probe of a paused lane has succeeded."""

    def breaker_moved(self, is_open: bool, failures: int, open_seconds: float) -> None:
        """The circuit breaker has opened or closed."""

    def redis_lost(self, event: str, part: str, error: str, kind: str) -> None:
        """Redis can't be reached; `event` names what has to wait for it."""

    def redis_still_lost(self, parts: list[str], error: str, kind: str, seconds: float) -> None:
        """Redis is away for so long; told every few seconds."""

    def redis_back(self, seconds: float) -> None:
        """Redis can be reached again, after so long."""


class Telemetry(Listener):
    """Tells several listeners, each whatever the others do."""

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self._listeners = tuple(listeners)
        self._heard: set[str] = set()
        for name, told in vars(Listener).items():
            if not name.startswith("_") and callable(told) and name != "hears":
                setattr(self, name, self._fan_out(name))
                if any(each.hears(name) for each in self._listeners):
                    self._heard.add(name)

    def hears(self, name: str) -> bool:
        """Returns whether one of the listeners does."""
        return name in self._heard

    def _fan_out(self, name: str) -> Callable[..., None]:
        """Returns what calls those listeners that say something of their own to it."""
        heard = [getattr(each, name) for each in self._listeners if each.hears(name)]

        def tell(*args: Any) -> None:
            for each in heard:
                try:
                    each(*args)
                except Exception:
                    log.exception("telemetry.listener_failed", told=name)

        return tell


def context_of(command: Command | ClaimCheck | PartialCommand) -> dict[str, Any]:
    """Returns what links the log lines of a command to those of other systems."""
    attributes = command.context()
    return {name: attributes[name] for name in CONTEXT if name in attributes}


def log_fields(command_id: str, text: bytes) -> dict[str, Any]:
    """Returns what a log line of a command carries; for lines outside of its run."""
    return {"command_id": command_id, **context_of(read_partial(text))}
