"""Examples made of the document's schemas, and the `curl` that sends them."""

from __future__ import annotations

import json
import mimetypes
import re
import shlex
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from worker.gateway.docs_page.schemas import name_of, one_of_fields, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.gateway.docs_page.schemas import Schema

_UUID: Final = "3f2b8c1e-5d4a-4e7b-9c6f-0a1b2c3d4e5f"
_STRINGS: Final = {"uuid": _UUID, "date-time": "2026-01-31T12:00:00Z"}
_STREAM: Final = "text/event-stream"
# What an example must say though the schema requires no single field.
_BESIDES: Final[dict[str, dict[str, Any]]] = {
    "AttachData": {"training_uuids": [_UUID]},
    "BulkBody": {"type": "train"},
    "LettersBody": {"reason": "not_found"},
    "ReplaysBody": {"reason": "not_found"},
    "ResolveBody": {"not_created": True},
    "ResolveData": {"not_created": True},
    "UpdateAttachmentData": {"training_uuids": [_UUID]},
}


def sample(schema: Schema, schemas: Mapping[str, Schema], name: str = "value") -> Any:
    """Returns a value that fits a schema: what is required, and no more.

    Args:
        schema: of the value.
        schemas: those with a name.
        name: what texts are named after.
    """
    if "$ref" in schema:
        name = name_of(schema["$ref"])
        return sample(schemas[name], schemas, name)
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return sample(schema[choice][0], schemas, name)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return values[0] if values else _sample_of_type(schema, schemas, name)


def _sample_of_type(schema: Schema, schemas: Mapping[str, Schema], name: str) -> Any:
    match schema.get("type"):
        case "object":
            return _object(schema, schemas, name)
        case "array":
            return [sample(schema.get("items", {}), schemas, name)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return _STRINGS.get(schema.get("format", ""), f"example-{name.replace('_', '-')}")


def _object(schema: Schema, schemas: Mapping[str, Schema], name: str) -> dict[str, Any]:
    properties = schema.get("properties", {})
    required = [*schema.get("required", ()), *one_of_fields(schema)[:1]]
    made = {
        each: sample(properties[each], schemas, each) for each in properties if each in required
    }
    values = schema.get("additionalProperties")
    if not properties and isinstance(values, dict):
        key = sample({"type": "string"} | schema.get("propertyNames", {}), schemas, "name")
        made[key] = sample(values, schemas, name)
    return made | _BESIDES.get(schema.get("title", ""), {})


def body_example(content: Mapping[str, Any], schemas: Mapping[str, Schema]) -> Any:
    """Returns what an example sends of the first media type, None if that is a file."""
    _, said = next(iter(content.items()))
    body = resolve(said.get("schema", {}), schemas)
    return None if body.get("format") == "binary" else sample(said["schema"], schemas, "body")


def curl(
    method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Schema]
) -> str:
    """Returns a command for a shell that has `GATEWAY` and `TOKEN`."""
    required = [each for each in operation.get("parameters", ()) if each.get("required")]
    values = {each["name"]: str(sample(each["schema"], schemas, each["name"])) for each in required}
    url = re.sub(r"{(\w+)}", lambda found: quote(values[found[1]], safe=""), path)
    query = {each["name"]: values[each["name"]] for each in required if each["in"] == "query"}
    said = f"{url}?{urlencode(query)}" if query else url
    parts = [
        f'curl "$GATEWAY{said}"'
        if method == "get"
        else f'curl -X {method.upper()} "$GATEWAY{said}"'
    ]
    if _STREAM in operation["responses"].get("200", {}).get("content", {}):
        parts[0] = parts[0].replace("curl", "curl --no-buffer", 1)
    if operation.get("security"):
        parts.append('-H "Authorization: Bearer $TOKEN"')
    if content := operation.get("requestBody", {}).get("content"):
        media_type = next(iter(content))
        parts.append(f"-H {shlex.quote(f'Content-Type: {media_type}')}")
        body = body_example(content, schemas)
        if body is None:
            parts.append(f"--data-binary @manifest{mimetypes.guess_extension(media_type) or ''}")
        else:
            parts.append(f"--data {shlex.quote(json.dumps(body, indent=2))}")
    return " \\\n  ".join(parts)
