"""What is told of a command: when it is looked at again, and who settled a doubt."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from trainmaster_client import Event
from worker.cli.command_texts import describe_next_look, describe_resolution
from worker.cli.status import _fields
from worker.queue.ledger.command_status import CommandStatus
from worker.queue.ledger.models import Phase
from worker.queue.ledger.stored_values import moment_of

NOW = 1_700_000_000.0
ROW = CommandStatus(
    id="one",
    group=None,
    type="train",
    state="waiting",
    lane="interactive",
    attempts=1,
    claims=0,
    accepted_at_ms=int((NOW - 90) * 1000),
    due_at_ms=int((NOW + 30) * 1000),
    ended_at_ms=None,
    last_error=None,
    progress=None,
    last_event_id=None,
    phase=Phase.IDLE,
)


@pytest.mark.parametrize(
    ("state", "due", "said"),
    [
        ("retrying", 30, "in 30s"),
        ("retrying", 0, "due for 0.0s"),
        ("retrying", -30, "due for 30s"),
        ("running", 30, "running now"),
        ("running", -90, "its lease ended 1m30s ago"),
        ("succeeded", None, ""),
    ],
)
def test_it_is_told_when_a_command_is_looked_at_again(
    state: str, due: float | None, said: str
) -> None:
    due_at_ms = None if due is None else int((NOW + due) * 1000)
    assert describe_next_look(replace(ROW, state=state, due_at_ms=due_at_ms), NOW) == said


@pytest.mark.parametrize(
    ("resolution", "said"),
    [
        ({"created": None, "at_ms": 1_699_999_940_000}, "nothing was created, 1m00s ago"),
        ({"created": "u-1", "at_ms": 1_699_999_995_000}, "u-1 was created, 5.0s ago"),
        ({"created": None}, "nothing was created"),
    ],
)
def test_it_is_told_who_settled_a_doubt_and_when(resolution: dict[str, Any], said: str) -> None:
    assert describe_resolution({"by": "ann", **resolution}, NOW) == f"by ann: {said}"


def fields(**told: Any) -> dict[str, str]:
    return dict(_fields(replace(ROW, **told), None, NOW))


def test_a_doubt_that_goes_on_after_a_word_is_told_as_one() -> None:
    resolution = {"by": "ann", "created": "u-1", "at_ms": int((NOW - 60) * 1000)}
    goes_on = "; the API does not have it, or it is another command's, so the doubt goes on"
    told = fields(resolution=resolution, phase=Phase.IN_DOUBT)["resolved"]
    assert told == f"by ann: u-1 was created, 1m00s ago{goes_on}"
    for phase, created in ((Phase.RESOLVED, "u-1"), (Phase.IN_DOUBT, None)):
        told = fields(resolution=resolution | {"created": created}, phase=phase)["resolved"]
        assert goes_on not in told


def test_of_a_command_that_has_ended_its_time_and_its_outcome_are_told() -> None:
    told = fields(ended_at_ms=int((NOW - 30) * 1000), state="succeeded", claims=3)
    assert told["ended"].endswith(", after 1m00s")
    assert told["outcome"] == "its event is no longer kept"
    assert not {"next look", "unended runs", "last error"} & told.keys()


@pytest.mark.parametrize(
    "data", [{}, {"result": None, "attempts": 1, "duration_seconds": math.inf}]
)
def test_an_outcome_that_others_wrote_otherwise_is_left_out(data: dict[str, Any]) -> None:
    event = Event("1-0", {"type": "train.succeeded", "data": data})
    row = replace(ROW, ended_at_ms=int(NOW * 1000), state="succeeded")
    assert dict(_fields(row, event, NOW))["outcome"] == ""


def test_a_time_in_its_progress_that_others_wrote_is_one_that_can_be_shown() -> None:
    assert replace(ROW, progress={"at": 1e308}).changed_at_ms == moment_of(math.inf)


@pytest.mark.parametrize(("claims", "is_told"), [(0, False), (1, False), (2, True)])
def test_runs_that_did_not_end_are_told_from_the_second_one_on(claims: int, is_told: bool) -> None:
    assert ("unended runs" in fields(claims=claims)) is is_told
