"""`/v1/commands/{id}`: tells how far a command is, cancels and resolves it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query

from schemas.attributes import is_valid_id
from trainmaster_client.events import ENDS
from worker.acts import Act
from worker.encord.creation.resolution import Resolution, ResolveStatus, resolve
from worker.gateway.access.callers import Caller, Operates, Reads
from worker.gateway.act_route import ActRoute
from worker.gateway.events.watchers import EventFilter
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.json_bodies import TakesNothing, documented, json_body
from worker.gateway.models import Cancelled, CommandView, ResolveBody, Resolved, moment
from worker.gateway.problems import ProblemDetails, ProblemError
from worker.gateway.requests.text import name_in_address
from worker.integrations.patterns import Patterns
from worker.queue.ledger.cancellation import CancelStatus, cancel

if TYPE_CHECKING:
    from trainmaster_client import Event
    from worker.queue.ledger.command_status import CommandStatus

router: Final = APIRouter(prefix="/v1/commands", tags=["commands"], route_class=ActRoute)

MAX_WAIT_SECONDS: Final = 60.0
_ENDS: Final = Patterns([f"*.{state}" for state in sorted(ENDS)])


async def _read_id(command_id: Annotated[str, Path(description="Percent-encoded.")]) -> str:
    found = name_in_address(command_id)
    if not is_valid_id(found):
        raise ProblemError(404, "unknown_id", "No command has such an id.")
    return found


CommandIdOf = Annotated[str, Depends(_read_id)]


@router.get("/{command_id}", responses={404: {"model": ProblemDetails}})
async def read_command(
    command_id: CommandIdOf,
    gateway: GatewayOf,
    caller: Reads,
    wait: Annotated[
        float,
        Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the command's end."),
    ] = 0,
) -> CommandView:
    """Tells how far a command is, and its result once it has succeeded."""
    if wait:
        waiting = _await_end(gateway, command_id, wait)
        view = await gateway.access.while_allowed(caller, waiting)
    else:
        view = await _look(gateway, command_id)
    if view is None:
        unread_type = await gateway.submitter.unread_type(command_id)
        view = None if unread_type is None else _unread(command_id, unread_type)
    if view is None:
        raise ProblemError(
            404,
            "unknown_id",
            "No command has this id: it was never sent, was refused, ended too long ago, or no "
            "worker has read it yet.",
        )
    _check_type(caller, view.type)
    return view


@router.post("/{command_id}/cancel", responses={404: {"model": ProblemDetails}})
async def cancel_command(
    command_id: CommandIdOf, gateway: GatewayOf, caller: Operates, _: TakesNothing
) -> Cancelled:
    """Cancels a command that has not ended.

    What was done at the API stays: a running training goes on, because the API can't stop it.
    """
    await _check_type_of(gateway, caller, command_id)
    async with gateway.recorded(caller, Act.COMMAND_CANCEL, command_id) as entry:
        outcome = await cancel(
            gateway.redis,
            gateway.keys,
            command_id,
            retention_seconds=gateway.settings.id_retention_seconds,
            reply_retention_seconds=gateway.settings.event_retention_seconds,
        )
        if outcome.is_done:
            entry.done(state_before=outcome.state)
    if outcome.status is CancelStatus.UNKNOWN_ID:
        raise ProblemError(
            404,
            "unknown_id",
            "No command has this id: no worker has read it yet, or it ended too long ago.",
        )
    return Cancelled(
        id=command_id,
        status=outcome.status,
        state=outcome.state or None,
        leaves=outcome.leaves,
        in_doubt=outcome.in_doubt,
    )


@router.post(
    "/{command_id}/resolve",
    responses={409: {"model": ProblemDetails, "description": "The command is not in doubt."}},
    openapi_extra=documented(ResolveBody),
)
async def resolve_command(
    command_id: CommandIdOf,
    gateway: GatewayOf,
    caller: Operates,
    body: Annotated[ResolveBody, Depends(json_body(ResolveBody))],
) -> Resolved:
    """Settles a command in doubt: says whether its lost call created something.

    Look at Encord first. With `created` the command goes on as if the API had answered; with
    `not_created` its call is sent again, once.
    """
    if (body.created is None) == (not body.not_created):
        raise ProblemError(
            422, "invalid_parameters", "Say either created, a uuid, or not_created: true."
        )
    created = _uuid(body.created)
    await _check_type_of(gateway, caller, command_id)
    async with gateway.recorded(caller, Act.COMMAND_RESOLVE, command_id) as entry:
        outcome = await resolve(
            gateway.redis,
            gateway.keys,
            command_id,
            Resolution(created, caller.name),
            reply_retention_seconds=gateway.settings.event_retention_seconds,
        )
        if outcome.status is ResolveStatus.RESOLVED:
            entry.done(created=created)
    if outcome.status is ResolveStatus.UNKNOWN_ID:
        raise ProblemError(404, "unknown_id", "No command has this id.")
    if outcome.status is not ResolveStatus.RESOLVED:
        raise ProblemError(
            409, outcome.status, f"The command is not in doubt: its state is {outcome.state}."
        )
    return Resolved(id=command_id, status=outcome.status, state=outcome.state or None)


async def _await_end(gateway: Gateway, command_id: str, seconds: float) -> CommandView | None:
    """Returns how far a command is once it has ended, or after so long.

    All who wait share the one reader of the events that a process has.
    """
    after = await gateway.events.newest()
    view = await _look(gateway, command_id)
    if view is not None and view.ended_at is not None:
        return view
    ends = EventFilter(types=_ENDS, subject=command_id)
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(seconds),
            aclosing(gateway.events.events(ends, after)) as pieces,
        ):
            async for piece in pieces:
                # A notice, of a gap say, is none of the end.
                if b"\ndata:" in piece and (found := await _look(gateway, command_id)):
                    view = found
                    if view.ended_at is not None:
                        return view
    return await _look(gateway, command_id) or view


async def _look(gateway: Gateway, command_id: str) -> CommandView | None:
    status = await gateway.reader.status(command_id)
    if status is None:
        return None
    event = await gateway.reader.terminal_event(status)
    return _view(status, event)


def _view(status: CommandStatus, event: Event | None) -> CommandView:
    error = status.last_error if event is None else dict(event.error) or None
    return CommandView(
        id=status.id,
        type=status.type,
        state=status.state,
        lane=status.lane,
        attempts=status.attempts,
        accepted_at=moment(status.accepted_at_ms),
        due_at=moment(status.due_at_ms),
        ended_at=moment(status.ended_at_ms),
        error=error,
        result=None if event is None else event.result,
        dataref=None if event is None else event.dataref,
        progress=status.progress,
        resolution=status.resolution,
    )


def _unread(command_id: str, command_type: str) -> CommandView:
    """Returns the view of a command that stands in its stream and that no worker has read."""
    return CommandView(
        id=command_id,
        # A gateway of an earlier version did not note it.
        type=command_type or None,
        state="submitted",
        lane=None,
        attempts=0,
        accepted_at=None,
        due_at=None,
        ended_at=None,
        error=None,
        result=None,
        dataref=None,
        progress=None,
        resolution=None,
    )


async def _check_type_of(gateway: Gateway, caller: Caller, command_id: str) -> None:
    if caller.token is not None and caller.token.types:
        status = await gateway.reader.status(command_id)
        if status is not None:
            _check_type(caller, status.type)


def _check_type(caller: Caller, command_type: str | None) -> None:
    """Refuses what another command's id would tell to a token that is limited to types."""
    if not caller.sees(command_type):
        raise ProblemError(404, "unknown_id", "No command has this id.")


def _uuid(text: str | None) -> UUID | None:
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise ProblemError(422, "invalid_parameters", "created must be a uuid.") from None
