"""What replies hold, and whether they answer what was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import orjson
from pydantic import ValidationError

from schemas.events import ErrorCode, Problem
from worker.errors import BadResponseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.http.response import Response

_MAX_PROBLEMS = 5

Result = TypeVar("Result")

_RESULT_NAMES = frozenset({"modelGroup", "projectModel", "results", "result"})


def parse_reply(
    read: Callable[[bytes], Result],
    response: Response,
    check: Callable[[Result], None] | None = None,
) -> Result:
    """Returns what a reply holds, and gives its connection free.

    Args:
        read: Validates what the operation promises, as `first_problems` has it.
        response: Read by nobody yet.
        check: Refuses what answers another request.

    Raises:
        BadResponseError: It does; the connection has ended.
    """
    try:
        found = read(response.body)
        if check is not None:
            check(found)
    except ValidationError as exc:
        response.distrust()
        details = exc.errors(include_url=False, include_context=False, include_input=False)
        problems = [
            Problem(path=".".join(str(part) for part in each["loc"]), message=each["msg"])
            for each in details[:_MAX_PROBLEMS]
        ]
        raise BadResponseError(
            "the API reported success with an answer that is not what it promises",
            code=ErrorCode.BAD_RESPONSE,
            problems=problems,
        ) from None
    except BaseException:
        response.distrust()
        raise
    response.accept()
    return found


def check_same(name: str, told: object, asked: object) -> None:
    """Refuses a reply that says of itself that it answers another request."""
    if told != asked:
        raise BadResponseError(
            f"the API answered for another request: {name} is {told}, asked for was {asked}",
            code=ErrorCode.BAD_RESPONSE,
        )


def check_deletion(body: bytes) -> None:
    """Refuses what answers a deletion with the result of another operation."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    if isinstance(told, dict) and not _RESULT_NAMES.isdisjoint(told):
        raise BadResponseError(
            "the API answered a deletion with the result of another operation",
            code=ErrorCode.BAD_RESPONSE,
        )
