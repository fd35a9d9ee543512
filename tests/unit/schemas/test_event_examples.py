"""There is an example of each type of event, and it is a valid one."""

from __future__ import annotations

from datetime import UTC, datetime

import jsonschema
import pytest

from schemas.documents import events_schema
from schemas.enums import EventState
from schemas.event_examples import event_types, example_event
from schemas.events import EVENT_DATA, is_about_command
from worker.cli.formatting import narrate

TYPES = event_types()


def test_every_state_of_every_command_has_its_types() -> None:
    assert {"train.succeeded", "train.started", "backfill.progressed", "command.rejected"} <= {
        *TYPES
    }
    assert "attach.started" not in TYPES
    assert len(TYPES) == len(set(TYPES)) > 100


@pytest.mark.parametrize("event_type", TYPES)
def test_an_example_is_valid_by_the_schema_and_readable_by_all_of_ours(event_type: str) -> None:
    event = example_event(event_type)
    checked = jsonschema.Draft202012Validator(
        events_schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    checked.validate(event)
    EVENT_DATA[EventState(event_type.rpartition(".")[2])].model_validate(event["data"])
    assert event["type"] == event_type
    assert is_about_command(event)
    assert event["example"] is True
    assert narrate(event).plain.startswith(event["time"][:19])


def test_an_example_tells_of_its_command_and_no_two_have_an_id() -> None:
    event = example_event("train.succeeded", datetime(2026, 1, 31, 12, tzinfo=UTC))
    assert event["time"] == "2026-01-31T12:00:00.000Z"
    assert event["subject"] == "train-street-7"
    assert event["data"]["result"]["iteration"]["epochs"] == 20
    assert event["data"]["result"]["iteration"]["loss_log"]
    first, second = example_event("train.failed"), example_event("train.failed")
    assert first["id"] != second["id"]
    assert first["data"]["error"]["code"] == "not_found"
    with pytest.raises(KeyError):
        example_event("train.nothing")
