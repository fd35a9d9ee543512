"""`/v1/commands/{id}/result`: what a command came to, however large that is."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from worker.gateway.access.callers import Reads
from worker.gateway.files.results import open_dataref
from worker.gateway.gateway import GatewayOf
from worker.gateway.problems import ProblemDetails, ProblemError, json_response
from worker.gateway.routes.commands import CommandIdOf
from worker.gateway.views.messages import unknown_id

router: Final = APIRouter(prefix="/v1/commands", tags=["commands"])


@router.get(
    "/{command_id}/result",
    response_class=Response,
    responses={
        200: {"description": "The result.", "content": {"application/json": {"schema": {}}}},
        404: {"model": ProblemDetails, "description": "No such command, or no result of it."},
        502: {"model": ProblemDetails, "description": "The result store can't be read."},
    },
)
async def read_result(command_id: CommandIdOf, gateway: GatewayOf, caller: Reads) -> Response:
    """Sends the result of a command that succeeded, for as long as its event is kept.

    One that is too large for its event lies in the result store, at the event's `dataref`; it is
    read from there as it is sent. Nothing that lies elsewhere is read.
    """
    row = await gateway.reader.status(command_id)
    if row is None or not caller.sees(row.type):
        raise unknown_id()
    event = await gateway.reader.terminal_event(row)
    if row.state != "succeeded" or event is None:
        raise ProblemError(
            404,
            "no_result",
            "The command succeeded, and the event that had its result is no longer kept."
            if row.state == "succeeded"
            else f"Only a command that succeeded has a result; this one's state is {row.state}.",
        )
    if event.dataref is None:
        return json_response(event.result)
    pieces, size = await open_dataref(gateway.settings.result_store, event.dataref)
    headers = {} if size is None else {"Content-Length": str(size)}
    return StreamingResponse(pieces, media_type="application/json", headers=headers)
