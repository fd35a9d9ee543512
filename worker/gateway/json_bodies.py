"""Bodies that are one JSON object of a known shape.

They are read within bounds and only once it is known who sends them; what FastAPI reads by itself
has no bound and comes before everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import jiter
from fastapi import Request
from pydantic import BaseModel, ValidationError

from schemas.events import Problem
from worker.gateway.bodies import JSON, Bounds, media_type_of, read_body
from worker.gateway.gateway import GatewayOf
from worker.gateway.problems import ProblemError, invalid_parameters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

M = TypeVar("M", bound=BaseModel)

# Ten thousand ids of the greatest length.
MAX_JSON_BYTES: Final = 4 * 1024 * 1024

# What the OpenAPI document holds beside what FastAPI finds.
DOCUMENTED: Final[dict[str, type[BaseModel]]] = {}


def json_body(model: type[M]) -> Callable[..., Awaitable[M]]:
    """Returns the dependency that reads a body; one of defaults alone may be left out.

    A route that has it tells so by `openapi_extra=documented(model)`.
    """

    async def read(request: Request, gateway: GatewayOf) -> M:
        settings = gateway.settings
        most = min(MAX_JSON_BYTES, settings.gateway_body_bytes)
        body = await read_body(request, Bounds(most, settings.gateway_body_seconds))
        if not body and not _is_required(model):
            return model()
        if media_type_of(request) != JSON:
            raise ProblemError(
                415, "media_type_not_taken", f"Send a JSON object with a Content-Type of {JSON}."
            )
        return _validate(model, body)

    return read


def documented(model: type[BaseModel]) -> dict[str, Any]:
    """Returns what a route says of its body in the OpenAPI document."""
    DOCUMENTED[model.__name__] = model
    return {
        "requestBody": {
            "required": _is_required(model),
            "content": {JSON: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}},
        }
    }


def _validate(model: type[M], body: bytes) -> M:
    try:
        # Names that come twice are seen by nobody else.
        jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as exc:
        raise ProblemError(400, "not_json", f"The body is not JSON: {exc}") from None
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as exc:
        raise invalid_parameters([
            Problem(path=".".join(map(str, error["loc"])), message=error["msg"])
            for error in exc.errors()
        ]) from None


def _is_required(model: type[BaseModel]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())
