"""`/v1/sinks`: where events go by the integrations file, and what became of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field

from schemas.attributes import Timestamp
from schemas.suggestions import unknown
from worker.acts import Act
from worker.gateway.access.callers import Operates, Reads
from worker.gateway.act_route import ActRoute
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.json_bodies import TakesNothing, documented, json_body
from worker.gateway.models import moment
from worker.gateway.problems import ProblemDetails, ProblemError
from worker.gateway.views.dead_letters import milliseconds
from worker.integrations.sink_config import SinkConfig
from worker.queue.ledger.streams import is_entry_id
from worker.sinks import operations
from worker.sinks.deferred import SinkStore
from worker.sinks.operations import SinkStatus

router: Final = APIRouter(prefix="/v1/sinks", tags=["sinks"], route_class=ActRoute)

NameOf = Annotated[str, Path(description="As the file has it.")]

_ONE: Final[dict[int | str, dict[str, Any]]] = {404: {"model": ProblemDetails}}


class SinkView(BaseModel):
    """How a sink stands."""

    name: str
    destination: str = Field(description="Kind and host, and no secret.")
    state: str = Field(description="`running`, `failing`, `paused` or `not running`.")
    paused: bool
    reason: str | None = Field(description="Of the pause.")
    running: bool = Field(description="Whether a process sends for it, or would but for a pause.")
    behind_events: int | None = Field(
        description="Events that it has not looked at; null where that is not known."
    )
    behind_seconds: float = Field(description="Age of the oldest of these.")
    waiting: int = Field(
        description="Events that failed, or stand behind such ones, and are tried again."
    )
    unsent: int = Field(description="Events whose tries have ended.")
    delivered: int
    failed_attempts: int
    missed: int = Field(description="Events that were deleted before it looked at them.")
    missed_at: datetime | None
    last_delivered_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None


class SinkList(BaseModel):
    """The sinks of the file."""

    items: list[SinkView]


class UnsentView(BaseModel):
    """An event that could not be sent."""

    id: str = Field(description="Names it in this list.")
    at: datetime | None = Field(description="When its tries ended.")
    event_id: str
    type: str = Field(description="Of the event.")
    subject: str = Field(description="The id of the command that it tells of.")
    time: str = Field(description="When it happened, as the event has it.")
    error: str = Field(description="Of the last try.")


class UnsentPage(BaseModel):
    """A page of events that could not be sent, newest first."""

    items: list[UnsentView]
    next_cursor: str | None = Field(description="Of the next page, null at the end.")


class UnsentQuery(BaseModel):
    """Which page of them."""

    model_config = {"extra": "forbid"}

    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, description="Of the page before.")


class PauseBody(BaseModel):
    """Why a sink is paused."""

    model_config = {"extra": "forbid"}

    reason: str = Field("by hand", min_length=1, max_length=200)


class RecoverBody(BaseModel):
    """Which events are sent again."""

    model_config = {"extra": "forbid"}

    since: Timestamp | None = Field(None, description="Only events that are not older.")
    all: bool = Field(
        False, description="Also what was delivered: all since then that the sink wants."
    )


class Recovered(BaseModel):
    """What is sent again."""

    name: str
    events: int | None = Field(
        description="How many that could not be sent; null with `all`, where nobody knows."
    )
    recovered: bool = Field(
        description="False with `all` where the sink has not come to that time yet."
    )


@router.get("")
async def list_sinks(gateway: GatewayOf, caller: Reads) -> SinkList:
    """Lists where events go by the gateway's file, and how that stands."""
    caller.check_unlimited()
    sinks = gateway.integrations.sinks.values()
    return SinkList(items=[await _look(gateway, each) for each in sinks])


@router.post("/{name}/pause", responses=_ONE, openapi_extra=documented(PauseBody))
async def pause_sink(
    name: NameOf,
    gateway: GatewayOf,
    caller: Operates,
    body: Annotated[PauseBody, Depends(json_body(PauseBody))],
) -> SinkView:
    """Pauses a sink; its events wait."""
    caller.check_unlimited()
    config = _config(gateway, name)
    async with gateway.recorded(caller, Act.SINK_PAUSE, name, reason=body.reason) as entry:
        await operations.pause(gateway.redis, gateway.keys, name, body.reason)
        entry.done()
    return await _look(gateway, config)


@router.post("/{name}/resume", responses=_ONE)
async def resume_sink(
    name: NameOf, gateway: GatewayOf, caller: Operates, _: TakesNothing
) -> SinkView:
    """Lets a paused sink go on; what waits is sent, and tried for three more days."""
    caller.check_unlimited()
    config = _config(gateway, name)
    async with gateway.recorded(caller, Act.SINK_RESUME, name) as entry:
        was_paused = await operations.resume(gateway.redis, gateway.keys, name)
        entry.done(was_paused=was_paused)
    return await _look(gateway, config)


@router.post("/{name}/recover", responses=_ONE, openapi_extra=documented(RecoverBody))
async def recover_sink(
    name: NameOf,
    gateway: GatewayOf,
    caller: Operates,
    body: Annotated[RecoverBody, Depends(json_body(RecoverBody))],
) -> Recovered:
    """Sends events again that could not be sent, or with `all` everything since a time.

    The messages have the same ids as the first time.
    """
    caller.check_unlimited()
    _config(gateway, name)
    if body.all and body.since is None:
        raise ProblemError(
            422,
            "invalid_parameters",
            "since must be said with all: what was delivered comes again.",
        )
    since_ms = milliseconds(body.since) or 0
    told = body.model_dump(exclude_defaults=True)
    async with gateway.recorded(caller, Act.SINK_RECOVER, name, **told) as entry:
        if body.all:
            done = await operations.recover_all(gateway.redis, gateway.keys, name, since_ms)
            if done:
                entry.done()
            return Recovered(name=name, events=None, recovered=done)
        events = await operations.recover(gateway.redis, gateway.keys, name, since_ms)
        entry.done(events=events)
    return Recovered(name=name, events=events, recovered=True)


@router.get("/{name}/unsent", responses=_ONE)
async def list_unsent_events(
    name: NameOf, gateway: GatewayOf, caller: Reads, query: Annotated[UnsentQuery, Query()]
) -> UnsentPage:
    """Lists the events that a sink could not send, newest first; `recover` sends them again."""
    caller.check_unlimited()
    _config(gateway, name)
    if query.cursor is not None and not is_entry_id(query.cursor):
        raise ProblemError(422, "invalid_cursor", "The cursor is none of this list.")
    items: list[UnsentView] = []
    async for each in SinkStore(gateway.redis, gateway.keys, name).unsent(query.cursor):
        if len(items) == query.limit:
            return UnsentPage(items=items, next_cursor=items[-1].id)
        event = each.event
        items.append(
            UnsentView(
                id=each.id,
                at=moment(int(each.id.partition("-")[0])),
                event_id=event.id,
                type=event.type,
                subject=event.command_id,
                time=str(event.attributes["time"]),
                error=each.error,
            )
        )
    return UnsentPage(items=items, next_cursor=None)


def _config(gateway: Gateway, name: str) -> SinkConfig:
    sinks = gateway.integrations.sinks
    if name not in sinks:
        raise ProblemError(404, "unknown_sink", f"{unknown('sink', name, sinks)}.")
    return sinks[name]


async def _look(gateway: Gateway, config: SinkConfig) -> SinkView:
    return _view(await operations.sink_status(gateway.redis, gateway.keys, config))


def _view(status: SinkStatus) -> SinkView:
    return SinkView(
        name=status.name,
        destination=status.destination,
        state=status.state,
        paused=bool(status.reason),
        reason=status.reason or None,
        running=bool(status.leader),
        behind_events=status.behind,
        behind_seconds=status.behind_seconds,
        waiting=status.waiting,
        unsent=status.unsent,
        delivered=status.delivered,
        failed_attempts=status.failed,
        missed=status.missed,
        missed_at=moment(status.missed_at_ms),
        last_delivered_at=moment(status.last_delivered_at_ms),
        last_error=status.last_error or None,
        last_error_at=moment(status.last_error_at_ms),
    )
