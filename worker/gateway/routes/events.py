"""`GET /v1/events`: the events as they come, as server-sent events."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from worker.gateway.access.callers import Caller, Reads
from worker.gateway.events.messages import LastEventIdError, check_entry_id
from worker.gateway.events.watchers import EventFilter
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.problems import ProblemDetails, ProblemError
from worker.integrations.patterns import Patterns, fits_no_event
from worker.queue.ledger.connection import PASSING_TROUBLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

router: Final = APIRouter(prefix="/v1/events", tags=["events"])

# Proxies that collect answers would hold events back.
_HEADERS: Final = {"X-Accel-Buffering": "no"}


class EventsQuery(BaseModel):
    """Which events are wanted; all that is given must fit."""

    model_config = {"extra": "forbid"}

    type: list[str] | None = Field(
        None,
        max_length=50,
        description="Patterns like `train.*` or `*.failed`; several are or.",
    )
    subject: str | None = Field(None, description="The id of a command.")
    correlationid: str | None = None

    def patterns(self) -> Patterns | None:
        """Returns which types are wanted; None for all.

        Raises:
            ProblemError: one is no pattern of an event's type, so that nothing would ever come.
        """
        for each in self.type or ():
            if told := fits_no_event(each):
                raise ProblemError(422, "invalid_parameters", f"type: {told}.")
        return Patterns(self.type) if self.type else None


@router.get(
    "",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **{status: {"model": ProblemDetails} for status in (401, 403, 422, 503)},
    },
)
async def watch_events(
    gateway: GatewayOf,
    caller: Reads,
    asked: Annotated[EventsQuery, Query()],
    last_event_id: Annotated[
        str | None,
        Header(description="Of the last event that is known; 0-0 for all that are kept."),
    ] = None,
) -> StreamingResponse:
    """Streams events as they come: `id:` is where to go on, `event:` the type, `data:` the event.

    Without `Last-Event-ID` it begins with what comes from now on. The answer's own `Last-Event-ID`
    is the event behind which it begins.
    """
    if last_event_id is not None:
        try:
            check_entry_id(last_event_id)
        except LastEventIdError as exc:
            raise ProblemError(422, "invalid_parameters", f"Last-Event-ID {exc}.") from None
    types = caller.token.types if caller.token is not None else frozenset()
    wanted = EventFilter(
        types=asked.patterns(),
        subject=asked.subject,
        correlation_id=asked.correlationid,
        command_types=types or None,
    )
    # Before it answers: what comes once the caller knows that they watch is not missed.
    after = last_event_id or await gateway.events.newest()
    return StreamingResponse(
        _while_allowed(gateway, caller, wanted, after),
        media_type="text/event-stream",
        headers={**_HEADERS, "Last-Event-ID": after},
    )


async def _while_allowed(
    gateway: Gateway, caller: Caller, wanted: EventFilter, after: str
) -> AsyncIterator[bytes]:
    """Yields the stream for as long as the caller may read it; it ends before the next piece."""
    async with aclosing(gateway.events.events(wanted, after)) as pieces:
        async for piece in pieces:
            try:
                await gateway.access.check_still(caller)
            except ProblemError:
                return
            except PASSING_TROUBLE:
                # Without Redis there are no events either; who is connected stays so.
                pass
            yield piece
