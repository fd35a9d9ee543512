"""Rules of the published documents: they are fresh, valid, and say what the code does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

import schemas.documents
from schemas.claim_check import parse_message
from schemas.commands import COMMAND_CLASSES
from schemas.documents import commands_schema, documents, events_schema, render, write
from schemas.enums import EventState
from schemas.events import UNREADABLE_TYPE, event_json
from schemas.parsing import InvalidCommandError, parse_command

GENERATED = Path(schemas.documents.__file__).parent / "generated"

COMMANDS = Draft202012Validator(commands_schema(), format_checker=FormatChecker(["uuid"]))
EVENTS = Draft202012Validator(events_schema(), format_checker=FormatChecker(["uuid"]))

ERROR = {"code": "not_found", "message": "m", "status": 404}
MODEL: dict[str, Any] = {
    "model_group": {
        "created_at": "2026-01-02T03:04:05Z",
        "description": "",
        "features": ["car"],
        "model": "resnet999",
        "model_uuid": "11111111-1111-4111-8111-111111111111",
        "title": "Cars",
        "type": "classification",
    },
    "model_iterations": [],
}


@pytest.mark.parametrize("name", documents())
def test_the_files_in_the_repository_are_fresh(name: str) -> None:
    """Who changes a model runs `trainmaster schemas` and commits what it writes."""
    assert (GENERATED / name).read_text(encoding="utf-8") == render(documents()[name])


def test_documents_are_written_where_asked(tmp_path: Path) -> None:
    """The folder is made if need be."""
    written = write(tmp_path / "a" / "b")
    assert sorted(path.name for path in written) == sorted(documents())
    assert all(json.loads(path.read_text(encoding="utf-8")) for path in written)


@pytest.mark.parametrize("schema", [commands_schema(), events_schema()], ids=["commands", "events"])
def test_schemas_are_valid_and_whole(schema: dict[str, Any]) -> None:
    """They follow their dialect and refer to nothing that is not there."""
    Draft202012Validator.check_schema(schema)
    for reference in references(schema):
        resolve(schema, reference)


@pytest.mark.parametrize("command_type", COMMAND_CLASSES)
def test_each_example_is_a_command_for_the_schema_and_for_the_parser(
    command_type: str,
) -> None:
    """What the documents show works."""
    example = COMMAND_CLASSES[command_type].example
    COMMANDS.validate(example)
    command = parse_command(json.dumps(example).encode()).command
    assert type(command) is COMMAND_CLASSES[command_type]


WRONG: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("train", {"batch_size": "8"}, {}),
    ("train", {"batch_size": True}, {}),
    ("train", {"batch_size": 0}, {}),
    ("train", {"labels_uuids": []}, {}),
    ("train", {"labels_uuids": ["x"]}, {}),
    ("train", {"features_mapping": {"x": {"a": ["b"]}}}, {}),
    ("train", {"unknown": 1}, {}),
    ("create_model", {"features": ["a", "a"]}, {}),
    ("create_model", {"model": "resnet19"}, {}),
    ("create_model", {"title": None}, {}),
    ("update_attachment", {"training_uuids": None}, {}),
    ("update_attachment", {"training_uuids": []}, {}),
    ("predict", {"data_uuid": None}, {}),
    ("predict", {"data_path": "a.png"}, {}),
    ("predict", {"conf_thresh": 1.5}, {}),
    ("predict", {"rdp_thresh": 0.001}, {}),
    ("predict", {"task": "detection"}, {}),
    ("predict", {}, {"id": ""}),
    ("predict", {}, {"id": "x" * 256}),
    ("predict", {}, {"id": "a\nb"}),
    ("predict", {}, {"replyto": "Shop"}),
    ("predict", {}, {"shop_id": "x"}),
    ("predict", {}, {"shop": 1.5}),
    ("predict", {}, {"priority": "high"}),
    ("predict", {}, {"type": "foretell"}),
    ("predict", {}, {"data": []}),
]


@pytest.mark.parametrize(("command_type", "data", "attributes"), WRONG)
def test_schema_and_parser_refuse_the_same(
    command_type: str, data: dict[str, Any], attributes: dict[str, Any]
) -> None:
    """A producer that checks against the schema is not surprised later."""
    example: dict[str, Any] = COMMAND_CLASSES[command_type].example
    wrong = {**example, "data": {**example["data"], **data}, **attributes}
    assert not COMMANDS.is_valid(wrong)
    with pytest.raises(InvalidCommandError):
        parse_command(json.dumps(wrong).encode())


@pytest.mark.parametrize(
    ("command_type", "data", "attributes"),
    [
        ("predict", {}, {"priority": None, "id": None, "shop": None}),
        ("predict", {"data_path": None, "data_base64": None}, {"dryrun": True, "tenant": 7}),
        ("update_attachment", {"iteration_policy": "useAll", "training_uuids": None}, {}),
        ("create_model", {"description": None}, {}),
    ],
)
def test_schema_and_parser_take_the_same(
    command_type: str, data: dict[str, Any], attributes: dict[str, Any]
) -> None:
    """Null is the same as absent, for both."""
    example: dict[str, Any] = COMMAND_CLASSES[command_type].example
    right = {**example, "data": {**example["data"], **data}, **attributes}
    COMMANDS.validate(right)
    assert parse_command(json.dumps(right).encode())


@pytest.mark.parametrize("command_type", COMMAND_CLASSES)
def test_schema_and_parser_take_a_dataref_in_place_of_data(command_type: str) -> None:
    """The claim check, for every type; neither of both is an error."""
    example = {**COMMAND_CLASSES[command_type].example, "dataref": "/data/commands/a1.json"}
    del example["data"]
    COMMANDS.validate(example)
    assert parse_message(json.dumps(example).encode()).command.type == command_type
    for wrong in ({"dataref": ""}, {"dataref": 7}):
        assert not COMMANDS.is_valid(example | wrong)
        with pytest.raises(InvalidCommandError, match="dataref"):
            parse_message(json.dumps(example | wrong).encode())
    del example["dataref"]
    assert not COMMANDS.is_valid(example)
    with pytest.raises(InvalidCommandError, match="data is required"):
        parse_message(json.dumps(example).encode())


def event(command_type: str, state: EventState, data: dict[str, Any]) -> dict[str, Any]:
    """Returns an event as a reader gets it."""
    raw = event_json(
        event_id="e",
        command_type=command_type,
        state=state,
        subject="a1",
        time_ms=1,
        data=data,
        context={"correlationid": "c", "tenant": 7},
    )
    return dict(json.loads(raw))


@pytest.mark.parametrize(
    ("command_type", "state", "data"),
    [
        ("predict", EventState.ACCEPTED, {}),
        ("train", EventState.STARTED, {"training_uuid": "t"}),
        (
            "predict",
            EventState.RETRYING,
            {"error": ERROR, "attempt": 1, "retry_at": "2026-01-02T03:04:05Z"},
        ),
        ("attach", EventState.IN_DOUBT, {"error": ERROR, "check": "the project"}),
        ("detach", EventState.FAILED, {"error": ERROR, "attempts": 1}),
        ("train", EventState.CANCELLED, {}),
        ("train", EventState.CANCELLED, {"training_uuid": "t", "note": "it goes on"}),
        (UNREADABLE_TYPE, EventState.REJECTED, {"error": ERROR, "raw": "{"}),
        ("train", EventState.REJECTED, {"error": ERROR, "raw": "{"}),
        ("get_model", EventState.SUCCEEDED, {"result": MODEL}),
        ("list_models", EventState.SUCCEEDED, {"result": {"models": [MODEL]}}),
        ("delete_model", EventState.SUCCEEDED, {"result": None}),
        ("predict", EventState.SUCCEEDED, {"result": {"frames": {"0": [], "1": None}}}),
        ("predict", EventState.SUCCEEDED, {"result": None}),
        (
            "train",
            EventState.SUCCEEDED,
            {"result": {"training_uuid": MODEL["model_group"]["model_uuid"], "iteration": None}},
        ),
    ],
)
def test_events_of_each_state_follow_the_schema(
    command_type: str, state: EventState, data: dict[str, Any]
) -> None:
    """What the builder makes is what the schema promises."""
    if state is EventState.SUCCEEDED:
        data = {**data, "attempts": 1, "duration_seconds": 0.25}
    EVENTS.validate(event(command_type, state, data))


@pytest.mark.parametrize(
    ("command_type", "state", "data"),
    [
        ("predict", EventState.STARTED, {"training_uuid": "t"}),
        ("predict", EventState.FAILED, {"attempts": 1}),
        ("delete_model", EventState.SUCCEEDED, {"result": 1, "attempts": 1, "duration_seconds": 1}),
        ("get_model", EventState.SUCCEEDED, {"result": {}, "attempts": 1, "duration_seconds": 1}),
    ],
)
def test_other_events_do_not(command_type: str, state: EventState, data: dict[str, Any]) -> None:
    """The schema is no formality."""
    assert not EVENTS.is_valid(event(command_type, state, data))


def test_the_asyncapi_document_hangs_together() -> None:
    """Every reference leads somewhere; every channel has its address and messages."""
    document = documents()["asyncapi.json"]
    assert document["asyncapi"] == "3.1.0"
    assert {name: each["address"] for name, each in document["channels"].items()} == {
        "commands": "{namespace}:commands",
        "bulkCommands": "{namespace}:commands:bulk",
        "inbox": "{namespace}:inbox",
        "events": "{namespace}:events",
        "replies": "{namespace}:replies:{replyto}",
    }
    for reference in references(document):
        resolve(document, reference)
    for operation in document["operations"].values():
        channel = resolve(document, operation["channel"]["$ref"])
        names = {message["$ref"].rpartition("/")[2] for message in operation["messages"]}
        assert operation["action"] in {"send", "receive"}
        assert names == set(channel["messages"])
    messages = document["components"]["messages"]
    assert {message["name"] for message in messages.values()} >= {
        each.__name__ for each in COMMAND_CLASSES.values()
    }


def test_schemas_of_the_same_name_are_the_same() -> None:
    """The AsyncAPI document holds both sets of definitions under one roof."""
    commands, events = commands_schema()["$defs"], events_schema()["$defs"]
    for name in commands.keys() & events.keys():
        assert commands[name] == events[name], name


def references(node: object) -> list[str]:
    """Returns every `$ref` in a document."""
    match node:
        case {"$ref": str(reference)}:
            return [reference]
        case dict():
            return [found for value in node.values() for found in references(value)]
        case list():
            return [found for value in node for found in references(value)]
        case _:
            return []


def resolve(document: dict[str, Any], reference: str) -> Any:
    """Returns what a local reference leads to."""
    assert reference.startswith("#/")
    found: Any = document
    for part in reference[2:].split("/"):
        found = found[part]
    return found
