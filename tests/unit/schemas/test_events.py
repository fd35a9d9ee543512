"""Rules of the events' bytes."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from schemas.enums import EventState
from schemas.events import UNREADABLE_TYPE, ErrorBody, ErrorCode, Event, Problem, event_json

MOMENT_MS = 1_769_860_800_007


def event(**changes: object) -> bytes:
    """Returns the bytes of an event."""
    arguments: dict[str, object] = {
        "event_id": "a1:succeeded",
        "command_type": "predict",
        "state": EventState.SUCCEEDED,
        "subject": "a1",
        "time_ms": MOMENT_MS,
        "data": {"result": None, "attempts": 1, "duration_seconds": 0.5},
        "context": {},
        **changes,
    }
    return event_json(**arguments)  # type: ignore[arg-type]  # the arguments vary by test


def test_an_event_is_a_cloudevent() -> None:
    """Its attributes are those of the specification, its data is an object."""
    raw = event(context={"correlationid": "c", "tenant": 7, "dryrun": True})
    assert json.loads(raw) == {
        "specversion": "1.0",
        "id": "a1:succeeded",
        "source": "/trainmaster",
        "type": "predict.succeeded",
        "subject": "a1",
        "time": "2026-01-31T12:00:00.007Z",
        "datacontenttype": "application/json",
        "correlationid": "c",
        "tenant": 7,
        "dryrun": True,
        "data": {"result": None, "attempts": 1, "duration_seconds": 0.5},
    }
    assert Event.model_validate_json(raw).model_extra == {
        "correlationid": "c",
        "tenant": 7,
        "dryrun": True,
    }


def test_the_same_arguments_give_the_same_bytes() -> None:
    """An event that is written twice is the same event."""
    assert event() == event()


def test_a_context_never_overrides_an_attribute_of_the_event() -> None:
    """Nor does the command's own claim check come along."""
    context = {
        "id": "evil",
        "type": "evil",
        "dataref": "evil",
        "dataschema": "evil",
        "data": "evil",
    }
    assert event(context=context) == event()


def test_a_large_result_is_referred_to() -> None:
    """The attribute dataref says where it lies."""
    assert json.loads(event(dataref="file:///r/a1.json"))["dataref"] == "file:///r/a1.json"


def test_a_message_without_a_readable_type_is_rejected_as_a_command() -> None:
    """The type of its event is command.rejected."""
    raw = event(command_type=UNREADABLE_TYPE, state=EventState.REJECTED)
    assert json.loads(raw)["type"] == "command.rejected"


def test_values_of_the_domain_are_written_as_strings() -> None:
    """UUIDs and enumerations need no conversion before."""
    value = UUID("11111111-1111-4111-8111-111111111111")
    raw = event(data={"training_uuid": value, "state": EventState.STARTED})
    assert json.loads(raw)["data"] == {"training_uuid": str(value), "state": "started"}


@pytest.mark.parametrize("code", ErrorCode)
def test_each_error_code_says_what_it_means_and_what_becomes_of_it(code: ErrorCode) -> None:
    """The table of the docs is made from these."""
    assert code == code.value
    assert code.value == code.name.lower()
    assert code.fate in {"rejected", "retry", "permanent", "misconfigured"}
    assert code.meaning.endswith(".")
    assert "\n" not in code.meaning


def test_an_error_body_leaves_out_nothing_it_has() -> None:
    """Code, message, status and problems are what an event shows."""
    body = ErrorBody(
        code=ErrorCode.NOT_FOUND,
        message="m",
        status=404,
        problems=[Problem(path="data.x", message="n")],
    )
    assert body.model_dump(mode="json", exclude_none=True) == {
        "code": "not_found",
        "message": "m",
        "status": 404,
        "problems": [{"path": "data.x", "message": "n"}],
    }
