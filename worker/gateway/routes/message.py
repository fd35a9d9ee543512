"""`/v1/commands/{id}/message` and `…/replay`: what a command was sent with; sending it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.responses import Response

from schemas.attributes import CommandId
from worker.acts import Act
from worker.gateway.access.callers import Operates, Reads
from worker.gateway.act_route import ActRoute
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.json_bodies import documented, json_body
from worker.gateway.problems import ProblemDetails, ProblemError, conflict, json_response
from worker.gateway.routes.commands import CommandIdOf
from worker.gateway.routes.dead_letters import (
    EditBody,
    Replayed,
    refused_replay,
    replayed_response,
)
from worker.gateway.views.dead_letters import letter_of, replay_letter
from worker.gateway.views.messages import find_message, shown, unknown_id
from worker.queue.ledger.replay import PERHAPS_DONE, Edit, Refusal, Replay
from worker.thread_pools import in_thread

if TYPE_CHECKING:
    from worker.gateway.access.callers import Caller
    from worker.queue.ledger.dead_letters import DeadLetter

router: Final = APIRouter(prefix="/v1/commands", tags=["commands"], route_class=ActRoute)

# Larger ones are read in a thread: other requests need not wait for them.
_SHORT_BYTES: Final = 262_144


class MessageView(BaseModel):
    """A command as it was sent."""

    id: str
    type: str | None = Field(description="None where the message tells none.")
    state: str = Field(description="Of the command; `rejected` where the message is none.")
    kept_in: str = Field(description="`ledger`, or `dead_letter` once it has failed.")
    message: dict[str, Any] | None = Field(
        description="The command with its attributes and data. Where those lie elsewhere, "
        "`dataref` says where; it is not followed. None where the text is no JSON object."
    )
    text: str | None = Field(description="The text where it is no JSON object.")
    left_out: list[str] = Field(
        description="Paths of texts of more than 65,536 characters, which are not shown, like "
        "`data.data_base64`."
    )


class ReplayCommandBody(EditBody):
    """How a command is sent again; all left out, it goes as it was, under a new id."""

    id: CommandId | None = Field(None, description="Of the new command; else one is made.")
    may_be_done: bool = Field(
        False,
        description="Says that somebody looked at Encord: needed where the outcome is unknown "
        "(`outcome_unknown`, `data_loss`), for what the command creates may exist twice then.",
    )
    dry_run: bool = Field(False, description="Only shows the command that would be sent.")

    def edit(self) -> Edit:
        """Returns the changes.

        Raises:
            ProblemError: they are changes to what has another way.
        """
        edit = super().edit()
        return Edit(edit.data, edit.changes, edit.attributes, self.id)


@router.get(
    "/{command_id}/message",
    response_model=MessageView,
    responses={
        404: {"model": ProblemDetails, "description": "No such command, or its text is not kept."}
    },
)
async def read_message(command_id: CommandIdOf, gateway: GatewayOf, caller: Reads) -> Response:
    """Shows a command as it was sent, for as long as that is kept.

    That is until its end; of what failed or was rejected, until its dead letter is gone.
    """
    sent = await find_message(gateway, caller, command_id)
    is_short = len(sent.text) <= _SHORT_BYTES
    seen = shown(sent.text) if is_short else await in_thread(shown, sent.text)
    return json_response({
        "id": command_id,
        "type": sent.type,
        "state": sent.state,
        "kept_in": sent.kept_in,
        "message": seen.message,
        "text": seen.text,
        "left_out": seen.left_out,
    })


@router.post(
    "/{command_id}/replay",
    status_code=202,
    response_model=Replayed,
    responses={
        200: {"model": Replayed, "description": "A dry run: nothing was sent."},
        404: {"model": ProblemDetails, "description": "No such command, or no dead letter of it."},
        409: {
            "model": ProblemDetails,
            "description": "It has not ended, or it may have been carried out.",
        },
    },
    openapi_extra=documented(ReplayCommandBody),
)
async def replay_command(
    command_id: CommandIdOf,
    gateway: GatewayOf,
    caller: Operates,
    body: Annotated[ReplayCommandBody, Depends(json_body(ReplayCommandBody))],
) -> Response:
    """Sends a command that failed or was rejected again, as it was or changed.

    As a replay of its dead letter, which it removes. Where nobody knows whether a change happened
    (`outcome_unknown`), look at Encord first, and say `may_be_done`.
    """
    edit = body.edit()
    letter = await _letter(gateway, caller, command_id)
    if letter.reason in PERHAPS_DONE and not body.may_be_done:
        raise ProblemError(
            409,
            letter.reason,
            "Nobody knows whether this was carried out. Look at Encord first; if it was not, send "
            "the same with may_be_done: true.",
        )
    if body.id is not None:
        await _check_new(gateway, body.id)
    told: dict[str, Any] = {"key": letter.key, "type": letter.type, "edited": body.edited}
    async with gateway.recorded(
        caller, Act.COMMAND_REPLAY, command_id, dry_run=body.dry_run, **told
    ) as entry:
        outcome = await replay_letter(
            gateway, caller, letter, edit, may_be_done=True, dry_run=body.dry_run
        )
        if isinstance(outcome, Replay):
            entry.done(new_id=outcome.command["id"])
    if isinstance(outcome, Refusal):
        raise refused_replay(outcome)
    return replayed_response(outcome, sent=not body.dry_run)


async def _letter(gateway: Gateway, caller: Caller, command_id: str) -> DeadLetter:
    row = await gateway.reader.status(command_id)
    if row is not None:
        if not caller.sees(row.type):
            raise unknown_id()
        if not row.ended:
            raise ProblemError(
                409, "not_ended", f"The command has not ended: its state is {row.state}."
            )
    letter = await letter_of(gateway, command_id, row)
    if letter is not None and caller.sees(letter.type):
        return letter
    if row is None:
        unread_type = await gateway.submitter.unread_type(command_id)
        if unread_type is not None and caller.sees(unread_type):
            raise ProblemError(409, "not_ended", "No worker has read the command yet.")
        raise unknown_id()
    raise ProblemError(
        404,
        "unknown_dead_letter",
        "The command failed, and its dead letter was replayed or deleted."
        if row.state == "failed"
        else f"The command ended as {row.state}: only what failed or was rejected is sent again.",
    )


async def _check_new(gateway: Gateway, command_id: str) -> None:
    """Returns if an id is free: the same data under a known one would do nothing more.

    Raises:
        ProblemError: it names a command.
    """
    is_known = await gateway.reader.status(command_id) is not None
    if is_known or await gateway.submitter.unread_type(command_id) is not None:
        raise conflict(command_id)
