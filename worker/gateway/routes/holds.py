"""`/v1/holds` and `/v1/lanes`: what keeps workers from claiming, and how to end it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from schemas.enums import Priority
from worker.acts import Act
from worker.gateway.access.callers import Operates, Reads
from worker.gateway.act_route import ActRoute
from worker.gateway.gateway import GatewayOf
from worker.gateway.json_bodies import TakesNothing
from worker.gateway.models import moment
from worker.queue.ledger.holds import Hold, Holds
from worker.queue.ledger.lanes import Lanes

router: Final = APIRouter(prefix="/v1", route_class=ActRoute)


class HoldView(BaseModel):
    """What keeps all workers, or one of them, from claiming."""

    scope: str = Field(description="`fleet` or `worker`.")
    worker: str | None = Field(description="Its name; null where all are held.")
    reason: str
    since: datetime | None
    rest_seconds: float | None = Field(
        description="Until it ends; null where it ends once the API takes the worker's key."
    )


class HoldList(BaseModel):
    """All holds, that of the fleet first."""

    items: list[HoldView]


class ReleasedHolds(BaseModel):
    """What a release did."""

    released: list[HoldView]
    commands: int = Field(description="That had been put off by a 429, and are due now.")


class LaneView(BaseModel):
    """A lane."""

    lane: Priority
    paused: bool
    reason: str | None
    next_probe_at: datetime | None = Field(description="When one of its commands is tried.")


class LaneList(BaseModel):
    """All lanes."""

    items: list[LaneView]


class ResumedLane(BaseModel):
    """What became of a lane."""

    lane: Priority
    resumed: bool = Field(description="Whether it was paused.")


@router.get("/holds", tags=["holds"])
async def list_holds(gateway: GatewayOf, _caller: Reads) -> HoldList:
    """Lists what keeps workers from claiming.

    A 429 from the API holds all workers for as long as it asks. A worker whose key the API refuses
    holds only itself.
    """
    holds = await Holds(gateway.redis, gateway.keys).list()
    return HoldList(items=list(map(_hold, holds)))


@router.post("/holds/release", tags=["holds"])
async def release_holds(gateway: GatewayOf, caller: Operates, _: TakesNothing) -> ReleasedHolds:
    """Releases every hold; workers claim again within a second.

    If the API still wants a pause, its next 429 holds the workers again.
    """
    caller.check_unlimited()
    async with gateway.recorded(caller, Act.HOLDS_RELEASE) as entry:
        released = await Holds(gateway.redis, gateway.keys).release()
        entry.done(holds=len(released.holds), commands=released.commands)
    return ReleasedHolds(released=list(map(_hold, released.holds)), commands=released.commands)


@router.get("/lanes", tags=["lanes"])
async def list_lanes(gateway: GatewayOf, _caller: Reads) -> LaneList:
    """Lists the lanes, and why one is paused: nearly every command in it fails for good."""
    paused = {pause.lane: pause for pause in await Lanes(gateway.redis, gateway.keys).paused()}
    items = [
        LaneView(
            lane=lane,
            paused=lane in paused,
            reason=paused[lane].reason if lane in paused else None,
            next_probe_at=moment(paused[lane].next_probe_ms) if lane in paused else None,
        )
        for lane in Priority
    ]
    return LaneList(items=items)


@router.post("/lanes/{lane}/resume", tags=["lanes"])
async def resume_lane(
    lane: Annotated[Priority, Path(description="Which one.")],
    gateway: GatewayOf,
    caller: Operates,
    _: TakesNothing,
) -> ResumedLane:
    """Resumes a lane; the commands that wait in it run."""
    caller.check_unlimited()
    async with gateway.recorded(caller, Act.LANE_RESUME, lane) as entry:
        resumed = await Lanes(gateway.redis, gateway.keys).resume(lane)
        entry.done(was_paused=resumed)
    return ResumedLane(lane=lane, resumed=resumed)


def _hold(hold: Hold) -> HoldView:
    return HoldView(
        scope=hold.scope,
        worker=hold.worker or None,
        reason=hold.reason,
        since=moment(hold.since_ms),
        rest_seconds=None if hold.rest_ms is None else hold.rest_ms / 1000,
    )
