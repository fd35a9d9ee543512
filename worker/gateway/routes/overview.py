"""`GET /v1/overview`: one look at how all is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from schemas.enums import Priority
from trainmaster_client import State
from worker.gateway.access.callers import Reads
from worker.gateway.gateway import GatewayOf
from worker.gateway.problems import ProblemDetails
from worker.gateway.read_model.readers import ModelUnavailableError
from worker.gateway.routes.command_list import list_unavailable
from worker.monitoring.ledger_sample import LedgerSampler

if TYPE_CHECKING:
    from worker.gateway.read_model.minutes import Minute
    from worker.monitoring.ledger_sample import Sample

router: Final = APIRouter(prefix="/v1/overview", tags=["overview"])

MINUTES: Final = 60


class LaneLoad(BaseModel):
    """What a lane has to do."""

    lane: Priority
    due: int = Field(description="Commands that could run now.")
    open: int = Field(description="Commands that have not ended, waits of days included.")
    oldest_due_seconds: float | None = Field(
        description="How long the oldest of those that could run has waited; null without any."
    )
    paused: bool


class MinuteView(BaseModel):
    """What happened in a minute; the last one is not over yet."""

    at: datetime = Field(description="Its begin.")
    accepted: int
    succeeded: int
    failed: int
    cancelled: int
    rejected: int
    p50_seconds: float | None = Field(
        description="The median, to within 5 %, of the time from the acceptance to the end of "
        "those that ended in it; null without any."
    )
    p99_seconds: float | None = Field(description="Likewise, what one of a hundred exceeds.")


class ReadModelLag(BaseModel):
    """How far what the lists tell, and `states` and `minutes` here, is behind the events."""

    behind_events: int
    behind_seconds: float


class Overview(BaseModel):
    """How all is."""

    at: datetime = Field(description="By Redis' clock.")
    lanes: list[LaneLoad]
    suspects: int = Field(
        description="Commands that were claimed again and again without an end; they count in no "
        "lane."
    )
    states: dict[str, int] = Field(
        description="How many commands the lists have in each state; what ended is forgotten "
        "after a while."
    )
    minutes: list[MinuteView] = Field(description="The last sixty, oldest first.")
    unread_messages: int = Field(description="That no worker has accepted or rejected yet.")
    dead_letters: int = Field(description="That wait for a person.")
    events_kept: int
    read_model: ReadModelLag


@router.get("", responses={503: {"model": ProblemDetails}})
async def read_overview(gateway: GatewayOf, caller: Reads) -> Overview:
    """Tells how all is: what is due and open, in which states commands are, the last hour.

    It costs no more with a million commands than with one.
    """
    caller.check_unlimited()
    seconds, microseconds = await gateway.redis.time()
    now_ms = int(seconds) * 1000 + int(microseconds) // 1000
    try:
        sample, pulse, lag = await asyncio.gather(
            LedgerSampler(gateway.redis, gateway.keys).read(),
            gateway.read_model.pulse(now_ms, MINUTES),
            gateway.read_model.lag(),
        )
    except ModelUnavailableError:
        raise list_unavailable(gateway) from None
    return Overview(
        at=_time(now_ms),
        lanes=[_lane(lane, sample) for lane in Priority],
        suspects=_whole(sample, "suspects"),
        states={str(state): 0 for state in State} | pulse.states,
        minutes=list(map(_minute, pulse.minutes)),
        unread_messages=_whole(sample, "unread_messages") + _whole(sample, "inbox_messages"),
        dead_letters=_whole(sample, "dead_letters_kept"),
        events_kept=_whole(sample, "events_kept"),
        read_model=ReadModelLag(behind_events=lag.events, behind_seconds=lag.seconds),
    )


def _lane(lane: Priority, sample: Sample) -> LaneLoad:
    of = (str(lane),)
    due = int(sample["due_now"][of])
    return LaneLoad(
        lane=lane,
        due=due,
        open=int(sample["open"][of]),
        oldest_due_seconds=sample["oldest_due_seconds"][of] if due else None,
        paused=bool(sample["lane_paused"][of]),
    )


def _minute(minute: Minute) -> MinuteView:
    return MinuteView(
        at=_time(minute.begin_ms),
        accepted=minute.accepted,
        succeeded=minute.succeeded,
        failed=minute.failed,
        cancelled=minute.cancelled,
        rejected=minute.rejected,
        p50_seconds=minute.p50_seconds,
        p99_seconds=minute.p99_seconds,
    )


def _whole(sample: Sample, name: str) -> int:
    return int(sum(sample[name].values()))


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
