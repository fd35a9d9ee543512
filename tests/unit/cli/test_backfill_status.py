"""What a person is told of a backfill: who leads it, what failed, what to do, how long it takes."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from schemas.enums import PartFormat, SourceFormat
from tests.integration.backfilling import make_plan
from worker.backfill.plan import FailureLimits, SourcePlan
from worker.backfill.status import BY_HAND, BackfillState, BackfillStatus, Origin
from worker.cli.backfill import progress
from worker.cli.backfill.commands import retry_plan
from worker.cli.backfill.progress import Display, Pace, drawing_shown
from worker.cli.backfill.status import _advice, _failures, _fields, _leader, _rate, status_json

AGAIN = "trainmaster backfill resume night"


@pytest.fixture
def status(tmp_path: Path) -> BackfillStatus:
    """Of a backfill that runs, led by a console's process."""
    return BackfillStatus(
        id="night",
        plan=make_plan(tmp_path),
        origin=Origin.CONSOLE,
        entry="bf-1",
        state=BackfillState.RUNNING,
        reason="",
        begun_ms=1_700_000_000_000,
        ended_ms=None,
        read=30,
        position="",
        exhausted=False,
        expected=100,
        succeeded=20,
        failed=0,
        failures={},
        passed_over={},
        dropped=0,
        open=10,
        waiting=0,
        part=0,
        cut="",
        collected=0,
        acknowledged=0,
        acknowledged_of=0,
        result=None,
        led_ms=5_000,
        silent=False,
    )


@pytest.mark.parametrize(
    ("told", "leader"),
    [
        ({}, "a process"),
        ({"led_ms": 0}, "no process"),
        ({"led_ms": 0, "origin": Origin.QUEUE}, "a worker, in a moment"),
        ({"led_ms": 0, "state": BackfillState.CANCELLING}, "no process"),
        ({"state": BackfillState.PAUSED}, ""),
        ({"state": BackfillState.SUCCEEDED}, ""),
        ({"state": BackfillState.CANCELLED}, ""),
    ],
)
def test_who_leads_it_is_told_while_somebody_is_to(
    status: BackfillStatus, told: dict[str, Any], leader: str
) -> None:
    assert _leader(replace(status, **told)) == leader
    assert status_json(replace(status, **told))["led"] is bool(replace(status, **told).led_ms)


@pytest.mark.parametrize(
    ("told", "rate"),
    [
        ({}, "2.0/s since it began, 40s left at that"),
        ({"expected": None}, "2.0/s since it began"),
        ({"succeeded": 100}, "10.0/s since it began"),
        ({"succeeded": 0}, ""),
        ({"state": BackfillState.PAUSED}, ""),
        ({"state": BackfillState.SUCCEEDED}, ""),
    ],
)
def test_a_slow_one_is_told_by_its_rate(
    status: BackfillStatus, told: dict[str, Any], rate: str
) -> None:
    assert _rate(replace(status, **told), 10.0) == rate


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, []),
        ({"led_ms": 0}, [f"No process leads it; to go on: {AGAIN}"]),
        ({"led_ms": 0, "origin": Origin.QUEUE}, []),
        ({"state": BackfillState.PAUSED}, [f"Once fixed: {AGAIN}"]),
        ({"state": BackfillState.PAUSED, "reason": BY_HAND}, [f"To go on: {AGAIN}"]),
        ({"state": BackfillState.FAILED}, []),
        ({"state": BackfillState.CANCELLED}, []),
        (
            {
                "state": BackfillState.CANCELLED,
                "result": {"warnings": [{"file": "f", "message": "no room", "written": False}]},
            },
            ["f: no room", f"Once fixed, write them again: {AGAIN}"],
        ),
        (
            {
                "state": BackfillState.SUCCEEDED,
                "result": {
                    "warnings": [{"file": "report.html", "message": "odd", "written": True}]
                },
            },
            ["report    {out}/report.html", "report.html: odd"],
        ),
        (
            {
                "state": BackfillState.SUCCEEDED,
                "result": {
                    "warnings": [{"file": "report.html", "message": "no room", "written": False}]
                },
            },
            ["report.html: no room", f"Once fixed, write them again: {AGAIN}"],
        ),
    ],
)
def test_what_to_do_is_told_where_there_is_something_to_do(
    status: BackfillStatus, told: dict[str, Any], said: list[str]
) -> None:
    found = replace(status, **told)
    assert _advice(found) == [each.format(out=found.plan.output) for each in said]


@pytest.mark.parametrize(
    ("failures", "remedy"),
    [
        ({"invalid_item": 2, "not_found": 1}, "Fix these rows in failures.jsonl, then run them"),
        ({"invalid_item": 1, "not_found": 2}, "Make sure that the API has these, then run them"),
        ({"upstream_error": 3}, "To run them again: trainmaster backfill retry-failed night"),
    ],
)
def test_of_failures_the_reasons_are_told_and_the_remedy_of_the_commonest(
    status: BackfillStatus, failures: dict[str, int], remedy: str
) -> None:
    messages = [
        {
            "items": 7 - number,
            "code": "not_found",
            "message": f"reason {number}",
            "first": {"place": f"line {number}", "named": "a.png", "item": 0},
        }
        for number in range(1, 7)
    ]
    messages[5]["first"] = {"place": "", "named": "", "item": 17}
    found = replace(
        status, state=BackfillState.SUCCEEDED, failed=sum(failures.values()), failures=failures
    )
    output = Path(found.plan.output)
    output.mkdir()
    (output / "summary.json").write_bytes(orjson.dumps({"messages": messages}))
    lines = _failures(found)
    assert lines[0] == "3 items failed:"
    assert lines[1:3] == ["  6 × not_found: reason 1", "      the first: line 1: a.png"]
    assert lines[11:13] == [
        "  … and 1 more reason",
        f"All are in {output}/failures.jsonl; the report is {output}/report.html",
    ]
    assert lines[13].startswith(remedy)
    messages[5]["items"] = 1
    (output / "summary.json").write_bytes(orjson.dumps({"messages": messages[5:]}))
    assert _failures(found)[1:3] == ["  1 × not_found: reason 6", "      17"]
    (output / "summary.json").unlink()
    assert len(_failures(found)) == 3, "of results that lie elsewhere no reason can be read"


def test_what_is_not_so_is_left_out_of_what_is_shown(status: BackfillStatus) -> None:
    shown = dict(_fields(replace(status, ended_ms=1_700_000_090_000, exhausted=True)))
    assert (shown["done"], shown["failed"], shown["time"]) == ("20 of 30", "0", "1m30s")
    assert (shown["in flight"], shown["never run"]) == ("10", "")
    told: dict[str, Any] = {
        "failed": 3,
        "failures": {"not_found": 2, "invalid_item": 1},
        "dropped": 4,
    }
    shown = dict(_fields(replace(status, **told, open=0, expected=None)))
    assert (shown["done"], shown["failed"]) == ("23", "3: 2 not_found, 1 invalid_item")
    assert (shown["in flight"], shown["never run"]) == ("", "4")


def test_only_what_failed_since_a_person_has_looked_counts(status: BackfillStatus) -> None:
    plan = replace(status.plan, limits=FailureLimits(most=5))
    seen = replace(status, plan=plan, failed=7, acknowledged=3, acknowledged_of=10)
    assert (seen.excess, seen.failures_left) == ("", 1)
    more = replace(seen, failed=8)
    assert (more.excess, more.failures_left) == ("5 items failed; the limit is 5", 0)
    assert replace(more, failed=20).failures_left == 0
    assert status.failures_left is None


def test_failures_run_again_as_the_backfill_did(status: BackfillStatus) -> None:
    plan = replace(
        status.plan,
        part_format=PartFormat.PARQUET,
        window=3,
        part_items=5,
        item_events=True,
        context={"correlationid": "order-1"},
        reply_to="desk",
        limits=FailureLimits(most=1),
    )
    failures = SourcePlan(f"{plan.output}/failures.jsonl", SourceFormat.JSONL)
    assert retry_plan(replace(status, plan=plan)) == replace(
        # A limit that it had reached would stop it again at once.
        plan,
        source=failures,
        output=f"{plan.output}/retry",
        limits=FailureLimits(),
    )


class Terminal(io.StringIO):
    """Keeps what is written to it, and may say that it is a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [False, True])
@pytest.mark.parametrize("quiet", [False, True])
def test_who_wants_quiet_sees_no_progress_and_everyone_else_does(
    status: BackfillStatus, monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, quiet: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("worker.cli.backfill.progress.LINE_SECONDS", 0.0)
    shown = Terminal(is_terminal=is_terminal)
    with redirect_stderr(shown):
        with Display("night", quiet=quiet) as display:
            display.show(status)
            display.say("a word")
        with drawing_shown(replace(status, render="pictures"), quiet=quiet) as draw:
            draw(3)
    said = shown.getvalue()
    assert bool(said) is not quiet
    for word in ("to resume it after a kill", "in flight", "a word", "3 of 20 drawn"):
        of_terminals = word == "3 of 20 drawn"
        assert (word in said) is (not quiet and (is_terminal or not of_terminals)), word
    assert ("drawing 20 items into pictures" in said) is (not quiet and not is_terminal)


def test_the_pace_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    assert (pace.per_second, pace.rest_seconds(10)) == (0.0, None)
    pace.see(100, 1_000.0)
    assert pace.per_second == 0.0
    pace.see(100, 1_000.0)
    assert pace.per_second == 0.0, "no time has passed"
    for second in range(1, 61):
        pace.see(100 + 10 * min(second, 30) + max(0, second - 30), 1_000.0 + second)
    # Of the last half minute, one a second; the ten a second of before are forgotten.
    assert pace.per_second == pytest.approx(1.0, abs=0.5)
    assert pace.rest_seconds(30) == pytest.approx(30 / pace.per_second)
    assert pace.rest_seconds(None) is None


def test_without_a_terminal_a_line_tells_how_far_it_is_every_ten_seconds(
    status: BackfillStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    said = io.StringIO()
    with redirect_stderr(said), Display("night", quiet=False) as display:
        for second in range(31):
            now = 100.0 + second
            display.show(replace(status, succeeded=second))
    _, *lines = said.getvalue().splitlines()
    assert [line.split(" of ")[0] for line in lines] == ["10", "20", "30"]
