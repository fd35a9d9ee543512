"""The parameters of commands as people read them: meaning, values and default of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from schemas.commands import COMMAND_CLASSES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a command.

    Attributes:
        values: what it takes, in words.
        tasks: the tasks that it is for, where it is not for all.
    """

    name: str
    required: bool
    default: object
    values: str
    meaning: str
    tasks: tuple[str, ...]


def parameters_of(command_type: str) -> list[Parameter]:
    """Returns the parameters of a command, those that are required first."""
    annotation = COMMAND_CLASSES[command_type].model_fields["data"].annotation
    alternatives = data_classes(annotation)
    schemas: Schema = {}
    definitions: Schema = {}
    for data_class in alternatives:
        schema = data_class.model_json_schema()
        definitions |= schema.get("$defs", {})
        schemas |= {
            name: _merged(schemas.get(name), found) for name, found in schema["properties"].items()
        }
    parameters = [
        Parameter(
            name=name,
            required=field.is_required(),
            default=None if field.is_required() else field.default,
            values=_values(schemas[name], definitions),
            meaning=field.description or "",
            tasks=() if len(tasks) == len(alternatives) else tasks,
        )
        for name, (field, tasks) in fields_of(annotation).items()
    ]
    return sorted(parameters, key=lambda each: not each.required)


def fields_of(annotation: Any) -> dict[str, tuple[FieldInfo, tuple[str, ...]]]:
    """Returns each parameter, and the tasks that it is for where the data has several forms."""
    found: dict[str, tuple[FieldInfo, tuple[str, ...]]] = {}
    for data_class in data_classes(annotation):
        task = data_class.model_fields.get("task")
        tasks = get_args(task.annotation) if task else ("",)
        for name, field in data_class.model_fields.items():
            earlier = found[name][1] if name in found else ()
            found[name] = (field, (*earlier, *tasks))
    return found


def data_classes(annotation: Any) -> Sequence[type[BaseModel]]:
    """Returns the classes of a command's data: one, or one for each task."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_args(annotation) or (annotation,)


def choices_of(parameter_schema: Schema, definitions: Mapping[str, Schema]) -> list[str]:
    """Returns the values of which one must be chosen; none where anything else is taken."""
    schema = _resolved(parameter_schema, definitions)
    if "const" in schema:
        return [str(schema["const"])]
    if schema.get("type") == "boolean":
        return ["true", "false"]
    parts = [choices_of(part, definitions) for part in _parts(schema)]
    return [str(each) for each in schema.get("enum", [])] or [
        name for part in parts for name in part
    ]


def value_choices(command_type: str) -> dict[str, list[str]]:
    """Returns the names of all parameters of a command, with the choices where there are such."""
    found: dict[str, list[str]] = {}
    for data_class in data_classes(COMMAND_CLASSES[command_type].model_fields["data"].annotation):
        schema = data_class.model_json_schema()
        for name, parameter in schema["properties"].items():
            fresh = choices_of(parameter, schema.get("$defs", {}))
            found[name] = list(dict.fromkeys([*found.get(name, []), *fresh]))
    return found


def _merged(known: Schema | None, found: Schema) -> Schema:
    """Returns the schema of a parameter of several forms; a task is another one in each."""
    return {"anyOf": [known, found]} if known and known != found else found


def _resolved(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    reference = schema.get("$ref")
    return definitions[reference.rpartition("/")[2]] if reference else schema


def _parts(schema: Schema) -> list[Schema]:
    return [part for part in schema.get("anyOf", []) if part.get("type") != "null"]


def _values(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    schema = _resolved(schema, definitions)
    if parts := _parts(schema):
        return " or ".join(dict.fromkeys(_values(part, definitions) for part in parts))
    if choices := choices_of(schema, definitions):
        return " | ".join(choices)
    match schema.get("type"):
        case "array":
            said = f"list of {_values(schema['items'], definitions)}"
        case "object":
            keys = _values(schema.get("propertyNames", {"type": "string"}), definitions)
            said = f"object {{{keys}: {_values(schema['additionalProperties'], definitions)}}}"
        case "integer" | "number":
            said = f"{schema['type']}{_range(schema)}"
        case _:
            said = "UUID" if schema.get("format") == "uuid" else "text"
    return said


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    return "" if low is None or high is None else f" from {low} to {high}"
