"""JSON Schema in the form that validators, generators and both its drafts read alike.

What pydantic writes is right, and yet Ajv in strict mode wants a `type` beside the keywords of a
type, draft 07, which AsyncAPI builds on, overlooks what stands beside a `$ref`, and generators
name their types after titles, so that `Id` of one object and `Id` of the next become `Id1`.
"""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

NAME: Final[Schema] = {"minLength": 1, "type": "string"}
"""A list's items or an object's values of this form refer to the definition `Name`."""

_MAPS_OF_SCHEMAS: Final = frozenset({"$defs", "properties", "patternProperties"})
_LISTS_OF_SCHEMAS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SCHEMAS: Final = frozenset({
    "additionalProperties",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
})
_OF_NULL_TOO: Final = frozenset({"allOf", "anyOf", "const", "enum", "if", "not", "oneOf"})
_OF_STRINGS: Final = frozenset({"format", "maxLength", "minLength", "pattern"})

# OpenAPI's discriminator is no keyword of JSON Schema: Ajv refuses it in strict mode.
_DROPPED: Final = frozenset({"discriminator", "title"})


def portable(schema: Any) -> Any:
    """Returns a schema that means the same; of a description the first paragraph stays."""
    if not isinstance(schema, dict):
        return schema
    found: Schema = {}
    for key, value in schema.items():
        if key in _MAPS_OF_SCHEMAS:
            found[key] = {name: portable(each) for name, each in value.items()}
        elif key in _LISTS_OF_SCHEMAS:
            found[key] = [portable(each) for each in value]
        elif key in _SCHEMAS:
            found[key] = {"$ref": "#/$defs/Name"} if value == NAME else portable(value)
        elif key == "description":
            found[key] = value.partition("\n\n")[0]
        elif key not in _DROPPED:
            found[key] = value
    return _with_null(_with_type(_with_reference_alone(found)))


def _with_reference_alone(schema: Schema) -> Schema:
    if "$ref" not in schema or len(schema) == 1:
        return schema
    return {"allOf": [{"$ref": schema.pop("$ref")}], **schema}


def _with_type(schema: Schema) -> Schema:
    if "type" in schema:
        return schema
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    of_strings = bool(values) and all(isinstance(value, str) for value in values)
    return {"type": "string", **schema} if of_strings or _OF_STRINGS & schema.keys() else schema


def _with_null(schema: Schema) -> Schema:
    """Returns a type or null as one type, for whose limits generators need no type of its own."""
    value, *others = schema.get("anyOf", [None])
    if others != [{"type": "null"}] or "type" not in value or _OF_NULL_TOO & value.keys():
        return schema
    words = {key: each for key, each in schema.items() if key != "anyOf"}
    return {**value, "type": [value["type"], "null"], **words}
