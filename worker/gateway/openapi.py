"""The OpenAPI document: what FastAPI makes of the routes, with the contract's own types."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from schemas.commands import Command
from schemas.events import Problem
from worker.gateway.act_route import MARK
from worker.gateway.json_bodies import DOCUMENTED
from worker.gateway.problems import MEDIA_TYPE, ProblemDetails
from worker.gateway.requests.bodies import CLOUD_EVENT, CLOUD_EVENTS, JSON, NDJSON

if TYPE_CHECKING:
    from fastapi import FastAPI

HTTP_ERRORS: Final = 400
_REFERENCE: Final = "#/components/schemas/{model}"
# What routes say of themselves, and who reads it here.
_BODY: Final = "x-body"
_IDEMPOTENT: Final = "x-idempotent"
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The command's id, where it has none of its own.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_ACT_KEY: Final = {
    **_KEY,
    "description": "Names this act: sent again with the same key within ten minutes, it is "
    "answered as the first time, and not done again.",
}

_PROBLEM: Final = {"schema": {"$ref": _REFERENCE.format(model="ProblemDetails")}}
# What any request may be answered, whatever it asks.
_ALWAYS: Final = {
    400: "Half a body, a doubled header, or what is no HTTP or JSON.",
    405: "This address takes other methods.",
    431: "The head of the request is too large.",
    500: "A defect; the gateway's log has it.",
    503: "Redis can't be reached or takes no writes, or something is full; send the same again.",
}
_OF_CALLERS: Final = {
    401: "No token, or none that is known and valid.",
    403: "The token may not do this.",
    429: "Too many requests of this token, or too many commands that wait.",
}
_OF_BODIES: Final = {
    408: "The body took too long.",
    413: "The body is too large.",
    415: "The body is of a media type that is not taken.",
}
_OF_PARAMETERS: Final = {422: "A parameter, or the body, is wrong; `problems` says what."}
_OF_NAMES: Final = {404: "There is nothing of this name."}
# What FastAPI says where a route says nothing, and what is said in its place.
_UNSAID: Final = "Successful Response"
_SUCCESSES: Final = {
    200: "What was asked for.",
    202: "Redis has acknowledged it.",
    204: "Done; there is nothing to tell.",
}


def document_commands(app: FastAPI) -> None:
    """Has the app's document hold every command as the contract has it, and every problem."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _add_commands(made)
            _add_bodies(made)
            _add_problems(made)
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
            if operation.pop(_IDEMPOTENT, None) is not None:
                operation.setdefault("parameters", []).append(_KEY)
            if operation.pop(MARK, None) is not None:
                operation.setdefault("parameters", []).append(_ACT_KEY)
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
            operation.setdefault("parameters", []).append(_KEY)


def _add_bodies(document: dict[str, Any]) -> None:
    """Adds the models of bodies that FastAPI does not read itself."""
    components = document["components"]["schemas"]
    for name, model in DOCUMENTED.items():
        schema = model.model_json_schema(ref_template=_REFERENCE)
        for inner, definition in schema.pop("$defs", {}).items():
            components.setdefault(inner, definition)
        components[name] = schema


def _add_problems(document: dict[str, Any]) -> None:
    """Has each operation tell every problem that it may be answered, in its media type."""
    components = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    components.setdefault("Problem", Problem.model_json_schema(ref_template=_REFERENCE))
    details = ProblemDetails.model_json_schema(ref_template=_REFERENCE)
    details.pop("$defs", None)
    components["ProblemDetails"] = details
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _tell_problems(operation, is_of_one="{" in path)


def _tell_problems(operation: dict[str, Any], *, is_of_one: bool) -> None:
    told = dict(_ALWAYS)
    if operation.get("security"):
        told |= _OF_CALLERS
    if operation.get("requestBody"):
        told |= _OF_BODIES | _OF_PARAMETERS
    if operation.get("parameters"):
        told |= _OF_PARAMETERS
    if is_of_one:
        told |= _OF_NAMES
    responses = operation["responses"]
    own = {int(status): said["description"] for status, said in responses.items()}
    for status, description in told.items():
        # FastAPI says "Validation Error" and the like of what it adds itself.
        generic = status in {404, 422} or own.get(status) in {None, HTTPStatus(status).phrase}
        responses[str(status)] = {"description": description if generic else own[status]}
    for status, said in responses.items():
        if said["description"] == _UNSAID:
            said["description"] = _SUCCESSES[int(status)]
        if int(status) >= HTTP_ERRORS and said.get("content") != {}:
            said["content"] = {MEDIA_TYPE: _PROBLEM}
    operation["responses"] = dict(sorted(responses.items()))
