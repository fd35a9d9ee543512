"""`GET /v1/actions`: who did what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from worker.acts import Act
from worker.gateway.access.callers import Reads
from worker.gateway.gateway import GatewayOf
from worker.gateway.models import moment
from worker.gateway.problems import ProblemError
from worker.queue.ledger.streams import is_entry_id

router: Final = APIRouter(prefix="/v1/actions", tags=["actions"])


class ActionView(BaseModel):
    """What somebody did."""

    id: str = Field(description="Names it.")
    at: datetime | None
    who: str = Field(
        description="The name of a token, `this machine` where none was needed, or "
        "`cli:<user>@<host>`."
    )
    act: str = Field(description="Like `command.cancel`.")
    subject: str | None = Field(
        description="What it was done to; null where `details` tell a filter, or there is but one."
    )
    details: dict[str, Any] = Field(
        description="What came of it. `broken_off` where it did not come to its end, and "
        "`outcome` is `unknown` where the reply of Redis got lost."
    )


class ActionPage(BaseModel):
    """A page of acts, newest first."""

    items: list[ActionView]
    next_cursor: str | None = Field(description="Of the next page, null at the end.")


class ActionsQuery(BaseModel):
    """Which acts are wanted; all that is given must fit."""

    model_config = {"extra": "forbid"}

    who: str | None = None
    act: Act | None = None
    subject: str | None = Field(None, description="The id of a command, the name of a sink…")
    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


@router.get("")
async def list_actions(
    gateway: GatewayOf, caller: Reads, query: Annotated[ActionsQuery, Query()]
) -> ActionPage:
    """Lists what people did over HTTP and on the command line, the latest first."""
    caller.check_unlimited()
    if query.cursor is not None and not is_entry_id(query.cursor):
        raise ProblemError(422, "invalid_cursor", "The cursor is none of this list.")
    actions = gateway.actions.list(
        who=query.who, act=query.act, subject=query.subject, before=query.cursor
    )
    items: list[ActionView] = []
    async for each in actions:
        if len(items) == query.limit:
            return ActionPage(items=items, next_cursor=items[-1].id)
        items.append(
            ActionView(
                id=each.id,
                at=moment(each.at_ms),
                who=each.who,
                act=each.act,
                subject=each.subject,
                details=each.details,
            )
        )
    return ActionPage(items=items, next_cursor=None)
