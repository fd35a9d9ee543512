"""What telemetry tells becomes spans, each of which hangs on one that goes out before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.contextvars import get_contextvars

from schemas.enums import Priority
from worker.encord.api.operations import template_of
from worker.queue.ledger.keys import Keys
from worker.queue.telemetry import RequestEnd, RunEnd, RunOutcome, RunStart, SentCommand, Settled
from worker.tracing import contexts, listener
from worker.tracing.api_spans import ApiSpans
from worker.tracing.listener import TracingListener
from worker.tracing.sdk import Tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

NOW = 1_700_000_000.5
ORIGIN = "1699999999000-0"
NAMESPACE = "shop"
STREAM = "{shop}:commands"
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
SECOND = 1_000_000_000
REQUEST = RequestEnd("GET", f"/ml-models/{'1' * 36}", 200, 0.2, 0.0)


class Process:
    """A worker process' listener, and what it has handed out."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._tracing = Tracing([self._exporter], "worker", "one")
        requests = ApiSpans("https://api.example.com/v2/public", template_of)
        self.listener = TracingListener(
            self._tracing, NAMESPACE, Keys(NAMESPACE), requests, lambda: NOW
        )

    def spans(self) -> list[ReadableSpan]:
        """Returns what went out, in that order."""
        self._tracing.flush()
        return list(self._exporter.get_finished_spans())

    def names(self) -> list[str]:
        return [each.name for each in self.spans()]


@pytest.fixture(autouse=True)
def _plain_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)


def ns(seconds: float) -> int:
    """Returns a time as spans have it."""
    return int(seconds * SECOND)


def sent(command_id: str = "one", origin: str = ORIGIN, **more: Any) -> SentCommand:
    return SentCommand(command_id, "get_model", Priority.INTERACTIVE, origin, **more)


def start(command: SentCommand | None = None, **more: Any) -> RunStart:
    told: dict[str, Any] = {"token": 1, "attempts": 0, "claims": 1} | more
    return RunStart(command or sent(), accepted_at=NOW - 1, begun_at=NOW, **told)


def end(state: str = "succeeded", **more: Any) -> RunEnd:
    return RunEnd(
        "one", "get_model", Priority.INTERACTIVE, RunOutcome.SUCCEEDED, state, 1, 0.5, **more
    )


def test_ends_that_are_never_recorded_keep_no_later_one_from_being_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "MOST_UNSETTLED", 2)
    process = Process()
    for token in range(1, 5):
        process.listener.run_begun(start(token=token))
        process.listener.succeeded(end())
        process.listener.run_over(True)
    process.listener.settled([Settled(0.25, "succeeded", True, command_id="one", token=4)])
    assert process.names()[-1] == f"settle {STREAM}"


def test_a_run_goes_out_before_what_it_did_and_after_what_it_hangs_on() -> None:
    process = Process()
    process.listener.run_begun(start())
    process.listener.requested(REQUEST)
    assert process.names() == [f"create {STREAM}"]
    process.listener.succeeded(end())
    process.listener.run_over(True)
    process.listener.settled([Settled(0.25, "succeeded", True, command_id="one", token=1)])
    made, run, call, settled = process.spans()
    assert [run.name, call.name, settled.name] == [
        f"process {STREAM}",
        "GET /v2/public/ml-models/{uuid}",
        f"settle {STREAM}",
    ]
    assert made.parent is None
    assert run.parent == made.context
    assert call.parent == settled.parent == run.context
    own = {each.context.span_id for each in (made, run, call, settled) if each.context}
    assert len(own) == 4, "only the first one's id is derived"
    assert made.start_time == made.end_time == 1_699_999_999_000 * 1_000_000
    assert settled.end_time is not None
    assert settled.start_time is not None
    assert settled.end_time - settled.start_time == 250_000_000


def test_of_a_run_that_never_ends_nothing_is_left_over() -> None:
    process = Process()
    process.listener.run_begun(start())
    process.listener.requested(REQUEST)
    process.listener.retried(end("retrying", code="server_error"))
    assert process.names() == [f"create {STREAM}"]


def test_each_process_makes_the_same_first_span_and_makes_it_once() -> None:
    processes = [Process(), Process()]
    for process in processes:
        for token in (1, 2):
            process.listener.run_begun(start(token=token))
            process.listener.run_over(True)
    firsts = [[each for each in one.spans() if each.name.startswith("cre")] for one in processes]
    (first,), (second,) = firsts
    assert first.to_json() == second.to_json()


def test_of_more_commands_than_are_remembered_the_one_that_rested_longest_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that runs now is not, or its first span would go out with each of its runs."""
    monkeypatch.setattr(contexts, "_REMEMBERED", 2)
    process = Process()
    for command_id in ("one", "two", "three", "three", "two", "one"):
        process.listener.run_begun(start(sent(command_id)))
    firsts = [each.attributes or {} for each in process.spans() if each.name.startswith("cre")]
    made = [each["messaging.message.id"] for each in firsts]
    assert made == ["one", "two", "three", "one"]


def test_other_namespaces_entries_and_ids_are_other_traces() -> None:
    process = Process()
    for command in (sent(), sent("two"), sent(origin="1699999999000-1"), sent(origin=f"b{ORIGIN}")):
        process.listener.run_begun(start(command))
        process.listener.run_over(True)
    assert len({each.context.trace_id for each in process.spans() if each.context}) == 4


def test_a_command_whose_producer_names_a_span_hangs_on_that() -> None:
    process = Process()
    process.listener.run_begun(start(sent(context={"traceparent": TRACEPARENT})))
    process.listener.run_over(True)
    (run,) = process.spans()
    assert run.parent is not None
    assert run.context is not None
    assert (f"{run.context.trace_id:x}", f"{run.parent.span_id:x}") == ("a" * 32, "b" * 16)


def test_what_the_producer_does_not_sample_is_not_told() -> None:
    process = Process()
    unsampled = {"traceparent": f"{TRACEPARENT[:-1]}0"}
    process.listener.run_begun(start(sent(context=unsampled)))
    process.listener.requested(REQUEST)
    process.listener.succeeded(end())
    process.listener.run_over(True)
    assert process.spans() == []


def test_the_usual_sampler_decides_where_no_producer_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    process = Process()
    process.listener.run_begun(start())
    process.listener.run_over(True)
    process.listener.received([sent()], STREAM, 0.1)
    assert process.spans() == []


def test_a_batch_links_to_each_of_its_commands() -> None:
    process = Process()
    batch = [sent(), sent("two", context={"traceparent": TRACEPARENT})]
    process.listener.received(batch, STREAM, 0.1)
    process.listener.run_begun(start())
    received, made = process.spans()
    assert received.attributes is not None
    assert received.name == f"receive {STREAM}"
    assert received.attributes["messaging.batch.message_count"] == 2
    assert [link.context.span_id for link in received.links] == [
        made.context.span_id if made.context else None,
        int("b" * 16, 16),
    ]


@pytest.mark.parametrize(
    ("is_recorded", "told", "outcome", "is_ok"),
    [
        (True, end(), "succeeded", True),
        (True, None, "handed_back", True),
        (True, end("failed", code="not_found", message="no"), "failed", False),
        (False, None, "lost", False),
        (False, end(), "lost", False),
    ],
)
def test_a_run_says_how_it_ended(
    *, is_recorded: bool, told: RunEnd | None, outcome: str, is_ok: bool
) -> None:
    process = Process()
    process.listener.run_begun(start())
    if told is not None:
        process.listener.failed(told)
    process.listener.run_over(is_recorded)
    _, run = process.spans()
    assert run.attributes is not None
    assert run.attributes["trainmaster.outcome"] == outcome
    assert run.status.is_unset == is_ok
    assert ("error.type" in run.attributes) != is_ok


def test_an_end_that_comes_too_late_is_told_as_such() -> None:
    process = Process()
    process.listener.run_begun(start())
    process.listener.succeeded(end())
    process.listener.run_over(True)
    process.listener.fenced("one", b"{}", 1)
    process.listener.fenced("one", b"{}", 1)
    *_, settled = process.spans()
    assert settled.attributes is not None
    assert settled.attributes["error.type"] == "fenced"
    assert len(process.spans()) == 3


@pytest.mark.parametrize(("waited", "shown"), [(0.005, False), (0.2, True)])
def test_a_wait_is_shown_where_it_is_one(*, waited: float, shown: bool) -> None:
    process = Process()
    process.listener.run_begun(start(waiting_since=NOW - waited, waits_for="slot"))
    process.listener.run_over(True)
    assert ("wait" in process.names()) == shown


def test_a_message_with_a_secret_in_a_url_is_told_without_it() -> None:
    process = Process()
    process.listener.run_begun(start())
    url = "https://user:hunter2@example.com/x?signature=hunter2"
    process.listener.failed(end("failed", code="data_unavailable", message=f"{url} is away"))
    process.listener.run_over(True)
    assert not any("hunter2" in each.to_json() for each in process.spans())


def test_a_run_tells_which_one_it_is_and_when_it_began() -> None:
    process = Process()
    process.listener.run_begun(start(attempts=2, claims=3))
    process.listener.retried(end("retrying", code="timeout", delay_seconds=1.23456))
    process.listener.run_over(True)
    _, run = process.spans()
    told = run.attributes or {}
    assert (told["trainmaster.attempt"], told["trainmaster.claims"]) == (3, 3)
    assert told["trainmaster.delay_seconds"] == 1.235
    assert told["messaging.operation.type"] == "process"
    assert run.kind.name == "CONSUMER"
    assert run.start_time == ns(NOW)
    assert run.end_time is not None
    assert 0 <= run.end_time - run.start_time < 60 * SECOND


def test_a_run_that_is_not_looked_at_again_tells_no_delay() -> None:
    process = Process()
    process.listener.run_begun(start())
    process.listener.succeeded(end())
    process.listener.run_over(True)
    assert "trainmaster.delay_seconds" not in (process.spans()[-1].attributes or {})


def test_a_request_is_as_long_as_it_took_and_tells_that_it_failed() -> None:
    process = Process()
    process.listener.run_begun(start())
    process.listener.requested(REQUEST)
    process.listener.requested(RequestEnd("GET", "/x", 503, 0.2, 0.0))
    process.listener.run_over(True)
    _, _, good, bad = process.spans()
    for each in (good, bad):
        assert each.start_time is not None
        assert each.end_time is not None
        assert each.end_time - each.start_time == SECOND // 5
        assert each.kind.name == "CLIENT"
    assert (good.status.is_unset, bad.status.is_unset) == (True, False)


def test_a_run_with_very_many_requests_is_told_by_its_first_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "MOST_REQUESTS", 2)
    process = Process()
    process.listener.run_begun(start())
    for status in (200, 201, 202):
        process.listener.requested(RequestEnd("GET", "/x", status, 0.1, 0.0))
    process.listener.run_over(True)
    told = [(each.attributes or {}).get("http.response.status_code") for each in process.spans()]
    assert told == [None, None, 200, 201]


def test_a_wait_lasts_until_the_run_and_tells_for_what() -> None:
    process = Process()
    process.listener.run_begun(start(waiting_since=NOW - 0.25, waits_for="retry"))
    process.listener.run_over(True)
    made, _, wait = process.spans()
    assert (wait.start_time, wait.end_time) == (ns(NOW - 0.25), ns(NOW))
    assert wait.parent == made.context
    assert (wait.attributes or {})["trainmaster.waits_for"] == "retry"
    assert (wait.attributes or {})["messaging.message.id"] == "one"


def test_a_batch_is_told_with_the_time_that_it_took() -> None:
    process = Process()
    process.listener.received([sent()], STREAM, 0.25)
    (received,) = process.spans()
    assert (received.start_time, received.end_time) == (ns(NOW) - SECOND // 4, ns(NOW))
    assert received.parent is None
    assert (received.attributes or {})["messaging.consumer.group.name"] == "intake"


def test_how_an_end_was_recorded_is_told_without_what_its_run_says_already() -> None:
    process = Process()
    process.listener.run_begun(start())
    process.listener.retried(end("retrying", code="timeout"))
    process.listener.run_over(True)
    process.listener.settled([Settled(0.1, "retrying", True, command_id="one", token=2)])
    assert len(process.spans()) == 2, "that was another run"
    process.listener.settled([Settled(0.1, "retrying", True, command_id="one", token=1)])
    settled = process.spans()[-1]
    assert settled.status.is_unset
    assert settled.kind.name == "CLIENT"
    assert dict(settled.attributes or {}) == {
        "messaging.system": "trainmaster",
        "messaging.operation.name": "settle",
        "messaging.operation.type": "settle",
        "messaging.destination.name": STREAM,
        "messaging.message.id": "one",
        "trainmaster.outcome": "retrying",
    }


@pytest.mark.parametrize(
    ("state", "known"),
    [("succeeded", 0), ("failed", 0), ("cancelled", 0), ("retrying", 1), ("polling", 1)],
)
def test_only_a_command_that_has_ended_is_forgotten(state: str, known: int) -> None:
    process = Process()
    process.listener.run_begun(start())
    process.listener.run_over(True)
    process.listener.settled([Settled(0.1, state, True, command_id="one", token=1)])
    assert len(process.listener._contexts._made) == known
    assert process.listener._unsettled == {}


def test_a_run_that_is_not_told_says_nothing_of_the_one_before() -> None:
    """One that was broken off never said that it was over."""
    process = Process()
    process.listener.run_begun(start())
    process.listener.run_begun(start(sent("two", context={"traceparent": f"{TRACEPARENT[:-1]}0"})))
    process.listener.requested(REQUEST)
    process.listener.run_over(True)
    assert process.names() == [f"create {STREAM}"]


def test_lines_of_a_run_name_its_span_and_those_behind_it_none() -> None:
    process = Process()
    process.listener.run_begun(start())
    bound = get_contextvars()
    process.listener.run_over(True)
    assert not {"trace_id", "span_id"} & get_contextvars().keys()
    run = process.spans()[-1]
    assert run.context is not None
    assert bound["trace_id"] == f"{run.context.trace_id:032x}"
    assert bound["span_id"] == f"{run.context.span_id:016x}"


def test_a_run_that_lost_its_command_is_not_waited_for() -> None:
    process = Process()
    process.listener.run_begun(start())
    process.listener.run_over(False)
    assert process.listener._unsettled == {}
