"""A program's span goes along with the commands that it sends within it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import orjson
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, use_span

from schemas.claim_check import parse_message
from trainmaster_client.commands import message_of

TRACE_ID, SPAN_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _sent(**attributes: Any) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(message_of("list_models", {}, attributes).text)
    return found


def _span(state: TraceState | None = None) -> NonRecordingSpan:
    sampled = TraceFlags(TraceFlags.SAMPLED)
    context = SpanContext(TRACE_ID, SPAN_ID, False, sampled, state or TraceState())
    return NonRecordingSpan(context)


def test_the_current_span_is_named() -> None:
    with use_span(_span()):
        assert _sent()["traceparent"] == TRACEPARENT
        assert "tracestate" not in _sent()
    with use_span(_span(TraceState([("shop", "1")]))):
        assert _sent()["tracestate"] == "shop=1"


def test_a_state_that_workers_would_not_take_is_left_behind() -> None:
    """Rather than that the command is rejected: OpenTelemetry allows 32 members of 512 each."""
    with use_span(_span(TraceState([(f"shop{number}", "x" * 250) for number in range(30)]))):
        sent = _sent()
    assert sent["traceparent"] == TRACEPARENT
    assert "tracestate" not in sent
    assert parse_message(orjson.dumps(sent)).command.type == "list_models"


def test_the_span_of_a_real_tracer_is_named() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("a program")
    with tracer.start_as_current_span("order") as span:
        context = span.get_span_context()
        sent = _sent()["traceparent"]
    assert sent == f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def test_a_command_that_names_another_one_keeps_it() -> None:
    with use_span(_span(TraceState([("shop", "1")]))):
        sent = _sent(traceparent="00-x")
    assert sent["traceparent"] == "00-x"
    assert "tracestate" not in sent


def test_outside_of_a_span_none_is_named() -> None:
    assert "traceparent" not in _sent()


def test_a_program_without_opentelemetry_sends_as_ever() -> None:
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'opentelemetry':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "from trainmaster_client.commands import message_of\n"
        "print(message_of('list_models', {}, {'id': 'one'}).text.decode())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert orjson.loads(done.stdout) == {"type": "list_models", "data": {}, "id": "one"}
