"""Errors as RFC 9457 has them: `application/problem+json`, with a code that programs can act upon.

None tells a secret, a stack or what stands behind the gateway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from schemas.events import ErrorCode, Problem
from schemas.json_text import encode_json
from trainmaster_client import RedisTroubleError
from worker.logging import LimitedLog
from worker.queue.ledger.connection import PASSING_TROUBLE
from worker.queue.ledger.refusals import refusal_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fastapi import FastAPI, Request
    from starlette.routing import BaseRoute

    from schemas.parsing import InvalidCommandError

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
# What a proxy or a client does after this is to ask again.
RETRY_SECONDS: Final = 2

_TITLES: Final = {
    400: "The request can't be read",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    408: "The request took too long",
    409: "Conflict",
    413: "Too large",
    415: "Media type not taken",
    422: "The request is wrong",
    429: "Too many requests",
    431: "The header is too large",
    500: "Internal error",
    501: "Not taken by this version, or not set up",
    502: "What stands behind the gateway can't be read",
    503: "Not available for the moment",
}


class ProblemDetails(BaseModel):
    """What is wrong with a request, as RFC 9457 has it."""

    model_config = ConfigDict(json_schema_extra={"description": "RFC 9457"})

    type: str = Field("about:blank", description="`about:blank`: `code` tells more than a URL.")
    title: str
    status: int
    code: str = Field(description="In lower snake case; those of commands are in the contract.")
    detail: str = Field(description="What happened and what to do.")
    problems: list[Problem] | None = Field(None, description="Each wrong field by its path.")


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        problems: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.problems = tuple(problems)
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Returns the problem as JSON values."""
        return problem_body(self.status, self.code, self.detail, self.problems)


def problem_body(
    status: int, code: str, detail: str, problems: Sequence[Problem] = ()
) -> dict[str, Any]:
    """Returns a problem as JSON values."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "code": code,
        "detail": detail,
    }
    if problems:
        body["problems"] = [problem.model_dump() for problem in problems]
    return body


def invalid_body(error: InvalidCommandError) -> dict[str, Any]:
    """Returns the problem of what is no command."""
    return problem_body(status_of(error), error.code, error.message, error.problems)


def status_of(error: InvalidCommandError) -> int:
    """Returns the status that answers what is no command."""
    if error.code is ErrorCode.NOT_JSON:
        return 400
    return 413 if error.code is ErrorCode.TOO_LARGE else 422


def json_response(
    body: Any, status: int = 200, *, media_type: str = "application/json", **headers: str
) -> Response:
    """Returns a response of JSON values; names of headers are written with `_` for `-`."""
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(encode_json(body), status, media_type=media_type, headers=said)


def problem_response(error: ProblemError) -> Response:
    """Returns the response that a problem is."""
    return json_response(error.body(), error.status, media_type=MEDIA_TYPE, **error.headers)


def invalid_parameters(problems: Sequence[Problem]) -> ProblemError:
    """Returns the problem of parameters or a body of the wrong shape; the first leads it."""
    told = [Problem(path=each.path, message=_said(each.message)) for each in problems]
    detail = f"{told[0].path} {told[0].message}".strip()
    return ProblemError(422, "invalid_parameters", detail, problems=told)


def conflict(command_id: str) -> ProblemError:
    """Returns the problem of an id that names something else."""
    return ProblemError(
        422,
        "idempotency_conflict",
        f"The id {command_id!r} was used with another type or other data; send this under an id "
        "of its own.",
        problems=[Problem(path="id", message="was used with another type or other data")],
    )


def no_filter() -> ProblemError:
    """Returns the problem of a bulk act that says nothing of what it is for."""
    return ProblemError(
        422, "no_filter", "Say which are meant, by a filter, or all: true if really all are."
    )


# What pydantic says of a parameter, in words that follow its name.
_SAID: Final = {
    "Extra inputs are not permitted": "is unknown",
    "Field required": "is required",
    "Input should have timezone info": "must have an offset, like 2026-01-31T12:00:00Z",
}


def _said(message: str) -> str:
    said = message.replace("Input should ", "must ", 1).removeprefix("Value error, ")
    return _SAID.get(message, said)


def redis_away(error: BaseException | None = None, *, is_read: bool = False) -> ProblemError:
    """Returns the problem of a Redis that does not answer, or answers that it will not.

    Args:
        error: what it met.
        is_read: whether the request was for something to be told, and not to be done.
    """
    refusal = refusal_of(error)
    refused = f"Redis refuses this: {refusal}. Operators see more by `trainmaster doctor`."
    match refusal, is_read:
        case None, True:
            told = "Redis can't be reached. Ask again in a moment."
        case None, False:
            told = (
                "Redis can't be reached, so it is not known whether this was done; send the same "
                "again: with the same ids it is done once."
            )
        case _, True:
            told = refused
        case _:
            told = f"{refused} Send the same again later: with the same ids it is done once."
    return ProblemError(503, "redis_unavailable", told, headers={"Retry-After": str(RETRY_SECONDS)})


class ErrorResponses:
    """What a request is answered that ends with an error, whichever way it was routed."""

    def __init__(self) -> None:
        # While Redis is away every request says so.
        self._redis_log = LimitedLog(log)

    def response_to(self, exc: Exception, *, is_read: bool = False) -> Response:
        """Returns the response to an error; what is none of a caller or of Redis is logged."""
        if isinstance(exc, ProblemError):
            return problem_response(exc)
        if isinstance(exc, (RedisTroubleError, *PASSING_TROUBLE)):
            cause = (exc.__cause__ or exc) if isinstance(exc, RedisTroubleError) else exc
            said = refusal_of(cause) or type(cause).__name__
            self._redis_log.warning("gateway.redis_unavailable", said, error=said)
            return problem_response(redis_away(cause, is_read=is_read))
        log.error("gateway.failed", exc_info=exc)
        detail = "The gateway failed at this request; its log says how."
        return problem_response(ProblemError(500, "internal_error", detail))


def add_handlers(app: FastAPI, responses: ErrorResponses) -> None:
    """Has every error of the app end in a problem."""

    async def on_error(request: Request, exc: Exception) -> Response:
        return responses.response_to(exc, is_read=request.method in {"GET", "HEAD"})

    async def on_http(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)  # noqa: S101 - it is registered for these
        told = {
            404: ("not_found", "There is nothing at this address; /docs lists what there is."),
            405: ("method_not_allowed", "This address takes other methods; see the header Allow."),
        }
        code, detail = told.get(exc.status_code, ("http_error", str(exc.detail)))
        headers = dict(exc.headers or {})
        if exc.status_code == 405:
            headers["Allow"] = ", ".join(_methods_at(request))
        return problem_response(ProblemError(exc.status_code, code, detail, headers=headers))

    async def on_parameters(_request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)  # noqa: S101 - it is registered for these
        problems = [
            Problem(path=".".join(map(str, error["loc"][1:])), message=error["msg"])
            for error in exc.errors()
        ]
        return problem_response(invalid_parameters(problems))

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_parameters)
    for error in (ProblemError, RedisTroubleError, *PASSING_TROUBLE, Exception):
        app.add_exception_handler(error, on_error)


def _methods_at(request: Request) -> list[str]:
    """Returns the methods that an address takes; each route knows only its own."""
    methods: set[str] = set()
    for route in _each_route(request.app.routes):
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


def _each_route(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    for route in routes:
        # FastAPI keeps a router that was included as one route; ours are included without a prefix.
        router = getattr(route, "original_router", None)
        if router is None:
            yield route
        else:
            yield from _each_route(router.routes)
