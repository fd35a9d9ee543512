"""What is answered of a row: each field by its own name, and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.enums import Priority
from trainmaster_client import Event
from worker.gateway.models import BulkBody, moment
from worker.gateway.read_model.minutes import Minute
from worker.gateway.read_model.rows import CommandRow
from worker.gateway.routes import command_list, commands, holds, overview, workers
from worker.queue.ledger.command_status import CommandStatus
from worker.queue.ledger.holds import Hold, HoldScope
from worker.queue.ledger.workers import WorkerStatus

STATUS: dict[str, Any] = {
    "id": "one",
    "group": None,
    "type": "train",
    "state": "polling",
    "lane": "bulk",
    "attempts": 2,
    "claims": 5,
    "accepted_at_ms": 1_000,
    "due_at_ms": 2_000,
    "ended_at_ms": 3_000,
    "last_error": {"code": "busy", "message": "m"},
    "progress": {"at": 1.5},
    "last_event_id": "3-0",
    "resolution": {"by": "oncall"},
}


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def end(**data: Any) -> Event:
    attributes = {"id": "1/x", "type": "train.failed", "subject": "one", "data": data}
    return Event("3-0", {**attributes, "dataref": "file:///results/1.json"})


def test_a_time_is_told_and_none_where_there_is_none() -> None:
    assert (moment(None), moment(0), moment(1500)) == (None, None, at(1.5))


def test_a_command_is_told_by_its_row() -> None:
    found = commands._view(CommandStatus(**STATUS), None).model_dump()
    assert found == {
        "id": "one",
        "type": "train",
        "state": "polling",
        "lane": "bulk",
        "attempts": 2,
        "accepted_at": at(1),
        "due_at": at(2),
        "ended_at": at(3),
        "error": {"code": "busy", "message": "m"},
        "result": None,
        "dataref": None,
        "progress": {"at": 1.5},
        "resolution": {"by": "oncall"},
    }


def test_a_command_that_has_ended_is_told_by_its_event_too() -> None:
    failed = commands._view(CommandStatus(**STATUS), end(error={"code": "end"}))
    assert (failed.error, failed.dataref) == ({"code": "end"}, "file:///results/1.json")
    # What an attempt failed by is no error of a command that succeeded.
    done = commands._view(CommandStatus(**STATUS), end(result={"n": 1}))
    assert (done.error, done.result) == (None, {"n": 1})


def test_one_that_nobody_has_read_has_a_type_where_it_was_noted() -> None:
    found = commands._unread("one", "train").model_dump()
    told = {name: value for name, value in found.items() if value is not None}
    assert told == {"id": "one", "type": "train", "state": "submitted", "attempts": 0}
    assert commands._unread("one", "").type is None


def test_a_command_of_a_list_is_told_by_its_events() -> None:
    row = CommandRow("one", "train", "failed", "c", 3, 1_000, 2_500, "busy", "m", "2-0")
    assert command_list._item(row) == {
        "id": "one",
        "type": "train",
        "state": "failed",
        "correlationid": "c",
        "attempts": 3,
        "accepted_at": at(1),
        "changed_at": at(2.5),
        "error": {"code": "busy", "message": "m"},
    }
    bare = command_list._item(row._replace(error_code=None, accepted_at_ms=None))
    assert (bare["error"], bare["accepted_at"]) == (None, None)


@pytest.mark.parametrize(
    ("hold", "told"),
    [
        (
            Hold(HoldScope.FLEET, "", "429", 1_000, 2_500),
            {"scope": "fleet", "worker": None, "since": at(1), "rest_seconds": 2.5},
        ),
        (
            Hold(HoldScope.WORKER, "w-1", "key", 1_000, None),
            {"scope": "worker", "worker": "w-1", "since": at(1), "rest_seconds": None},
        ),
        (
            Hold(HoldScope.FLEET, "", "429", 1_000, 0),
            {"scope": "fleet", "worker": None, "since": at(1), "rest_seconds": 0.0},
        ),
    ],
)
def test_a_hold_is_told_in_seconds(hold: Hold, told: dict[str, Any]) -> None:
    found = holds._hold(hold).model_dump()
    assert found == {**told, "reason": hold.reason}


def test_a_minute_is_told_by_its_begin() -> None:
    minute = Minute(60_000, 1, 2, 3, 4, 5, 0.5, 9.5)
    assert overview._minute(minute).model_dump() == {
        "at": at(60),
        "accepted": 1,
        "succeeded": 2,
        "failed": 3,
        "cancelled": 4,
        "rejected": 5,
        "p50_seconds": 0.5,
        "p99_seconds": 9.5,
    }


def test_a_lanes_load_is_its_own() -> None:
    sample: dict[str, dict[tuple[str, ...], float]] = {
        "due_now": {("bulk",): 2.0, ("interactive",): 0.0},
        "open": {("bulk",): 3.0, ("interactive",): 4.0},
        "oldest_due_seconds": {("bulk",): 1.5, ("interactive",): 7.0},
        "lane_paused": {("bulk",): 1.0, ("interactive",): 0.0},
    }
    assert [overview._lane(lane, sample).model_dump() for lane in Priority] == [
        # What is due later has not waited.
        {"lane": "interactive", "due": 0, "open": 4, "oldest_due_seconds": None, "paused": False},
        {"lane": "bulk", "due": 2, "open": 3, "oldest_due_seconds": 1.5, "paused": True},
    ]


def test_a_worker_is_told_as_it_told_of_itself() -> None:
    told: dict[str, Any] = {
        "name": "w-1",
        "host": "h",
        "pid": 7,
        "version": "1",
        "python": "3",
        "slots": 4,
        "slots_used": 3,
        "loop_lag_seconds": 0.25,
        "breaker_open": True,
        "stopping": False,
    }
    status = WorkerStatus(**told, started_ms=1_000, seen_ms=2_000)
    assert workers._view(status).model_dump() == {
        **told,
        "started_at": at(1),
        "seen_at": at(2),
    }


@pytest.mark.parametrize(
    ("body", "is_unfiltered", "told"),
    [
        ({}, True, {}),
        ({"all": True, "dry_run": False}, True, {"all": True}),
        ({"ids": []}, False, {"ids": []}),
        ({"state": "failed"}, False, {"state": "failed"}),
        ({"type": "train"}, False, {"type": "train"}),
        ({"correlationid": ""}, False, {"correlationid": ""}),
        ({"since": "2026-01-01T00:00:00Z"}, False, None),
        ({"until": "2026-01-01T00:00:00Z"}, False, None),
    ],
)
def test_an_act_on_many_says_which_or_it_says_nothing(
    body: dict[str, Any], told: dict[str, Any] | None, *, is_unfiltered: bool
) -> None:
    found = BulkBody.model_validate(body)
    assert found.is_unfiltered == is_unfiltered
    assert found.filter().keys() == (body.keys() if told is None else told.keys())
    if told is not None:
        assert found.filter() == told
