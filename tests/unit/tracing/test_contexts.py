"""What the spans of a command hang on, and where and when it was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from schemas.enums import Priority
from worker.queue.ledger.keys import Keys
from worker.queue.telemetry import SentCommand
from worker.tracing.contexts import CreationContexts, derived_ids, destination_of
from worker.tracing.sdk import Tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

NAMESPACE = "shop"
KEYS = Keys(NAMESPACE)
SENT_MS = 1_700_000_000_000
ORIGIN = f"{SENT_MS}-0"
LINKED = f"00-{'c' * 32}-{'d' * 16}-01"


def sent(origin: str = ORIGIN, command_id: str = "one", **more: Any) -> SentCommand:
    return SentCommand(command_id, "predict", Priority.BULK, origin, **more)


@pytest.fixture(autouse=True)
def _plain_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)


def made(command: SentCommand, accepted_at: float = SENT_MS / 1000 + 5) -> ReadableSpan:
    """Returns the first span of a command."""
    exporter = InMemorySpanExporter()
    tracing = Tracing([exporter], "worker", "one")
    assert CreationContexts(tracing, NAMESPACE, KEYS).of(command, accepted_at) is not None
    tracing.flush()
    (span,) = exporter.get_finished_spans()
    return span


@pytest.mark.parametrize(
    ("command", "destination"),
    [
        (sent(), KEYS.commands),
        (sent(f"b{ORIGIN}"), KEYS.bulk_commands),
        # It was never in a stream.
        (sent(f"{ORIGIN}-17", "night/17", group="night"), KEYS.due_bulk),
        (sent(f"b{ORIGIN}-17", "night/17", group="night"), KEYS.due_bulk),
    ],
)
def test_a_command_is_sent_to_its_stream_and_an_item_to_none(
    command: SentCommand, destination: str
) -> None:
    assert destination_of(KEYS, command) == destination
    span = made(command)
    assert span.name == f"create {destination}"
    assert (span.attributes or {})["messaging.destination.name"] == destination


def test_the_first_span_tells_what_was_sent() -> None:
    context = {"correlationid": "order-1", "other": "x"}
    item = made(sent(f"{ORIGIN}-17", "night/17", group="night", context=context))
    assert dict(item.attributes or {}) == {
        "messaging.system": "trainmaster",
        "messaging.operation.name": "create",
        "messaging.operation.type": "create",
        "messaging.destination.name": KEYS.due_bulk,
        "messaging.message.id": "night/17",
        "messaging.message.conversation_id": "order-1",
        "trainmaster.command.type": "predict",
        "trainmaster.lane": "bulk",
        "trainmaster.backfill": "night",
    }
    assert item.kind.name == "PRODUCER"
    alone = made(sent(context={"correlationid": 7})).attributes or {}
    assert not {"messaging.message.conversation_id", "trainmaster.backfill"} & alone.keys()


@pytest.mark.parametrize(
    ("command", "accepted_at", "at_ms"),
    [
        (sent(), SENT_MS / 1000 + 5, SENT_MS),
        (sent(f"b{ORIGIN}"), SENT_MS / 1000 + 5, SENT_MS),
        # No span of a command begins before it was sent, whatever clock was set back.
        (sent(), SENT_MS / 1000 - 5, SENT_MS - 5000),
        (sent(f"{ORIGIN}-17", group="night"), SENT_MS / 1000 + 5, SENT_MS + 5000),
        (sent("celery"), SENT_MS / 1000 + 5, SENT_MS + 5000),
    ],
)
def test_it_was_sent_when_its_entry_was_written_and_an_item_when_it_was_made(
    command: SentCommand, accepted_at: float, at_ms: int
) -> None:
    span = made(command, accepted_at)
    assert span.start_time == span.end_time == at_ms * 1_000_000


@pytest.mark.parametrize(
    ("command", "linked"),
    [
        (sent(), None),
        (sent(f"{ORIGIN}-17", group="night"), derived_ids(NAMESPACE, ORIGIN, "night")),
        (sent(f"b{ORIGIN}-17", group="night"), derived_ids(NAMESPACE, f"b{ORIGIN}", "night")),
        # The span that the backfill itself hangs on goes before what is made of its name.
        (
            sent(f"{ORIGIN}-17", group="night", context={"tracelink": LINKED}),
            (int("c" * 32, 16), int("d" * 16, 16)),
        ),
        (
            sent(f"{ORIGIN}-17", group="night", context={"tracelink": "no traceparent"}),
            derived_ids(NAMESPACE, ORIGIN, "night"),
        ),
        # One that a console leads was never sent, and has no span.
        (sent("console-0a1b-17", group="night"), None),
    ],
)
def test_an_item_links_to_its_backfill(
    command: SentCommand, linked: tuple[int, int] | None
) -> None:
    found = [(link.context.trace_id, link.context.span_id) for link in made(command).links]
    assert found == ([] if linked is None else [linked])


def test_a_command_whose_parent_no_span_can_be_has_one_made_for_it() -> None:
    """Of the first version nothing follows: to OpenTelemetry it names no span."""
    span = made(sent(context={"traceparent": f"{LINKED}-more"}))
    assert span.context is not None
    found = (span.context.trace_id, span.context.span_id)
    assert found == derived_ids(NAMESPACE, ORIGIN, "one")


def test_the_ids_of_a_trace_are_never_those_that_stand_for_none() -> None:
    ids = [derived_ids(NAMESPACE, f"{number}-0", "one") for number in range(200)]
    assert len(set(ids)) == 200
    assert all(0 < trace < 2**128 and 0 < span < 2**64 for trace, span in ids)
