"""Deliveries to webhooks as spans."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.events import EVENT_SOURCE
from worker.trace_context import carried
from worker.tracing.attributes import ERROR_TYPE, Attributes
from worker.tracing.contexts import derived_link, remote_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Link, Span

    from trainmaster_client import Event
    from worker.sinks.delivery_trace import DeliveryTrace
    from worker.tracing.sdk import Tracing

_FIRST_FAILURE: Final = 300
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class DeliverySpans:
    """Traces deliveries, each try as a span of its own.

    It hangs on the producer's span, which the event repeats. Where there is none, the trace is one
    of its own and links to the command's: whether a worker has handed that out nobody knows here.

    Args:
        tracing: takes spans.
        namespace: of the commands.
    """

    def __init__(self, tracing: Tracing, namespace: str) -> None:
        self._tracer = tracing.tracer
        self._namespace = namespace

    @contextmanager
    def sending(self, sink: str, event: Event, server: str, port: int) -> Iterator[DeliveryTrace]:
        """Traces what is done within; its headers name the span."""
        remote = remote_context(event.attributes)
        # A webhook's path may be a secret, so that no URL is told.
        attributes: Attributes = {
            "http.request.method": "POST",
            "server.address": server,
            "server.port": port,
            "messaging.message.id": event.command_id,
            "trainmaster.sink": sink,
            "trainmaster.event.id": event.id,
            "trainmaster.event.type": event.type,
        }
        span = self._tracer.start_span(
            "POST",
            remote or Context(),
            SpanKind.CLIENT,
            attributes,
            () if remote is not None else self._links(event),
        )
        delivery = _Delivery(span, event)
        try:
            yield delivery
        except Exception as exc:
            if not delivery.is_answered:
                span.set_attribute(ERROR_TYPE, type(exc.__cause__ or exc).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise
        finally:
            span.end()

    def _links(self, event: Event) -> list[Link]:
        if event.attributes.get("source") not in {None, EVENT_SOURCE}:
            return []
        origin = event.id.partition("/")[0]
        return [derived_link(self._namespace, origin, event.command_id)]


class _Delivery:
    def __init__(self, span: Span, event: Event) -> None:
        self._span = span
        self.is_answered = False
        self.headers: dict[str, str] = {}
        if span.is_recording():
            _PROPAGATOR.inject(self.headers, set_span_in_context(span, Context()))
        else:
            self.headers |= carried(event.attributes)

    def answered(self, status: int) -> None:
        self.is_answered = True
        self._span.set_attribute("http.response.status_code", status)
        if status >= _FIRST_FAILURE:
            self._span.set_attribute(ERROR_TYPE, str(status))
