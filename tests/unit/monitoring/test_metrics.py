"""What is counted of what telemetry tells, and that names are Prometheus' own."""

from __future__ import annotations

import platform
import re
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from schemas.commands import COMMAND_CLASSES
from schemas.enums import Priority
from schemas.events import ErrorCode
from worker.monitoring.ledger_sample import LedgerCollector, metric_rows
from worker.monitoring.metrics import Metrics
from worker.monitoring.metrics_listener import MetricsListener
from worker.queue.telemetry import Listener, RequestEnd, RunEnd, RunOutcome, Settled

if TYPE_CHECKING:
    from collections.abc import Callable

# What tells nothing that is not told by another act, or is of interest to a log alone.
NOT_COUNTED = {
    *("lane_resumed", "redis_still_lost", "redis_back"),
    # For traces: the same is counted as `accepted`, and by how each run ended.
    *("received", "run_begun", "run_over"),
    # Counted once it is recorded, as `settled`.
    *("succeeded", "snoozed", "retried", "failed", "spared"),
}


def run_end(outcome: RunOutcome, code: str = "") -> RunEnd:
    return RunEnd("c", "train", Priority.BULK, outcome, "x", 1, 0.3, total_seconds=7.0, code=code)


def at_once(count: Callable[[], None]) -> None:
    count()


def settled(end: RunEnd) -> Callable[[Listener], None]:
    return lambda told: told.settled([Settled(0.01, "x", published=False, end=end)])


ACTS: list[tuple[str, Callable[[Listener], None], dict[str, float]]] = [
    (
        "accepted",
        lambda told: told.accepted(3),
        {"commands_accepted_total": 3, 'events_published_total{state="accepted"}': 3},
    ),
    (
        "rejected",
        lambda told: told.rejected(["not_json", "not_json", "too_large"]),
        {
            "commands_rejected_total": 3,
            'events_published_total{state="rejected"}': 3,
            'dead_letters_total{code="not_json"}': 2,
            'dead_letters_total{code="too_large"}': 1,
        },
    ),
    (
        "polled",
        lambda told: told.polled(4.0),
        {
            "poll_lateness_seconds_sum": 4,
            'poll_lateness_seconds_bucket{le="2.5"}': 0,
            'poll_lateness_seconds_bucket{le="5.0"}': 1,
        },
    ),
    (
        "settled success",
        settled(run_end(RunOutcome.SUCCEEDED)),
        {
            'commands_ended_total{command_type="train",outcome="succeeded"}': 1,
            'runs_total{command_type="train",outcome="succeeded"}': 1,
            'command_waiting_seconds_count{lane="bulk"}': 0,
            'run_duration_seconds_sum{outcome="succeeded"}': 0.3,
            'command_duration_seconds_sum{command_type="train"}': 7,
        },
    ),
    (
        "settled first run",
        settled(replace(run_end(RunOutcome.WAITS), waited_seconds=4.0)),
        {
            'command_waiting_seconds_sum{lane="bulk"}': 4,
            'command_waiting_seconds_count{lane="bulk"}': 1,
        },
    ),
    (
        "settled failure",
        settled(run_end(RunOutcome.FAILED, "not_found")),
        {
            'commands_ended_total{command_type="train",outcome="failed"}': 1,
            'command_failures_total{code="not_found"}': 1,
            'runs_total{command_type="train",outcome="failed"}': 1,
        },
    ),
    (
        "settled wait",
        settled(run_end(RunOutcome.WAITS)),
        {
            'runs_total{command_type="train",outcome="waits"}': 1,
            'commands_ended_total{command_type="train",outcome="succeeded"}': 0,
            'commands_ended_total{command_type="train",outcome="failed"}': 0,
            'command_duration_seconds_count{command_type="train"}': 0,
        },
    ),
    (
        "settled retry",
        settled(run_end(RunOutcome.RETRIED, "not_found")),
        {
            'runs_total{command_type="train",outcome="retried"}': 1,
            'commands_ended_total{command_type="train",outcome="failed"}': 0,
            'command_failures_total{code="not_found"}': 0,
        },
    ),
    (
        "settled probe",
        settled(run_end(RunOutcome.SPARED, "not_found")),
        {
            'runs_total{command_type="train",outcome="spared"}': 1,
            'command_failures_total{code="not_found"}': 0,
        },
    ),
    (
        "settled",
        lambda told: told.settled([
            Settled(0.01, "succeeded", published=True),
            Settled(0.03, "failed", published=True, dead_letter="not_found"),
            Settled(0.01, "retrying", published=True),
            Settled(0.01, "polling", published=True),
            Settled(0.01, "in_doubt", published=True),
            Settled(0.01, "polling", published=False),
        ]),
        {
            "settling_seconds_count": 6,
            "settling_seconds_sum": 0.08,
            'events_published_total{state="succeeded"}': 1,
            'events_published_total{state="failed"}': 1,
            'events_published_total{state="retrying"}': 1,
            'events_published_total{state="started"}': 1,
            'events_published_total{state="in_doubt"}': 1,
            'dead_letters_total{code="not_found"}': 1,
        },
    ),
    (
        "settled failure without a run",
        settled(replace(run_end(RunOutcome.FAILED, "deadline_exceeded"), seconds=None)),
        {
            'commands_ended_total{command_type="train",outcome="failed"}': 1,
            'runs_total{command_type="train",outcome="failed"}': 0,
        },
    ),
    (
        "settled failure of a type of tomorrow",
        settled(replace(run_end(RunOutcome.FAILED, "not_found"), command_type="new")),
        {'commands_ended_total{command_type="other",outcome="failed"}': 1},
    ),
    ("lease_lost", lambda told: told.lease_lost("c", b"{}"), {"leases_lost_total": 1}),
    ("fenced", lambda told: told.fenced("c", b"{}", 2), {"leases_lost_total": 1}),
    (
        "requested",
        lambda told: told.requested(RequestEnd("GET", "/x", 200, 0.2, 0.5)),
        {
            'api_requests_total{operation="GET /x",status="200"}': 1,
            'api_request_duration_seconds_sum{operation="GET /x"}': 0.2,
            "api_turn_waiting_seconds_sum": 0.5,
        },
    ),
    ("held", lambda told: told.held(3, "429"), {"api_holds_total": 1}),
    (
        "lane_paused",
        lambda told: told.lane_paused(Priority.BULK, "all fails"),
        {'lane_pauses_total{lane="bulk"}': 1},
    ),
    ("breaker_moved", lambda told: told.breaker_moved(True, 10, 0), {"breaker_open": 1}),
    ("redis_lost", lambda told: told.redis_lost("e", "p", "x", "k"), {"redis_outages_total": 1}),
]


def values(registry: CollectorRegistry) -> dict[str, float]:
    """Returns every series that Prometheus' own parser reads of a scrape."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{said}"' for name, said in sorted(sample.labels.items()))
            name = sample.name.removeprefix("trainmaster_")
            found[f"{name}{{{labels}}}" if labels else name] = sample.value
    return found


@pytest.mark.parametrize("act", ACTS, ids=[name for name, _, _ in ACTS])
def test_what_is_told_is_counted(
    act: tuple[str, Callable[[Listener], None], dict[str, float]],
) -> None:
    registry = CollectorRegistry()
    listener = MetricsListener(Metrics(registry), lambda method, path: f"{method} {path}", at_once)
    _, tell, expected = act
    tell(listener)
    found = values(registry)
    assert {name: found.get(name) for name in expected} == pytest.approx(expected)


def test_what_alerts_look_at_for_increases_is_there_before_it_happens() -> None:
    """Prometheus sees none in a counter that begins at 1."""
    registry = CollectorRegistry()
    MetricsListener(Metrics(registry), lambda method, path: f"{method} {path}", at_once)
    found = values(registry)
    for code in ErrorCode:
        assert found[f'dead_letters_total{{code="{code}"}}'] == 0
        assert found[f'command_failures_total{{code="{code}"}}'] == 0
    for command_type in COMMAND_CLASSES:
        told = f'{{command_type="{command_type}",outcome="failed"}}'
        assert found[f"commands_ended_total{told}"] == 0
    assert found["leases_lost_total"] == 0


def test_what_was_told_and_never_recorded_is_counted_as_no_end() -> None:
    """Of a run that was fenced another worker tells the end; counted by both it would be two."""
    registry = CollectorRegistry()
    listener = MetricsListener(Metrics(registry), lambda method, path: f"{method} {path}", at_once)
    listener.succeeded(run_end(RunOutcome.SUCCEEDED))
    listener.fenced("c", b"{}", 2)
    found = values(registry)
    ended = [found[each] for each in found if each.startswith("commands_ended_total")]
    assert ended
    assert set(ended) == {0}
    assert not [each for each in found if each.startswith("runs_total")]
    assert found["leases_lost_total"] == 1


def test_every_act_is_counted_but_those_that_a_log_alone_tells() -> None:
    acts = {name for name in vars(Listener) if not name.startswith("_") and name != "hears"}
    counted = {name.partition(" ")[0] for name, _, _ in ACTS}
    assert acts - counted == NOT_COUNTED


def test_names_and_units_are_as_prometheus_wants_them() -> None:
    rows = metric_rows()
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
        assert re.fullmatch(r"trainmaster_[a-z][a-z_]+", row.name)
        assert row.name.endswith("_total") == (row.kind == "counter"), row.name
        assert row.name.endswith("_seconds") or row.kind != "histogram", row.name
        assert not re.search(r"_(ms|minutes|count|sum|bucket)$", row.name), row.name
        assert row.meaning.endswith("."), row.name


def test_without_redis_the_ledgers_values_are_missing_and_that_is_told() -> None:
    registry = CollectorRegistry()
    registry.register(LedgerCollector())
    assert values(registry) == {"redis_up": 0}


def test_what_was_counted_before_does_not_swallow_what_differs_from_it() -> None:
    """Each series is looked up once and kept: by all that its labels tell apart."""
    registry = CollectorRegistry()
    listener = MetricsListener(Metrics(registry), lambda method, path: f"{method} {path}", at_once)
    for method, path, status in (
        *(("GET", "/x", 500), ("GET", "/x", 503), ("GET", "/x", 503), ("GET", "/y", 503)),
        *(("PUT", "/x", 503), ("GET", "/x", 0)),
    ):
        listener.requested(RequestEnd(method, path, status, 0.2, 0.5))
    ok, bad = run_end(RunOutcome.SUCCEEDED), run_end(RunOutcome.FAILED, "not_found")
    newer = [replace(ok, command_type=each) for each in ("new", "newer", "new")]
    listener.settled([
        Settled(0.01, "x", published=False, end=end)
        for end in (ok, replace(ok, command_type="attach"), bad, *newer)
    ])
    found = values(registry)
    requests = {
        name.partition("{")[2]: value
        for name, value in found.items()
        if name.startswith("api_requests_total")
    }
    assert requests == {
        'operation="GET /x",status="500"}': 1,
        'operation="GET /x",status="503"}': 2,
        'operation="GET /y",status="503"}': 1,
        'operation="PUT /x",status="503"}': 1,
        'operation="GET /x",status="0"}': 1,
    }
    assert found['api_request_duration_seconds_count{operation="GET /x"}'] == 4
    runs = {
        name.partition("{")[2]: value
        for name, value in found.items()
        if name.startswith("runs_total")
    }
    assert runs == {
        'command_type="train",outcome="succeeded"}': 1,
        'command_type="attach",outcome="succeeded"}': 1,
        'command_type="train",outcome="failed"}': 1,
        'command_type="other",outcome="succeeded"}': 3,
    }


def test_what_runs_is_told_by_the_labels_of_a_1() -> None:
    """Prometheus joins by multiplying with it."""
    registry = CollectorRegistry()
    Metrics(registry)
    labels = f'python="{platform.python_version()}",version="{version("trainmaster")}"'
    assert values(registry)[f"build_info{{{labels}}}"] == 1
