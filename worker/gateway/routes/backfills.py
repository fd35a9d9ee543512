"""`/v1/backfills`: listed, seen, paused, resumed, cancelled."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from worker.acts import Act
from worker.backfill.errors import UnreadableBackfillError
from worker.backfill.status import Origin
from worker.backfill.transitions import begin_cancel, begin_pause, begin_resume
from worker.gateway.access.callers import Operates, Reads
from worker.gateway.act_route import ActRoute
from worker.gateway.gateway import GatewayOf
from worker.gateway.json_bodies import TakesNothing
from worker.gateway.problems import ProblemDetails, ProblemError
from worker.gateway.views.backfills import (
    BACKFILL,
    BackfillIdOf,
    BackfillView,
    begun,
    look,
    unreadable,
    view_begun,
)
from worker.queue.ledger.cancellation import CancelStatus, cancel

router: Final = APIRouter(prefix="/v1/backfills", tags=["backfills"], route_class=ActRoute)


class BackfillPage(BaseModel):
    """A page of backfills, those begun last first."""

    items: list[BackfillView]
    next_cursor: str | None = Field(description="Of the next page, null at the end.")


class PageQuery(BaseModel):
    """Which page of a list."""

    model_config = {"extra": "forbid"}

    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, description="Of the page before.")


@router.get("")
async def list_backfills(
    gateway: GatewayOf, caller: Reads, query: Annotated[PageQuery, Query()]
) -> BackfillPage:
    """Lists backfills that were begun, the last one first."""
    if not caller.sees(BACKFILL):
        return BackfillPage(items=[], next_cursor=None)
    backfills = gateway.backfills
    ids = (await backfills.ids())[::-1]
    if query.cursor is not None:
        if query.cursor not in ids:
            raise ProblemError(
                422, "invalid_cursor", "The cursor is none of this list, or what it names is gone."
            )
        ids = ids[ids.index(query.cursor) + 1 :]
    found = [await view_begun(backfills, backfill_id) for backfill_id in ids[: query.limit]]
    return BackfillPage(
        items=[view for view in found if view is not None],
        next_cursor=ids[query.limit - 1] if len(ids) > query.limit else None,
    )


@router.get("/{backfill_id}")
async def read_backfill(
    backfill_id: BackfillIdOf, gateway: GatewayOf, caller: Reads
) -> BackfillView:
    """Tells how far a backfill is."""
    return await look(gateway, caller, backfill_id)


@router.post("/{backfill_id}/pause")
async def pause_backfill(
    backfill_id: BackfillIdOf, gateway: GatewayOf, caller: Operates, _: TakesNothing
) -> BackfillView:
    """Starts no further items until it is resumed; running ones finish."""
    await begun(gateway, caller, backfill_id)
    async with gateway.recorded(caller, Act.BACKFILL_PAUSE, backfill_id) as entry:
        if await begin_pause(gateway.backfills, backfill_id):
            entry.done()
    return await look(gateway, caller, backfill_id)


@router.post("/{backfill_id}/resume")
async def resume_backfill(
    backfill_id: BackfillIdOf, gateway: GatewayOf, caller: Operates, _: TakesNothing
) -> BackfillView:
    """Resumes a backfill that is paused.

    A worker goes on with it; one whose `origin` is `console` needs `trainmaster backfill resume`
    there, if its process has ended.
    """
    await begun(gateway, caller, backfill_id)
    async with gateway.recorded(caller, Act.BACKFILL_RESUME, backfill_id) as entry:
        if await begin_resume(gateway.backfills, backfill_id):
            entry.done()
    return await look(gateway, caller, backfill_id)


@router.post(
    "/{backfill_id}/cancel",
    responses={409: {"model": ProblemDetails, "description": "Its console has to do that."}},
)
async def stop_backfill(
    backfill_id: BackfillIdOf, gateway: GatewayOf, caller: Operates, _: TakesNothing
) -> BackfillView:
    """Cancels a backfill: waiting items never run; the results so far are written."""
    await look(gateway, caller, backfill_id)
    try:
        status = await gateway.backfills.look(backfill_id)
    except UnreadableBackfillError as exc:
        raise unreadable(exc) from exc
    if status is None:
        settings = gateway.settings
        async with gateway.recorded(caller, Act.BACKFILL_CANCEL, backfill_id) as entry:
            outcome = await cancel(
                gateway.redis,
                gateway.keys,
                backfill_id,
                retention_seconds=settings.id_retention_seconds,
                reply_retention_seconds=settings.event_retention_seconds,
            )
            if outcome.is_done:
                entry.done(state_before=outcome.state)
        if outcome.status is CancelStatus.UNKNOWN_ID:
            raise ProblemError(
                409, "not_read_yet", "No worker has read it yet; cancel it once one has."
            )
        return await look(gateway, caller, backfill_id)
    if status.origin is Origin.CONSOLE and not status.led_ms and not status.state.ended:
        raise ProblemError(
            409,
            "no_leader",
            "No process leads it, and its results lie where it was begun: cancel it there by "
            "`trainmaster backfill cancel`.",
        )
    # Who leads it ends it: this process need not reach its results.
    async with gateway.recorded(caller, Act.BACKFILL_CANCEL, backfill_id) as entry:
        before = await begin_cancel(gateway.backfills, backfill_id)
        if before is not None:
            entry.done(state_before=before)
    return await look(gateway, caller, backfill_id)
