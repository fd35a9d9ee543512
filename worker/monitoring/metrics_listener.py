"""Counts what telemetry tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typing_extensions import override

from schemas.commands import COMMAND_CLASSES
from schemas.enums import EventState, Priority
from schemas.events import ErrorCode
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.monitoring.loop_metrics import LoopCounter, LoopHistogram
    from worker.monitoring.metrics import Metrics
    from worker.queue.telemetry import RequestEnd, RunEnd, Settled

_OTHER: Final = "other"
_TYPES: Final = (*COMMAND_CLASSES, _OTHER)
_OUTCOMES: Final = ("succeeded", "failed")
# By where the command stands then; what waits otherwise has begun.
_EVENTS_OF: Final[dict[str, EventState]] = {
    "succeeded": EventState.SUCCEEDED,
    "failed": EventState.FAILED,
    "retrying": EventState.RETRYING,
    "in_doubt": EventState.IN_DOUBT,
}
_EVENTS: Final = (
    EventState.ACCEPTED,
    EventState.REJECTED,
    EventState.STARTED,
    *_EVENTS_OF.values(),
)


class MetricsListener(Listener):
    """Counts for Prometheus.

    It is called for each command, so what it counts with is looked up once.

    Args:
        metrics: to count in.
        operation_of: returns the name of a request's operation from its method and path.
    """

    def __init__(self, metrics: Metrics, operation_of: Callable[[str, str], str]) -> None:
        self._commands = metrics.commands
        self._runs = metrics.runs
        self._api = metrics.api
        self._process = metrics.process
        self._operation_of = operation_of
        # All of them are there from the start: of a counter that begins at 1 Prometheus sees no
        # increase.
        self._ended = {
            (command_type, outcome): metrics.commands.ended.labels(command_type, outcome)
            for command_type in _TYPES
            for outcome in _OUTCOMES
        }
        self._failures = {str(code): metrics.commands.failures.labels(code) for code in ErrorCode}
        self._dead_letters = {
            str(code): metrics.commands.dead_letters.labels(code) for code in ErrorCode
        }
        self._ends_of_runs: dict[tuple[str, str], tuple[LoopCounter, LoopHistogram]] = {}
        self._command_seconds = {
            each: metrics.commands.command_seconds.labels(each) for each in _TYPES
        }
        self._ends_of_requests: dict[tuple[str, int], tuple[LoopCounter, LoopHistogram]] = {}
        self._waiting = {lane: metrics.commands.waiting_seconds.labels(lane) for lane in Priority}
        self._events = {state: metrics.commands.events.labels(state) for state in _EVENTS}

    @override
    def accepted(self, count: int) -> None:
        """Each has an event."""
        self._commands.accepted.inc(count)
        self._events[EventState.ACCEPTED].inc(count)

    @override
    def rejected(self, codes: Sequence[str]) -> None:
        """Each has an event and a dead letter."""
        self._commands.rejected.inc(len(codes))
        self._events[EventState.REJECTED].inc(len(codes))
        for code in codes:
            self._dead_letters[code].inc()

    @override
    def claimed(self, command_id: str, lane: Priority, waited_seconds: float | None) -> None:
        """Only the first run of a command has waited for its turn."""
        if waited_seconds is not None:
            self._waiting[lane].observe(waited_seconds)

    @override
    def polled(self, late_seconds: float) -> None:
        """Holds, pauses and a lack of slots make polls late."""
        self._runs.poll_lateness_seconds.observe(late_seconds)

    @override
    def succeeded(self, end: RunEnd) -> None:
        """With how long it took in all."""
        self._run(end, "succeeded")
        self._ended[_type_of(end), "succeeded"].inc()
        self._command_seconds[_type_of(end)].observe(end.total_seconds)

    @override
    def snoozed(self, end: RunEnd) -> None:
        """It goes on later."""
        self._run(end, "waits")

    @override
    def retried(self, end: RunEnd) -> None:
        """It is tried again."""
        self._run(end, "retried")

    @override
    def failed(self, end: RunEnd) -> None:
        """With the reason."""
        self._run(end, "failed")
        self._ended[_type_of(end), "failed"].inc()
        self._failures[end.code].inc()

    @override
    def spared(self, end: RunEnd) -> None:
        """The lane stays paused."""
        self._run(end, "spared")

    @override
    def settled(self, batch: Sequence[Settled]) -> None:
        """With what was written of them."""
        observe = self._runs.settling_seconds.observe
        for each in batch:
            observe(each.seconds)
            if each.published:
                self._events[_EVENTS_OF.get(each.state, EventState.STARTED)].inc()
            if each.dead_letter:
                self._dead_letters[each.dead_letter].inc()

    @override
    def fenced(self, command_id: str, text: bytes, token: int) -> None:
        """Its work was in vain."""
        self._runs.leases_lost.inc()

    @override
    def lease_lost(self, command_id: str, text: bytes) -> None:
        """Its work was in vain."""
        self._runs.leases_lost.inc()

    @override
    def requested(self, end: RequestEnd) -> None:
        """By operation, for paths name what they are about."""
        key = (self._operation_of(end.method, end.path), end.status)
        counted = self._ends_of_requests.get(key)
        if counted is None:
            counted = (
                self._api.requests.labels(key[0], str(end.status)),
                self._api.request_seconds.labels(key[0]),
            )
            self._ends_of_requests[key] = counted
        counted[0].inc()
        counted[1].observe(end.seconds)
        self._api.turn_seconds.observe(end.waited_seconds)

    @override
    def held(self, seconds: float, reason: str) -> None:
        """The fleet pauses."""
        self._api.holds.inc()

    @override
    def lane_paused(self, lane: Priority, reason: str) -> None:
        """Somebody has to look."""
        self._commands.lanes_paused.labels(lane).inc()

    @override
    def breaker_moved(self, is_open: bool, failures: int, open_seconds: float) -> None:
        """The API goes, or is back."""
        self._api.breaker_open.set(int(is_open))

    @override
    def redis_lost(self, event: str, part: str, error: str, kind: str) -> None:
        """Redis has gone."""
        self._process.redis_outages.inc()

    def _run(self, end: RunEnd, outcome: str) -> None:
        if end.seconds is None:
            return
        key = (_type_of(end), outcome)
        counted = self._ends_of_runs.get(key)
        if counted is None:
            counted = (
                self._runs.ended.labels(*key),
                self._runs.run_seconds.labels(outcome),
            )
            self._ends_of_runs[key] = counted
        counted[0].inc()
        counted[1].observe(end.seconds)


def _type_of(end: RunEnd) -> str:
    """Returns a command's type; those of another version are not known here."""
    return end.command_type if end.command_type in COMMAND_CLASSES else _OTHER
