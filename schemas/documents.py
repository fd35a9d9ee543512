"""The contract as files: JSON Schema 2020-12 for commands and events, and an AsyncAPI document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from schemas.asyncapi import asyncapi_document
from schemas.attributes import EXTENSION_NAME_PATTERN
from schemas.claim_check import DATAREF, ClaimCheck
from schemas.commands import COMMAND_CLASSES, Command
from schemas.enums import EventState
from schemas.events import EVENT_DATA, EVENT_SOURCE, SOURCE_PATTERN, UNREADABLE_TYPE, SucceededData
from schemas.portable import NAME, portable

if TYPE_CHECKING:
    from pathlib import Path

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NULL: Schema = {"type": "null"}

# A condition, for with `anyOf` beside its properties generators write a command once per branch.
_DATA_OR_DATAREF: Schema = {
    "if": {"properties": {DATAREF: {}}, "required": [DATAREF]},
    "else": {"properties": {"data": {}}, "required": ["data"]},
}

_SOURCE = (
    f"`{EVENT_SOURCE}`; of an event about an item of a backfill `{EVENT_SOURCE}/backfills/` and "
    "the backfill's id."
)


def commands_schema() -> Schema:
    """Returns the JSON Schema of a command."""
    schema = TypeAdapter(Command).json_schema()
    definitions: dict[str, Schema] = schema["$defs"]
    for definition in definitions.values():
        _take_null_as_absent(definition)
    definitions |= {"SpecVersion": {"const": "1.0"}, "Name": NAME}
    dataref = ClaimCheck.model_json_schema()["properties"][DATAREF]
    for command_class in COMMAND_CLASSES.values():
        definition = definitions[command_class.__name__]
        definitions |= _extension(definition["additionalProperties"])
        definition["additionalProperties"] = {"$ref": "#/$defs/Extension"}
        definition["propertyNames"] = {"pattern": EXTENSION_NAME_PATTERN}
        properties: Schema = definition["properties"]
        # A constant that may be null has generators make a type of it in each command.
        properties["specversion"]["anyOf"] = [{"$ref": "#/$defs/SpecVersion"}, _NULL]
        properties[DATAREF] = dataref
        definition["required"].remove("data")
        definition |= _DATA_OR_DATAREF
        definition["examples"] = [command_class.example]
    return _published("Command", "What a producer sends.", schema["oneOf"], definitions)


def _extension(value: Schema) -> dict[str, Schema]:
    """Returns the definition of an extension's value, and one of each part that has limits."""
    text, integer, *rest = value["anyOf"]
    parts = {"ExtensionString": text, "ExtensionInteger": integer}
    references = [{"$ref": f"#/$defs/{name}"} for name in parts]
    return {**parts, "Extension": {"anyOf": [*references, *rest]}}


def _take_null_as_absent(definition: Schema) -> None:
    """Has what may be left out take null too, as the parser does."""
    for name, found in definition.get("properties", {}).items():
        variants = found.get("anyOf", ())
        may_be_null = _NULL in variants or "const" in found
        if name in definition.get("required", ()) or may_be_null:
            continue
        told = {key: found.pop(key) for key in ("default", "description", "title") if key in found}
        definition["properties"][name] = {"anyOf": [found, _NULL], **told}


def events_schema() -> Schema:
    """Returns the JSON Schema of an event."""
    models: list[type[BaseModel]] = [
        found for each in COMMAND_CLASSES.values() if (found := each.result)
    ]
    models += EVENT_DATA.values()
    _, schema = models_json_schema(
        [(model, "serialization") for model in dict.fromkeys(models)], by_alias=False
    )
    definitions: dict[str, Schema] = schema["$defs"]
    for each in definitions.values():
        _expect_without_defaults(each)
    succeeded = definitions.pop(SucceededData.__name__)
    # Of the API's own making: any JSON at all.
    del definitions["JsonValue"]
    definitions["ModelIteration"]["properties"]["loss_log"]["additionalProperties"] = True
    events: list[str] = []
    for state, part in EVENT_DATA.items():
        if state is not EventState.SUCCEEDED:
            events.append(part.__name__.removesuffix("Data"))
            types = [f"{each}.{state}" for each in _types_that_tell(state)]
            definitions |= _event(events[-1], types, part)
    for command_type, command_class in COMMAND_CLASSES.items():
        events.append(f"{command_class.__name__}Succeeded")
        event_type = f"{command_type}.{EventState.SUCCEEDED}"
        definitions |= _event(events[-1], [event_type], SucceededData)
        definitions[f"{events[-1]}Data"] = _with_result(succeeded, event_type, command_class.result)
    references = [{"$ref": f"#/$defs/{name}"} for name in events]
    return _published("Event", "What the worker tells.", references, definitions)


def _types_that_tell(state: EventState) -> list[str]:
    """Returns the types of commands that have events of a state: some, or all of them."""
    own = [name for name, each in COMMAND_CLASSES.items() if state in each.own_states]
    unreadable = [UNREADABLE_TYPE] if state is EventState.REJECTED else []
    return own or [*COMMAND_CLASSES, *unreadable]


def _event(name: str, types: list[str], part: type[BaseModel]) -> dict[str, Schema]:
    """Returns the definition of an event, and that of its type where it has one of several."""
    several = len(types) > 1
    event_type = {"$ref": f"#/$defs/{name}Type"} if several else {"const": types[0]}
    event: Schema = {
        "description": _sentence(part),
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "description": "Stable for the same event."},
            "source": {"pattern": SOURCE_PATTERN, "description": _SOURCE},
            "type": event_type,
            "subject": {
                "type": "string",
                "description": "The id of the command, or of a backfill's item.",
            },
            "time": {"format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "dataref": {"type": "string", "description": "Where a large result lies."},
            "data": {"$ref": f"#/$defs/{name}Data"},
        },
        "required": [
            "specversion",
            "id",
            "source",
            "type",
            "subject",
            "time",
            "datacontenttype",
            "data",
        ],
        "additionalProperties": {
            "anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "boolean"}]
        },
    }
    return {name: event} | ({f"{name}Type": {"enum": types}} if several else {})


def _sentence(part: type[BaseModel]) -> str:
    """Returns what an event says, as the description of its data ends with."""
    told = (part.__doc__ or "").partition(": ")[2]
    return told[:1].upper() + told[1:]


def _with_result(succeeded: Schema, event_type: str, result: type[BaseModel] | None) -> Schema:
    properties: Schema = succeeded["properties"]
    found = _NULL
    if result is not None:
        told = properties["result"]["description"]
        found = {"anyOf": [{"$ref": f"#/$defs/{result.__name__}"}, _NULL], "description": told}
    return {
        **succeeded,
        "description": f"`data` of `{event_type}`: the command is done.",
        "properties": {**properties, "result": found},
    }


def _expect_without_defaults(definition: Schema) -> None:
    """Makes what has a default optional: events leave out what is not there."""
    properties: Schema = definition.get("properties", {})
    required = [
        name for name in definition.get("required", []) if "default" not in properties[name]
    ]
    if required:
        definition["required"] = required
    else:
        definition.pop("required", None)


def _published(
    name: str, description: str, references: list[Schema], definitions: dict[str, Schema]
) -> Schema:
    return {
        "$schema": DIALECT,
        "$id": f"urn:trainmaster:{name.lower()}s",
        "title": name,
        "description": description,
        "oneOf": references,
        "$defs": {
            key: {"title": key, **portable(definition)} for key, definition in definitions.items()
        },
    }


def documents() -> dict[str, Schema]:
    """Returns every document by its file name."""
    commands, events = commands_schema(), events_schema()
    return {
        "commands.schema.json": commands,
        "events.schema.json": events,
        "asyncapi.json": asyncapi_document(commands, events),
    }


def render(document: Schema) -> str:
    """Returns a document as it stands in its file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(directory: Path) -> list[Path]:
    """Writes every document into `directory`, made if need be; returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, document in documents().items():
        path = directory / name
        path.write_text(render(document), encoding="utf-8")
        written.append(path)
    return written
