"""Each try of a sink is a span, which its receiver is told of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from trainmaster_client import Event
from worker.tracing.contexts import derived_ids
from worker.tracing.delivery_spans import DeliverySpans
from worker.tracing.sdk import Tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

TRACE, PRODUCER = "a" * 32, "b" * 16
TRACEPARENT = f"00-{TRACE}-{PRODUCER}-01"
OWN: dict[str, Any] = {
    "id": "17-0/succeeded",
    "source": "/trainmaster",
    "type": "train.succeeded",
    "subject": "night",
}


class Sink:
    """A sink's tracer, and what it has handed out."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._tracing = Tracing([self._exporter], "gateway", "one")
        self._spans = DeliverySpans(self._tracing, "shop")

    def send(
        self, *, status: int | None = 204, fails: Exception | None = None, **event: Any
    ) -> dict[str, str]:
        """Makes one try; returns the headers that it was sent with."""
        told = Event("1-0", {**OWN, **event})
        with self._spans.sending("crm", told, "crm.example.com", 8443) as delivery:
            if status is not None:
                delivery.answered(status)
            if fails is not None:
                raise fails
        return dict(delivery.headers)

    def span(self) -> ReadableSpan:
        """Returns the one that went out last."""
        self._tracing.flush()
        return self._exporter.get_finished_spans()[-1]


@pytest.fixture(autouse=True)
def _plain_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)


def test_a_try_tells_what_is_sent_and_where_to() -> None:
    sink = Sink()
    sink.send()
    span = sink.span()
    assert (span.name, span.kind.name) == ("POST", "CLIENT")
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "server.address": "crm.example.com",
        "server.port": 8443,
        "messaging.message.id": "night",
        "trainmaster.sink": "crm",
        "trainmaster.event.id": "17-0/succeeded",
        "trainmaster.event.type": "train.succeeded",
        "http.response.status_code": 204,
    }


def test_it_hangs_on_the_producers_span_and_hands_on_its_own() -> None:
    sink = Sink()
    headers = sink.send(traceparent=TRACEPARENT, tracestate="shop=1")
    span = sink.span()
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.parent.span_id:x}" == PRODUCER
    assert list(span.links) == []
    assert headers == {
        "traceparent": f"00-{TRACE}-{span.context.span_id:016x}-01",
        "tracestate": "shop=1",
    }


def test_without_one_its_trace_is_its_own_and_links_to_the_commands() -> None:
    sink = Sink()
    sink.send()
    span = sink.span()
    assert span.parent is None
    (link,) = span.links
    ids = (link.context.trace_id, link.context.span_id)
    assert ids == derived_ids("shop", "17-0", "night")


@pytest.mark.parametrize(("source", "links"), [("/trainmaster/backfills/night", 0), (None, 1)])
def test_an_items_event_links_to_nothing_for_its_id_names_no_message(
    source: str | None, links: int
) -> None:
    sink = Sink()
    sink.send(source=source)
    assert len(sink.span().links) == links


@pytest.mark.parametrize(("status", "error"), [(299, None), (300, "300"), (410, "410")])
def test_an_answer_that_is_no_success_is_an_error(status: int, error: str | None) -> None:
    sink = Sink()
    sink.send(status=status)
    attributes = sink.span().attributes or {}
    assert attributes["http.response.status_code"] == status
    assert attributes.get("error.type") == error


def test_a_try_without_an_answer_tells_what_it_failed_by_and_is_over() -> None:
    sink = Sink()
    error = RuntimeError("can't be reached")
    error.__cause__ = ConnectionRefusedError()
    with pytest.raises(RuntimeError, match="reached"):
        sink.send(status=None, fails=error)
    span = sink.span()
    assert (span.attributes or {})["error.type"] == "ConnectionRefusedError"
    assert not span.status.is_ok
    assert not span.status.is_unset
    with pytest.raises(ValueError, match="refused"):
        sink.send(status=503, fails=ValueError("refused"))
    assert (sink.span().attributes or {})["error.type"] == "503", "what it answered tells more"
    assert not sink.span().status.is_unset


def test_what_is_not_sampled_is_passed_on_as_it_came() -> None:
    sink = Sink()
    unsampled = f"{TRACEPARENT[:-1]}0"
    assert sink.send(traceparent=unsampled) == {"traceparent": unsampled}
    sink.send()
    assert sink.span().parent is None, "the first one did not go out"
