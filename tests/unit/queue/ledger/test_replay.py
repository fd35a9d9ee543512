"""Changes to a command before it is sent again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schemas.enums import Priority
from worker.queue.ledger.dead_letters import DeadLetter
from worker.queue.ledger.replay import Edit, Refusal, Replay, merge, prepare_replay

LETTER = DeadLetter(
    key="1-0",
    command_id="old",
    type="list_models",
    reason="server_error",
    error={"code": "server_error", "message": "m"},
    text=b'{"type":"list_models","id":"old","data":{}}',
    attempts=1,
    history=[],
    at_ms=1,
    lane=Priority.BULK,
)


def test_a_change_replaces_values_and_completes_objects() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge(base, {"a": {"c": 3}, "d": [2]}) == {"a": {"b": 1, "c": 3}, "d": [2]}
    assert base == {"a": {"b": 1, "c": 2}, "d": [1]}


@pytest.mark.parametrize(
    ("attributes", "priority"),
    [({}, "bulk"), ({"priority": None}, None), ({"priority": "interactive"}, "interactive")],
    ids=["untouched", "taken off", "changed"],
)
def test_a_command_keeps_the_lane_of_its_stream_unless_its_priority_is_edited(
    attributes: dict[str, Any], priority: str | None
) -> None:
    """Who takes the priority off a bulk command wants it to run before the others."""
    sent = prepare_replay("old", LETTER, Edit(attributes=attributes), 0.0, may_be_done=False)
    assert isinstance(sent, Replay)
    assert sent.command.get("priority") == priority


def test_a_letter_with_an_integer_that_no_float_can_be_is_refused_until_it_is_edited() -> None:
    """Such a number is read as JSON has it, or the error would be ours and not the letter's."""
    long = replace(LETTER, text=b'{"type":"list_models","data":{"order_by":%d}}' % (10**400))
    refusal = prepare_replay("old", long, Edit(), 0.0, may_be_done=False)
    assert isinstance(refusal, Refusal)
    assert "data.order_by" in refusal.error.message
    sent = prepare_replay("old", long, Edit(data={}), 0.0, may_be_done=False)
    assert isinstance(sent, Replay)
    assert not sent.deadline_dropped
