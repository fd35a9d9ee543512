"""Makes spans of what telemetry tells."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanKind,
    Status,
    StatusCode,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from structlog.contextvars import bind_contextvars, unbind_contextvars
from typing_extensions import override

from worker.queue.ledger.keys import GROUP as INTAKE_GROUP
from worker.queue.ledger.models import RowState
from worker.queue.telemetry import Listener
from worker.redaction import redact_text
from worker.tracing.attributes import (
    ATTEMPT,
    BATCH_COUNT,
    CLAIMS,
    CONSUMER_GROUP,
    DELAY_SECONDS,
    ERROR_TYPE,
    MESSAGE_ID,
    OUTCOME,
    WAITS_FOR,
    messaging,
    operation,
)
from worker.tracing.contexts import CreationContexts, destination_of, link_to

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.queue.ledger.keys import Keys
    from worker.queue.telemetry import RequestEnd, RunEnd, RunStart, SentCommand, Settled
    from worker.tracing.api_spans import ApiSpans
    from worker.tracing.attributes import Attributes
    from worker.tracing.sdk import Tracing

# A wait that is shorter is none.
SHOWN_WAIT_SECONDS: Final = 0.01
# A run that lists thousands of pages is told by its first ones.
MOST_REQUESTS: Final = 256
# Ends that are not recorded are kept for their spans; were Redis away, they are as many as slots.
MOST_UNSETTLED: Final = 16_384
HANDED_BACK: Final = "handed_back"
LOST: Final = "lost"
_S: Final = 1_000_000_000
_ENDED: Final = frozenset(state.value for state in RowState if state.ended)


@dataclass(slots=True)
class _Run:
    """A run that is under way, with what it did so far."""

    span: Span
    start: RunStart
    destination: str
    begun_ns: int
    parent: Context
    began: int = field(default_factory=time.monotonic_ns)
    requests: list[tuple[int, RequestEnd]] = field(default_factory=list)
    end: RunEnd | None = None

    def now_ns(self) -> int:
        """Nanoseconds since the epoch by the workers' clock, which never goes back within a run."""
        return self.begun_ns + time.monotonic_ns() - self.began


_RUN: ContextVar[_Run | None] = ContextVar("traced_run", default=None)


class TracingListener(Listener):
    """Hands out the spans of runs, of what they asked the API, and of batches.

    Args:
        tracing: takes spans.
        namespace: of the commands.
        keys: of the namespace.
        requests: tells what requests are called.
        now: seconds since the epoch, by the clock of all workers.
    """

    def __init__(
        self,
        tracing: Tracing,
        namespace: str,
        keys: Keys,
        requests: ApiSpans,
        now: Callable[[], float],
    ) -> None:
        self._tracer = tracing.tracer
        self._namespace = namespace
        self._keys = keys
        self._requests = requests
        self._now = now
        self._contexts = CreationContexts(tracing, namespace, keys)
        self._unsettled: dict[tuple[str, int], tuple[_Run, int]] = {}

    @override
    def received(self, batch: Sequence[SentCommand], destination: str, seconds: float) -> None:
        """A trace of its own, for the commands of a batch come from many."""
        end_ns = int(self._now() * _S)
        attributes = operation("receive", destination)
        attributes[BATCH_COUNT] = len(batch)
        attributes[CONSUMER_GROUP] = INTAKE_GROUP
        span = self._tracer.start_span(
            f"receive {destination}",
            Context(),
            SpanKind.CLIENT,
            attributes,
            [link_to(self._namespace, each) for each in batch],
            end_ns - int(seconds * _S),
        )
        span.end(end_ns)

    @override
    def run_begun(self, start: RunStart) -> None:
        """What it hangs on goes out before it."""
        _RUN.set(None)
        parent = self._contexts.of(start.sent, start.accepted_at)
        if parent is None:
            return
        destination = destination_of(self._keys, start.sent)
        attributes = messaging("process", destination, start.sent)
        attributes[ATTEMPT] = start.attempts + 1
        attributes[CLAIMS] = start.claims
        begun_ns = int(start.begun_at * _S)
        span = self._tracer.start_span(
            f"process {destination}", parent, SpanKind.CONSUMER, attributes, (), begun_ns
        )
        if not span.is_recording():
            return
        _RUN.set(_Run(span, start, destination, begun_ns, parent))
        context = span.get_span_context()
        # So that one finds the lines of a trace, and the trace of a line.
        bind_contextvars(
            trace_id=format_trace_id(context.trace_id), span_id=format_span_id(context.span_id)
        )

    @override
    def requested(self, end: RequestEnd) -> None:
        """Kept until its run is over: of a run that is killed nothing must be left over."""
        run = _RUN.get()
        if run is not None and len(run.requests) < MOST_REQUESTS:
            run.requests.append((run.now_ns(), end))

    @override
    def succeeded(self, end: RunEnd) -> None:
        """The command has ended."""
        _note(end)

    @override
    def snoozed(self, end: RunEnd) -> None:
        """It goes on later."""
        _note(end)

    @override
    def retried(self, end: RunEnd) -> None:
        """It is tried again."""
        _note(end)

    @override
    def failed(self, end: RunEnd) -> None:
        """The command has ended."""
        _note(end)

    @override
    def spared(self, end: RunEnd) -> None:
        """The lane stays paused."""
        _note(end)

    @override
    def run_over(self, is_recorded: bool) -> None:
        """The run goes out first, then what it did."""
        run = _RUN.get()
        if run is None:
            return
        _RUN.set(None)
        unbind_contextvars("trace_id", "span_id")
        end_ns = run.now_ns()
        self._end(run, end_ns, is_recorded=is_recorded)
        self._tell_wait(run)
        own = set_span_in_context(NonRecordingSpan(run.span.get_span_context()), Context())
        for at_ns, request in run.requests:
            self._tell_request(own, at_ns, request)
        if is_recorded:
            if len(self._unsettled) >= MOST_UNSETTLED:
                # Of the oldest it is told no more: nobody tells of each that was not recorded.
                del self._unsettled[next(iter(self._unsettled))]
            self._unsettled[run.start.sent.command_id, run.start.token] = (run, end_ns)

    @override
    def settled(self, batch: Sequence[Settled]) -> None:
        """Each with how long it took to record."""
        for each in batch:
            found = self._unsettled.pop((each.command_id, each.token), None)
            if found is None:
                continue
            run, end_ns = found
            self._tell_settling(run, end_ns, end_ns + int(each.seconds * _S), each.state)
            if each.state in _ENDED:
                self._contexts.forget(run.span.get_span_context().trace_id)

    @override
    def fenced(self, command_id: str, text: bytes, token: int) -> None:
        """Its end came too late to be recorded."""
        found = self._unsettled.pop((command_id, token), None)
        if found is not None:
            run, end_ns = found
            self._tell_settling(run, end_ns, run.now_ns(), "fenced", error="fenced")

    def _end(self, run: _Run, end_ns: int, *, is_recorded: bool) -> None:
        span, end = run.span, run.end
        outcome = end.state if end is not None else HANDED_BACK
        span.set_attribute(OUTCOME, outcome if is_recorded else LOST)
        if end is not None and end.delay_seconds:
            span.set_attribute(DELAY_SECONDS, round(end.delay_seconds, 3))
        if not is_recorded:
            span.set_attribute(ERROR_TYPE, LOST)
            span.set_status(Status(StatusCode.ERROR, "its end is not recorded"))
        elif end is not None and end.code:
            span.set_attribute(ERROR_TYPE, end.code)
            span.set_status(Status(StatusCode.ERROR, redact_text(end.message)))
        span.end(end_ns)

    def _tell_wait(self, run: _Run) -> None:
        start = run.start
        since = start.waiting_since
        if since is None or start.begun_at - since < SHOWN_WAIT_SECONDS:
            return
        attributes: Attributes = {
            WAITS_FOR: start.waits_for,
            MESSAGE_ID: start.sent.command_id,
        }
        span = self._tracer.start_span(
            "wait", run.parent, SpanKind.INTERNAL, attributes, (), int(since * _S)
        )
        span.end(run.begun_ns)

    def _tell_request(self, parent: Context, at_ns: int, end: RequestEnd) -> None:
        name, attributes = self._requests.describe(end)
        begun_ns = at_ns - int(end.seconds * _S)
        span = self._tracer.start_span(name, parent, SpanKind.CLIENT, attributes, (), begun_ns)
        if ERROR_TYPE in attributes:
            span.set_status(Status(StatusCode.ERROR))
        span.end(at_ns)

    def _tell_settling(
        self, run: _Run, begun_ns: int, end_ns: int, outcome: str, error: str = ""
    ) -> None:
        # What its run says already is not said again: each attribute costs as much as a call.
        attributes = operation("settle", run.destination)
        attributes[MESSAGE_ID] = run.start.sent.command_id
        attributes[OUTCOME] = outcome
        if error:
            attributes[ERROR_TYPE] = error
        parent = set_span_in_context(NonRecordingSpan(run.span.get_span_context()), Context())
        span = self._tracer.start_span(
            f"settle {run.destination}", parent, SpanKind.CLIENT, attributes, (), begun_ns
        )
        if error:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_ns)


def _note(end: RunEnd) -> None:
    run = _RUN.get()
    if run is not None:
        run.end = end
