"""`GET /v1/commands/{id}/events`: what became of one command, from its first event to its last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from schemas.json_text import RawJson
from trainmaster_client import State
from trainmaster_client.events import event_of
from worker.gateway.access.callers import Caller, Reads
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.problems import ProblemDetails, ProblemError, json_response
from worker.gateway.read_model.readers import ModelUnavailableError
from worker.gateway.routes.command_list import list_unavailable
from worker.gateway.routes.commands import CommandIdOf
from worker.queue.ledger.keys import EVENT_FIELD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trainmaster_client import Event
    from worker.queue.ledger.streams import StreamEntry

router: Final = APIRouter(prefix="/v1/commands", tags=["commands"])

MOST_EVENTS: Final = 1_000
# Asked for in one go; the last event may have a large result.
_AT_A_TIME: Final = 100
_BEGINS: Final = frozenset({State.ACCEPTED, State.REJECTED})


class CommandEvents(BaseModel):
    """The events of a command, oldest first."""

    items: list[dict[str, Any]] = Field(description="Each as it stands in the stream of events.")
    complete: bool = Field(
        description="Whether none is missing before the last one: events are kept for a time, "
        "and of a command the newest thousand are shown."
    )
    last_event_id: str | None = Field(
        description="Where to go on in `GET /v1/events`; null where the lists do not know the "
        "command yet."
    )


@router.get(
    "/{command_id}/events",
    response_model=CommandEvents,
    responses={status: {"model": ProblemDetails} for status in (404, 503)},
)
async def list_command_events(
    command_id: CommandIdOf, gateway: GatewayOf, caller: Reads
) -> Response:
    """Lists what became of a command, oldest first.

    Like the lists it is a moment behind. To follow it from there, ask `GET /v1/events` with this
    `subject`, and with `last_event_id` as `Last-Event-ID`.
    """
    try:
        last = await gateway.read_model.last_event()
        timeline = await gateway.read_model.timeline(command_id)
    except ModelUnavailableError:
        raise list_unavailable(gateway) from None
    if timeline is None:
        await _check_known(gateway, caller, command_id)
        return json_response(
            {"items": [], "complete": False, "last_event_id": None}, Last_Event_ID=last
        )
    if not caller.sees(timeline.command_type):
        raise _unknown()
    shown = timeline.entries[-MOST_EVENTS:]
    found = [each async for each in _events(gateway, shown)]
    is_whole = (
        not timeline.is_cut
        and len(shown) == len(timeline.entries)
        and len(found) == len(shown)
        and found[0][0].state in _BEGINS
    )
    # One that was written twice is shown once.
    texts = {event.id: RawJson(text) for event, text in reversed(found)}
    return json_response(
        {
            "items": list(reversed(texts.values())),
            "complete": is_whole,
            "last_event_id": timeline.cursor,
        },
        Last_Event_ID=last,
    )


async def _events(gateway: Gateway, ids: Sequence[str]) -> AsyncIterator[tuple[Event, bytes]]:
    """Yields the events of entries that are still kept, each with its text."""
    for start in range(0, len(ids), _AT_A_TIME):
        pipe = gateway.redis.pipeline(transaction=False)
        for entry_id in ids[start : start + _AT_A_TIME]:
            pipe.xrange(gateway.keys.events, entry_id, entry_id)
        for entries in cast("list[list[StreamEntry]]", await pipe.execute()):
            for each, fields in entries:
                if (event := event_of(each, fields)) is not None:
                    yield event, fields[EVENT_FIELD]


async def _check_known(gateway: Gateway, caller: Caller, command_id: str) -> None:
    """Returns if there is such a command of which no event was taken in yet.

    Raises:
        ProblemError: there is none, or the caller may not know of it.
    """
    status = await gateway.reader.status(command_id)
    if status is not None:
        known: str | None = status.type
    else:
        known = await gateway.submitter.unread_type(command_id)
    if known is None or not caller.sees(known):
        raise _unknown()


def _unknown() -> ProblemError:
    return ProblemError(
        404,
        "unknown_id",
        "No command has this id: it was never sent, was refused, or ended too long ago.",
    )
