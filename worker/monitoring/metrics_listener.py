"""Counts what telemetry tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typing_extensions import override

from schemas.enums import EventState, Priority
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client import Counter, Histogram

    from worker.monitoring.metrics import Metrics
    from worker.queue.telemetry import RequestEnd, RunEnd, Settled

_NO_CODE: Final = ""
# By where the command stands then; what waits otherwise has begun.
_EVENTS_OF: Final[dict[str, EventState]] = {
    "succeeded": EventState.SUCCEEDED,
    "failed": EventState.FAILED,
    "retrying": EventState.RETRYING,
    "in_doubt": EventState.IN_DOUBT,
}


class MetricsListener(Listener):
    """Counts for Prometheus.

    It is called for each command, so what it counts with is looked up once.

    Args:
        metrics: to count in.
        operation_of: returns the name of a request's operation from its method and path.
    """

    def __init__(self, metrics: Metrics, operation_of: Callable[[str, str], str]) -> None:
        self._metrics = metrics
        self._operation_of = operation_of
        self._ended: dict[tuple[str, str, str], Counter] = {}
        self._runs: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._command_seconds: dict[str, Histogram] = {}
        self._requests: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._waiting = {lane: metrics.waiting_seconds.labels(lane) for lane in Priority}
        self._events = {state: metrics.events.labels(state) for state in EventState}

    @override
    def accepted(self, count: int) -> None:
        """Each has an event."""
        self._metrics.accepted.inc(count)
        self._events[EventState.ACCEPTED].inc(count)

    @override
    def rejected(self, codes: Sequence[str]) -> None:
        """Each has an event and a dead letter."""
        self._metrics.rejected.inc(len(codes))
        self._events[EventState.REJECTED].inc(len(codes))
        for code in codes:
            self._metrics.dead_letters.labels(code).inc()

    @override
    def claimed(self, command_id: str, lane: Priority, waited_seconds: float | None) -> None:
        """Only the first run of a command has waited for its turn."""
        if waited_seconds is not None:
            self._waiting[lane].observe(waited_seconds)

    @override
    def succeeded(self, end: RunEnd) -> None:
        """With how long it took in all."""
        self._run(end, "succeeded")
        self._end(end, _NO_CODE)
        histogram = self._command_seconds.get(end.command_type)
        if histogram is None:
            histogram = self._metrics.command_seconds.labels(end.command_type)
            self._command_seconds[end.command_type] = histogram
        histogram.observe(end.total_seconds)

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
        self._end(end, end.code)

    @override
    def spared(self, end: RunEnd) -> None:
        """The lane stays paused."""
        self._run(end, "spared")

    @override
    def settled(self, batch: Sequence[Settled]) -> None:
        """With what was written of them."""
        observe = self._metrics.settling_seconds.observe
        for each in batch:
            observe(each.seconds)
            if each.published:
                self._events[_EVENTS_OF.get(each.state, EventState.STARTED)].inc()
            if each.dead_letter:
                self._metrics.dead_letters.labels(each.dead_letter).inc()

    @override
    def fenced(self, command_id: str, text: bytes, token: int) -> None:
        """Its work was in vain."""
        self._metrics.leases_lost.inc()

    @override
    def requested(self, end: RequestEnd) -> None:
        """By operation, for paths name what they are about."""
        key = (self._operation_of(end.method, end.path), end.status)
        counted = self._requests.get(key)
        if counted is None:
            counted = (
                self._metrics.requests.labels(key[0], str(end.status)),
                self._metrics.request_seconds.labels(key[0]),
            )
            self._requests[key] = counted
        counted[0].inc()
        counted[1].observe(end.seconds)
        self._metrics.turn_seconds.observe(end.waited_seconds)

    @override
    def held(self, seconds: float, reason: str) -> None:
        """The fleet pauses."""
        self._metrics.holds.inc()

    @override
    def lane_paused(self, lane: Priority, reason: str) -> None:
        """Somebody has to look."""
        self._metrics.lanes_paused.labels(lane).inc()

    @override
    def breaker_moved(self, is_open: bool, failures: int, open_seconds: float) -> None:
        """The API goes, or is back."""
        self._metrics.breaker_open.set(int(is_open))

    @override
    def redis_lost(self, event: str, part: str, error: str, kind: str) -> None:
        """Redis has gone."""
        self._metrics.redis_outages.inc()

    def _run(self, end: RunEnd, outcome: str) -> None:
        key = (end.command_type, outcome)
        counted = self._runs.get(key)
        if counted is None:
            counted = (
                self._metrics.runs.labels(*key),
                self._metrics.run_seconds.labels(outcome),
            )
            self._runs[key] = counted
        counted[0].inc()
        counted[1].observe(end.seconds)

    def _end(self, end: RunEnd, code: str) -> None:
        key = (end.command_type, end.state, code)
        counter = self._ended.get(key)
        if counter is None:
            counter = self._ended[key] = self._metrics.ended.labels(*key)
        counter.inc()
