"""`/v1/commands/{id}/picture`: what a prediction is about, as a browser shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from worker.gateway.access.callers import Reads
from worker.gateway.files.pictures import MEDIA_TYPES
from worker.gateway.gateway import GatewayOf
from worker.gateway.problems import ProblemDetails
from worker.gateway.routes.commands import CommandIdOf
from worker.gateway.views.messages import find_message

if TYPE_CHECKING:
    from worker.gateway.files.pictures import Picture

router: Final = APIRouter(prefix="/v1/commands", tags=["commands"])

# Opened by itself, not even a picture that is a page too can do anything.
_HEADERS: Final = {
    "Content-Disposition": "inline",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


PICTURE: Final[dict[str, Any]] = {
    "description": "The picture.",
    "content": {each: {"schema": {"type": "string", "format": "binary"}} for each in MEDIA_TYPES},
}
FrameOf = Annotated[
    int | None,
    Query(ge=0, description="Of a GIF, WebP or PNG of several: this one alone, as JPEG."),
]


@router.get(
    "/{command_id}/picture",
    response_class=StreamingResponse,
    responses={
        200: PICTURE,
        404: {"model": ProblemDetails, "description": "No such command, or no picture of it."},
    },
)
async def read_picture(
    command_id: CommandIdOf,
    gateway: GatewayOf,
    caller: Reads,
    frame: FrameOf = None,
) -> StreamingResponse:
    """Sends the picture that a prediction is about, where the gateway can read it.

    That is what the command holds itself, or a file below `TRAINMASTER_GATEWAY_DATA_ROOTS`, for as
    long as the command is kept; nothing is fetched from elsewhere.
    """
    sent = await find_message(gateway, caller, command_id)
    return picture_response(await gateway.pictures.picture(sent.type, sent.text, frame))


def picture_response(picture: Picture) -> StreamingResponse:
    """Returns the answer that sends a picture."""
    headers = {**_HEADERS, "Content-Length": str(picture.size)}
    return StreamingResponse(picture.pieces, media_type=picture.media_type, headers=headers)
