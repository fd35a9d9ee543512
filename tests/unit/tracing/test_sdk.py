"""The SDK, set up from its own variables: who we are, where spans go, and what a stop waits for."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs
from typing_extensions import override

from worker.errors import SettingError
from worker.tracing import sdk
from worker.tracing.sdk import SpanIds, Tracing, open_tracing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

LOGGER = logging.getLogger("opentelemetry")


@pytest.fixture(autouse=True)
def _plain_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OTEL_SDK_DISABLED",
        "OTEL_TRACES_SAMPLER",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    ):
        monkeypatch.delenv(name, raising=False)


def span_of(service: str = "worker", instance: str = "one") -> ReadableSpan:
    exporter = InMemorySpanExporter()
    tracing = Tracing([exporter], service, instance)
    tracing.tracer.start_span("x").end()
    tracing.flush()
    (span,) = exporter.get_finished_spans()
    return span


def test_ids_are_said_for_one_span_and_random_for_all_others() -> None:
    ids = SpanIds()
    ids.say(7, 9)
    assert (ids.generate_trace_id(), ids.generate_span_id()) == (7, 9)
    assert len({7, ids.generate_trace_id(), ids.generate_trace_id()}) == 3
    assert len({9, ids.generate_span_id(), ids.generate_span_id()}) == 3


def test_a_span_tells_whose_it_is() -> None:
    told = span_of().resource.attributes
    assert (told["service.name"], told["service.instance.id"]) == ("worker", "one")
    assert told["service.version"]


def test_what_the_variables_say_of_us_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7,team=ml")
    told = span_of().resource.attributes
    assert (told["service.name"], told["service.instance.id"]) == ("worker", "pod-7")
    assert told["team"] == "ml"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "models")
    assert span_of().resource.attributes["service.name"] == "models"


@pytest.mark.parametrize(
    ("variables", "exporter"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": " http/protobuf "}, None),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/json"),
        # That of traces goes before that of everything.
        (
            {
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/xml",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            "http/xml",
        ),
    ],
)
def test_the_protocol_says_which_exporter(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], exporter: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if exporter is None:
        made = sdk._exporter("otlp")
        assert type(made).__module__.startswith("opentelemetry.exporter.otlp.proto.http")
        made.shutdown()
    else:
        with pytest.raises(SettingError, match=f"no exporter '{exporter}' is installed.*otlp"):
            sdk._exporter("otlp")


def test_an_exporter_that_can_not_be_made_leaves_the_sdks_lines_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def are_ours() -> bool:
        return any(isinstance(each, sdk._SdkTrouble) for each in LOGGER.handlers)

    with pytest.raises(SettingError, match="no exporter 'none-such'"):
        open_tracing(["none-such"], "worker", "one")
    assert (are_ours(), LOGGER.propagate) == (False, True)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    with pytest.raises(SettingError, match="OTEL_BSP_"):
        open_tracing(["console"], "worker", "one")
    assert (are_ours(), LOGGER.propagate) == (False, True)


class Stuck(SpanExporter):
    """An exporter whose collector never answers, until it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.go_on.wait(30)
        return SpanExportResult.SUCCESS


async def test_a_stop_hands_over_what_waits() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing([exporter], "worker", "one")
    tracing.tracer.start_span("last").end()
    with capture_logs() as lines:
        await tracing.aclose()
    assert [each.name for each in exporter.get_finished_spans()] == ["last"]
    assert lines == []
    assert LOGGER.propagate


async def test_a_stop_does_not_wait_for_a_collector_that_is_away() -> None:
    exporter = Stuck()
    tracing = Tracing([exporter], "worker", "one")
    tracing.tracer.start_span("last").end()
    begun = time.monotonic()
    with capture_logs() as lines:
        await tracing.aclose(0.1)
    assert time.monotonic() - begun < 10
    assert [(each["event"], each["waited_seconds"]) for each in lines] == [
        ("tracing.spans_lost", 0.1)
    ]
    assert LOGGER.propagate
    exporter.go_on.set()


async def test_what_the_sdk_says_again_and_again_is_told_once_and_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer s3cret,x-key=s3cret2")
    first = Tracing([], "worker", "one")
    second = Tracing([], "worker", "two")
    with capture_logs() as lines:
        for _ in range(3):
            refused = ConnectionError("Bearer s3cret was refused")
            LOGGER.getChild("exporter").warning("lost x-key=s3cret2", exc_info=refused)
    await first.aclose()
    await second.aclose()
    (line,) = lines
    assert line["event"] == "tracing.trouble"
    assert line["problem"].startswith("lost ")
    assert line["error"].endswith(" was refused")
    assert "s3cret" not in str(line)
