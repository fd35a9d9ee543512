"""The contract as files: JSON Schema 2020-12 for commands and events, and an AsyncAPI document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from schemas.asyncapi import asyncapi_document
from schemas.attributes import EXTENSION_NAME_PATTERN, Attributes
from schemas.commands import COMMAND_CLASSES, Command
from schemas.enums import CommandType, EventState
from schemas.events import (
    EVENT_SOURCE,
    ITEM_SOURCE_PATTERN,
    UNREADABLE_TYPE,
    AcceptedData,
    CancelledData,
    FailedData,
    InDoubtData,
    ProgressedData,
    RejectedData,
    RetryingData,
    StartedData,
    SucceededData,
)
from schemas.examples import COMMAND_EXAMPLES
from schemas.referral import DATAREF, ReferredCommand

if TYPE_CHECKING:
    from pathlib import Path

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# What every type can say, and what only some do.
_CREATING = (CommandType.CREATE_MODEL, CommandType.TRAIN, CommandType.ATTACH)
_EVENT_DATA: dict[EventState, tuple[type[BaseModel], tuple[str, ...]]] = {
    EventState.ACCEPTED: (AcceptedData, tuple(CommandType)),
    EventState.STARTED: (StartedData, (CommandType.TRAIN,)),
    EventState.PROGRESSED: (ProgressedData, (CommandType.BACKFILL,)),
    EventState.RETRYING: (RetryingData, tuple(CommandType)),
    EventState.IN_DOUBT: (InDoubtData, _CREATING),
    EventState.FAILED: (FailedData, tuple(CommandType)),
    EventState.CANCELLED: (CancelledData, tuple(CommandType)),
    EventState.REJECTED: (RejectedData, (*CommandType, UNREADABLE_TYPE)),
}


def commands_schema() -> Schema:
    """Returns the JSON Schema of a command."""
    schema = TypeAdapter(Command).json_schema()
    definitions: dict[str, Schema] = schema["$defs"]
    for definition in definitions.values():
        _take_null_as_absent(definition)
    attributes = Attributes.model_json_schema()
    definitions |= attributes.pop("$defs", {})
    definitions["Extension"] = attributes.pop("additionalProperties")
    definitions["Attributes"] = attributes
    referred = ReferredCommand.model_json_schema()["properties"][DATAREF]
    definitions["Referred"] = {"properties": {DATAREF: referred}}
    for command_type, command_class in COMMAND_CLASSES.items():
        definition = definitions[command_class.__name__]
        for name in Attributes.model_fields:
            definition["properties"][name] = {"$ref": f"#/$defs/Attributes/properties/{name}"}
        definition["additionalProperties"] = {"$ref": "#/$defs/Extension"}
        definition["propertyNames"] = {"pattern": EXTENSION_NAME_PATTERN}
        definition["properties"][DATAREF] = {"$ref": f"#/$defs/Referred/properties/{DATAREF}"}
        definition["required"].remove("data")
        definition["anyOf"] = [{"required": ["data"]}, {"required": [DATAREF]}]
        definition["examples"] = [COMMAND_EXAMPLES[command_type]]
    return _titled("commands", "A command of trainmaster", schema)


def _take_null_as_absent(definition: Schema) -> None:
    """Has what may be left out take null too, as the parser does."""
    for name, found in definition.get("properties", {}).items():
        variants = found.get("anyOf", ())
        may_be_null = {"type": "null"} in variants or "const" in found
        if name in definition.get("required", ()) or may_be_null:
            continue
        told = {key: found.pop(key) for key in ("default", "description", "title") if key in found}
        definition["properties"][name] = {"anyOf": [found, {"type": "null"}], **told}


def events_schema() -> Schema:
    """Returns the JSON Schema of an event."""
    models: list[type[BaseModel]] = [
        found for each in COMMAND_CLASSES.values() if (found := each.result)
    ]
    models += [part for part, _ in _EVENT_DATA.values()]
    models.append(SucceededData)
    _, shared = models_json_schema(
        [(model, "serialization") for model in dict.fromkeys(models)], by_alias=False
    )
    definitions: dict[str, Schema] = shared["$defs"]
    for each in definitions.values():
        _expect_without_defaults(each)
    references: list[Schema] = []
    for state, (part, types) in _EVENT_DATA.items():
        name = "".join(word.title() for word in state.split("_"))
        definitions[name] = _event(
            [f"{each}.{state}" for each in types],
            {"$ref": f"#/$defs/{part.__name__}"},
            part.__doc__,
        )
        references.append({"$ref": f"#/$defs/{name}"})
    for command_type, command_class in COMMAND_CLASSES.items():
        result, name = command_class.result, f"{command_class.__name__}Succeeded"
        definitions[name] = _succeeded(command_type, result)
        references.append({"$ref": f"#/$defs/{name}"})
    return _titled("events", "An event of trainmaster", {"$defs": definitions, "oneOf": references})


def _event(types: list[str], data: Schema, description: str | None) -> Schema:
    return {
        "description": (description or "").partition(": ")[2] or description,
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "description": "Stable for the same event."},
            "source": {
                "anyOf": [
                    {"const": EVENT_SOURCE},
                    {
                        "type": "string",
                        "pattern": ITEM_SOURCE_PATTERN,
                        "description": "Of an event about an item of a backfill.",
                    },
                ]
            },
            "type": {"enum": types},
            "subject": {
                "type": "string",
                "description": "The id of the command, or of a backfill's item.",
            },
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "dataref": {"type": "string", "description": "Where a large result lies."},
            "data": data,
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
        "additionalProperties": {"type": ["string", "integer", "boolean"]},
    }


def _succeeded(command_type: CommandType, result: type[BaseModel] | None) -> Schema:
    null: Schema = {"type": "null"}
    found = null if result is None else {"anyOf": [{"$ref": f"#/$defs/{result.__name__}"}, null]}
    data = {
        "allOf": [{"$ref": "#/$defs/SucceededData"}, {"properties": {"result": found}}],
    }
    return _event([f"{command_type}.{EventState.SUCCEEDED}"], data, SucceededData.__doc__)


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


def _titled(name: str, title: str, schema: Schema) -> Schema:
    return {
        "$schema": DIALECT,
        "$id": f"urn:trainmaster:{name}",
        "title": title,
        **_tidied(schema),
    }


def _tidied(node: Any) -> Any:
    """Drops what says nothing new to a reader: titles made of names, OpenAPI's discriminators."""
    if isinstance(node, list):
        return [_tidied(value) for value in node]
    if not isinstance(node, dict):
        return node
    tidied = {}
    for key, value in node.items():
        if key == "examples":
            tidied[key] = value
        elif key == "description" and isinstance(value, str):
            tidied[key] = value.partition("\n\n")[0]
        elif key != "discriminator" and not (key == "title" and isinstance(value, str)):
            tidied[key] = _tidied(value)
    return tidied


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
