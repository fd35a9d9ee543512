"""Bodies that are one JSON object of a known shape.

They are read within bounds and only once it is known who sends them; what FastAPI reads by itself
has no bound and comes before everything else.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, cast

import jiter
from fastapi import Depends, Request
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.events import Problem
from schemas.first_problems import THOROUGH_BYTES, first_problems
from schemas.json_text import MOST_CONTAINERS, has_too_many_containers
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.problems import ProblemError, invalid_parameters
from worker.gateway.requests.bodies import JSON, Bounds, media_type_of, read_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

M = TypeVar("M", bound=BaseModel)

# Ten thousand ids of the greatest length.
MAX_JSON_BYTES: Final = 4 * 1024 * 1024

# No body has as many, and each that is unknown would be a problem.
_MOST_NAMES: Final = 1_000

_NOTHING: Final = frozenset({b"", b"{}", b"null"})

# What the OpenAPI document holds beside what FastAPI finds.
DOCUMENTED: Final[dict[str, type[BaseModel]]] = {}


def json_body(model: type[M]) -> Callable[..., Awaitable[M]]:
    """Returns the dependency that reads a body; one of defaults alone may be left out.

    A route that has it tells so by `openapi_extra=documented(model)`.
    """

    async def read(request: Request, gateway: GatewayOf) -> M:
        body = await _read_alone(request, gateway)
        if not body and not _is_required(model):
            return model()
        if media_type_of(request) != JSON:
            raise ProblemError(
                415, "media_type_not_taken", f"Send a JSON object with a Content-Type of {JSON}."
            )
        return _validate(model, body)

    return read


async def _take_nothing(request: Request, gateway: GatewayOf) -> None:
    body = await _read_alone(request, gateway)
    if body.strip() not in _NOTHING:
        raise ProblemError(
            422,
            "invalid_parameters",
            "This takes no parameters, so the body would count for nothing; leave it out.",
        )


TakesNothing = Annotated[None, Depends(_take_nothing)]
"""What an act has that takes no parameters: sent with some, it would do more than was meant."""


async def _read_alone(request: Request, gateway: Gateway) -> bytes:
    """Returns the body of a request whose address may say nothing else.

    Raises:
        ProblemError: the address has a query, like `?dry_run=true`, that nobody would look at.
    """
    if name := next(iter(request.query_params), None):
        raise ProblemError(
            422,
            "invalid_parameters",
            f"{name[:80]} is no parameter of this address; what this takes is said in a JSON body.",
        )
    settings = gateway.settings
    most = min(MAX_JSON_BYTES, settings.gateway_body_bytes)
    return await read_body(request, Bounds(most, settings.gateway_body_seconds))


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
    if has_too_many_containers(body):
        message = f"The body holds more than {MOST_CONTAINERS:,} lists and objects."
        raise invalid_parameters([Problem(path="", message=message)])
    try:
        # Names that come twice are seen by nobody else.
        found = jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as exc:
        raise ProblemError(400, "not_json", f"The body is not JSON: {exc}") from None
    if isinstance(found, dict) and len(found) > _MOST_NAMES:
        raise invalid_parameters([Problem(path="", message=f"The body has {len(found)} names.")])
    try:
        if len(body) > THOROUGH_BYTES:
            return cast("M", _quick_validator(model)(body))
        return model.model_validate_json(body, strict=True)
    except ValidationError as exc:
        raise invalid_parameters([
            Problem(path=".".join(map(str, error["loc"])), message=error["msg"])
            for error in exc.errors()
        ]) from None


@cache
def _quick_validator(model: type[BaseModel]) -> Callable[[bytes], BaseModel]:
    return first_problems(TypeAdapter(model), strict=True)


def _is_required(model: type[BaseModel]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())
