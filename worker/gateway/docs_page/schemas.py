"""Schemas as people read them: fields in tables, types in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from worker.gateway.docs_page.markup import Html, join, prose, table, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from worker.gateway.docs_page.markup import Content

Schema = dict[str, Any]

_REFERENCE: Final = "#/components/schemas/"
_FORMATS: Final = {"uuid": "UUID", "date-time": "time (RFC 3339)", "binary": "file"}
# In the order in which they are told, as `minimum 1`.
_BOUNDS: Final = {
    "minimum": "minimum",
    "maximum": "maximum",
    "minLength": "minimum length",
    "maxLength": "maximum length",
    "minItems": "at least",
    "maxItems": "at most",
    "pattern": "pattern",
}
_WHOLE_NUMBERS: Final = {-(2**31), 2**31 - 1}


def name_of(reference: str) -> str:
    """Returns the name of the schema that a `$ref` is to."""
    return reference.removeprefix(_REFERENCE)


def anchor(name: str) -> str:
    """Returns the id of the place where a schema is told."""
    return f"schema-{name}"


def references(node: Any) -> Iterator[str]:
    """Yields the names of all schemas that a part of the document names."""
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            yield name_of(reference)
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def type_of(schema: Schema) -> Html:
    """Returns a schema's type in words; what has a name is a link to it."""
    if "$ref" in schema:
        name = name_of(schema["$ref"])
        return tag("a", name, href=f"#{anchor(name)}")
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return join([type_of(each) for each in schema[choice]], " or ")
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values:
        return join([tag("code", json.dumps(each)) for each in values], ", ")
    kind: str = schema.get("type", "any value")
    inner = schema.get("items" if kind == "array" else "additionalProperties")
    if isinstance(inner, dict):
        return join([f"{'list' if kind == 'array' else kind} of ", type_of(inner)])
    return join(_FORMATS.get(schema.get("format", ""), kind))


def field_cell(schema: Schema, *, default: bool = True) -> Html:
    """Returns what stands beside a field's name: its type, its bounds and what it is for."""
    more: list[Content] = [tag("span", type_of(schema), class_="type")]
    # What may be null as well has its bounds one level below.
    for each in (schema, *schema.get("anyOf", ())):
        more.extend(
            join([f"; {word} ", tag("code", str(each[key]))])
            for key, word in _BOUNDS.items()
            if key in each and each[key] not in _WHOLE_NUMBERS
        )
    if default and schema.get("default") is not None:
        more += ["; default ", tag("code", json.dumps(schema["default"]))]
    said = schema.get("description")
    return join([*more, *([tag("br"), prose(said)] if said else [])])


def name_cell(name: str, *marks: str) -> Html:
    """Returns a field's name, and what is said of it in a word."""
    return join([tag("code", name), [tag("span", f" {each}", class_="mark") for each in marks]])


def fields(caption: str, schema: Schema, *, leave_out: Iterable[str] = ()) -> Html:
    """Returns the table of an object's fields, or what there is where it has none."""
    required = set(schema.get("required", ()))
    left = set(leave_out)
    rows = [
        (name_cell(name, *(["required"] if name in required else [])), field_cell(each))
        for name, each in schema.get("properties", {}).items()
        if name not in left
    ]
    if not rows:
        return tag("p", type_of(schema) if "properties" not in schema else "It has no fields.")
    choices = one_of_fields(schema)
    note = [tag("p", "Exactly one of ", _codes(choices), ".")] if choices else []
    return join([table(caption, ("Field", "Type and meaning"), rows), *note])


def one_of_fields(schema: Schema) -> list[str]:
    """Returns fields of which exactly one must stand in an object."""
    choices = schema.get("then", {}).get("oneOf", ())
    return [name for each in choices for name in each.get("required", ())]


def common_fields(schemas: Iterable[Schema]) -> Schema:
    """Returns the object of those fields that all of these have, and have alike."""
    first, *others = schemas
    alike = {
        name: each
        for name, each in first["properties"].items()
        if all(other["properties"].get(name) == each for other in others)
    }
    return {"type": "object", "properties": alike}


def resolve(schema: Schema, schemas: Mapping[str, Schema]) -> Schema:
    """Returns a schema itself where it is named."""
    return schemas[name_of(schema["$ref"])] if "$ref" in schema else schema


def _codes(names: list[str]) -> Html:
    return join([tag("code", name) for name in names], ", ")
