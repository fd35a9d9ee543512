"""Counts what telemetry tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from typing_extensions import override

from schemas.commands import COMMAND_CLASSES
from schemas.enums import EventState, Priority
from schemas.events import ErrorCode
from worker.queue.telemetry import Listener, RunOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.monitoring.loop_metrics import LoopCounter, LoopHistogram
    from worker.monitoring.metrics import Metrics
    from worker.queue.telemetry import RequestEnd, RunEnd, Settled

_OTHER: Final = "other"
_TYPES: Final = (*COMMAND_CLASSES, _OTHER)
_ENDS: Final = (RunOutcome.SUCCEEDED, RunOutcome.FAILED)
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


class _RunSeries(NamedTuple):
    """What runs of one type and outcome are counted in; None where the command goes on."""

    runs: LoopCounter
    run_seconds: LoopHistogram
    ended: LoopCounter | None
    command_seconds: LoopHistogram | None


class MetricsListener(Listener):
    """Counts for Prometheus: of runs what the ledger has recorded, and no run that was fenced.

    It is called for each command, so what it counts with is looked up once, and what can wait for
    a moment is counted together with others: code that has just run costs a fraction.

    Args:
        metrics: to count in.
        operation_of: returns the name of a request's operation from its method and path.
        soon: calls something in the next turn of the loop.
    """

    def __init__(
        self,
        metrics: Metrics,
        operation_of: Callable[[str, str], str],
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._commands = metrics.commands
        self._runs = metrics.runs
        self._api = metrics.api
        self._process = metrics.process
        self._operation_of = operation_of
        self._soon = soon
        self._requests: list[RequestEnd] = []
        # All of them are there from the start: of a counter that begins at 1 Prometheus sees no
        # increase.
        for command_type in _TYPES:
            metrics.commands.command_seconds.labels(command_type)
            for outcome in _ENDS:
                metrics.commands.ended.labels(command_type, outcome)
        self._failures = {str(code): metrics.commands.failures.labels(code) for code in ErrorCode}
        self._dead_letters = {
            str(code): metrics.commands.dead_letters.labels(code) for code in ErrorCode
        }
        self._series_of_runs: dict[tuple[str, RunOutcome], _RunSeries] = {}
        self._ends_of_requests: dict[tuple[str, int], tuple[LoopCounter, LoopHistogram]] = {}
        self._waiting = {lane: metrics.commands.waiting_seconds.labels(lane) for lane in Priority}
        self._events = {state: metrics.commands.events.labels(state) for state in _EVENTS}
        self._started = self._events[EventState.STARTED]
        self._events_of = {state: self._events[of] for state, of in _EVENTS_OF.items()}

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
    def polled(self, late_seconds: float) -> None:
        """Holds, pauses and a lack of slots make polls late."""
        self._runs.poll_lateness_seconds.observe(late_seconds)

    @override
    def settled(self, batch: Sequence[Settled]) -> None:
        """What came of the runs, and what was written of them."""
        observe, events = self._runs.settling_seconds.observe, self._events_of
        for each in batch:
            observe(each.seconds)
            if each.published:
                events.get(each.state, self._started).inc()
            if each.dead_letter:
                self._dead_letters[each.dead_letter].inc()
            if each.end is not None:
                self._count(each.end)

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
        """Counted in a moment, together with the others that ended in this turn of the loop."""
        self._requests.append(end)
        if len(self._requests) == 1:
            self._soon(self._count_requests)

    def _count_requests(self) -> None:
        ended, self._requests = self._requests, []
        for end in ended:
            self._count_request(end)

    def _count_request(self, end: RequestEnd) -> None:
        # By operation, for paths name what they are about.
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

    def _count(self, end: RunEnd) -> None:
        key = (end.command_type, end.outcome)
        runs, run_seconds, ended, command_seconds = self._series_of_runs.get(key) or self._find(key)
        if end.seconds is not None:
            runs.inc()
            run_seconds.observe(end.seconds)
        if end.waited_seconds is not None:
            self._waiting[end.lane].observe(end.waited_seconds)
        if ended is not None:
            ended.inc()
        if command_seconds is not None:
            command_seconds.observe(end.total_seconds)
        elif end.outcome is RunOutcome.FAILED:
            self._failures[end.code].inc()

    def _find(self, key: tuple[str, RunOutcome]) -> _RunSeries:
        """Returns the series of runs; those of a type that is not known here have some together."""
        command_type, outcome = key
        if command_type not in COMMAND_CLASSES and command_type != _OTHER:
            # Not kept under its name: there may be any number of them.
            key = (_OTHER, outcome)
            return self._series_of_runs.get(key) or self._find(key)
        commands = self._commands
        found = self._series_of_runs[key] = _RunSeries(
            self._runs.ended.labels(*key),
            self._runs.run_seconds.labels(outcome),
            commands.ended.labels(*key) if outcome in _ENDS else None,
            commands.command_seconds.labels(command_type)
            if outcome is RunOutcome.SUCCEEDED
            else None,
        )
        return found
