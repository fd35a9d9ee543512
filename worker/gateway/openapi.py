"""The OpenAPI document: what FastAPI makes of the routes, with the contract's own types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from schemas.commands import Command
from worker.gateway.bodies import CLOUD_EVENT, CLOUD_EVENTS, JSON, NDJSON

if TYPE_CHECKING:
    from fastapi import FastAPI

_REFERENCE: Final = "#/components/schemas/{model}"
# What routes say of themselves, and who reads it here.
_BODY: Final = "x-body"


def document_commands(app: FastAPI) -> None:
    """Has the app's document hold every command as the contract has it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            _add_commands(made)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # as FastAPI documents it


def _add_commands(document: dict[str, Any]) -> None:
    schema = TypeAdapter[Command](Command).json_schema(ref_template=_REFERENCE)
    definitions = schema.pop("$defs")
    components = document.setdefault("components", {}).setdefault("schemas", {})
    for name, definition in definitions.items():
        components.setdefault(name, definition)
    components["Command"] = {"title": "Command", **schema}
    one = {"$ref": _REFERENCE.format(model="Command")}
    many = {"type": "array", "items": one, "minItems": 1}
    for path in document["paths"].values():
        for operation in path.values():
            if operation.pop(_BODY, None) is None:
                continue
            operation["requestBody"] = {
                "required": True,
                "content": {
                    JSON: {"schema": {"anyOf": [one, many]}},
                    CLOUD_EVENT: {"schema": one},
                    CLOUD_EVENTS: {"schema": many},
                    NDJSON[0]: {"schema": {"type": "string"}},
                },
            }
            operation.setdefault("parameters", []).append({
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The command's id, where it has none of its own.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            })
