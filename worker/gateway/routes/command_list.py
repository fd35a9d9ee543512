"""`GET /v1/commands` and `/v1/command-count`: answered from the read model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from schemas.commands import COMMAND_CLASSES
from schemas.suggestions import unknown
from trainmaster_client import State
from worker.gateway.access.callers import Caller, Reads
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.models import CommandPage
from worker.gateway.problems import ProblemDetails, ProblemError, json_response
from worker.gateway.read_model.queries import CommandFilter, CursorError
from worker.gateway.read_model.readers import ModelUnavailableError
from worker.gateway.read_model.rows import CommandRow
from worker.times import milliseconds_of

router: Final = APIRouter(prefix="/v1", tags=["commands"])

MOST: Final = 1_000


class Filter(BaseModel):
    """Which commands are wanted; all that are given must fit."""

    model_config = ConfigDict(extra="forbid")

    state: str | None = Field(None, description="Of the last event.")
    type: str | None = Field(None, description="Of the command.")
    correlationid: str | None = None
    id: str | None = Field(None, description="What the id begins with.")
    text: str | None = Field(None, max_length=200, description="Stands in the id or the error.")
    since: AwareDatetime | None = Field(None, description="Changed at or after this time.")
    until: AwareDatetime | None = Field(None, description="Changed before this time.")


class ListQuery(Filter):
    """Which commands are wanted, and how many at a time."""

    limit: int = Field(100, ge=1, le=MOST)
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


@router.get(
    "/commands",
    response_model=CommandPage,
    responses={status: {"model": ProblemDetails} for status in (401, 403, 422, 503)},
)
async def list_commands(
    gateway: GatewayOf,
    caller: Reads,
    asked: Annotated[ListQuery, Query()],
) -> Response:
    """Lists commands, newest first, by what their events have told.

    It follows the events and is a moment behind them; one command by its id is never behind. The
    answer's `Last-Event-ID` is the last event that it knows: `GET /v1/events` goes on from there.
    """
    wanted = _wanted(asked, caller)
    try:
        # Before the page: what that knows besides comes once more.
        last = await gateway.read_model.last_event()
        page = await gateway.read_model.query(wanted, asked.cursor, asked.limit)
    except CursorError as exc:
        raise ProblemError(422, "invalid_parameters", f"{exc}.") from None
    except ModelUnavailableError:
        raise list_unavailable(gateway) from None
    return json_response(
        {"items": [_item(row) for row in page.rows], "next_cursor": page.next_cursor},
        Last_Event_ID=last,
    )


class CommandCount(BaseModel):
    """How many commands fit."""

    count: int
    exact: bool = Field(
        description="False where counting all took too long: there are as many at least."
    )


@router.get(
    "/command-count",
    responses={status: {"model": ProblemDetails} for status in (401, 403, 422, 503)},
)
async def count_commands(
    gateway: GatewayOf, caller: Reads, asked: Annotated[Filter, Query()]
) -> CommandCount:
    """Counts the commands that the list would show.

    It is exact, however many there are, without a filter and by type, state, the beginning of the
    id, or a time.
    """
    wanted = _wanted(asked, caller)
    try:
        found = await gateway.read_model.count(wanted)
    except ModelUnavailableError:
        raise list_unavailable(gateway) from None
    return CommandCount(count=found.count, exact=found.is_exact)


def _wanted(asked: Filter, caller: Caller) -> CommandFilter:
    """Returns what is asked for.

    Raises:
        ProblemError: there is no such state or type, or the caller may not see all of it.
    """
    wanted = CommandFilter(
        state=_known("state", asked.state, [str(each) for each in State]),
        type=_known("command type", asked.type, COMMAND_CLASSES),
        correlation_id=asked.correlationid,
        id_prefix=asked.id,
        since_ms=None if asked.since is None else milliseconds_of(asked.since),
        until_ms=None if asked.until is None else milliseconds_of(asked.until),
        text=asked.text,
    )
    token = caller.token
    if token is not None and token.types and wanted.type not in token.types:
        raise ProblemError(
            403,
            "forbidden",
            f"This token is limited: name a type of {', '.join(sorted(token.types))}.",
        )
    return wanted


def list_unavailable(gateway: Gateway) -> ProblemError:
    """Returns the problem of lists that can't be answered for the moment."""
    return ProblemError(
        503,
        "read_model_unavailable",
        gateway.read_model.trouble
        or "The list is being made from the events; ask again in a moment.",
        headers={"Retry-After": "1"},
    )


def _item(row: CommandRow) -> dict[str, Any]:
    error = None
    if row.error_code is not None:
        error = {"code": row.error_code, "message": row.error_message}
    return {
        "id": row.id,
        "type": row.type,
        "state": row.state,
        "correlationid": row.correlation_id,
        "attempts": row.attempts,
        "accepted_at": _moment(row.accepted_at_ms),
        "changed_at": _moment(row.changed_at_ms),
        "error": error,
    }


def _known(what: str, value: str | None, known: Any) -> str | None:
    if value is not None and value not in known:
        raise ProblemError(422, "invalid_parameters", unknown(what, value, known))
    return value


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
