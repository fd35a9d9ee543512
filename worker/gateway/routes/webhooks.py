"""`/v1/webhooks/{source}`: takes the deliveries of other systems."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from worker.gateway.gateway import GatewayOf
from worker.gateway.problems import ProblemDetails, ProblemError, json_response
from worker.gateway.requests.bodies import Bounds

router: Final = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

# Senders' own limits are below that; GitHub's is the highest.
MAX_BODY_BYTES: Final = 25 * 1024 * 1024

_REFUSALS: Final = {
    HTTPStatus.UNAUTHORIZED: ("unauthorized", "The delivery is refused."),
    HTTPStatus.NOT_FOUND: ("unknown_source", "No source has this name."),
    HTTPStatus.NOT_IMPLEMENTED: ("unknown_version", "This version of the envelope is not taken."),
}


@router.post(
    "/{source}",
    responses={status: {"model": ProblemDetails} for status in (400, 401, 404, 408, 413, 501, 503)},
)
async def receive_delivery(source: str, request: Request, gateway: GatewayOf) -> Response:
    """Takes a delivery; 200 says that it and all that came of it are in Redis.

    What proves its sender is the signature that the source's scheme asks for, not a token. A
    repeat of a delivery does nothing more.
    """
    bounds = Bounds(MAX_BODY_BYTES, gateway.settings.gateway_body_seconds)
    if not gateway.webhooks.takes(source):
        raise _refusal(HTTPStatus.NOT_FOUND)
    async with gateway.body_room.read(request, bounds) as body:
        answer = await gateway.webhooks.receive(source, request.headers.raw, body)
    if answer.status is not HTTPStatus.OK:
        raise _refusal(answer.status)
    return json_response({"delivery": answer.delivery_id, "repeat": answer.is_repeat})


def _refusal(status: HTTPStatus) -> ProblemError:
    code, detail = _REFUSALS[status]
    return ProblemError(status, code, detail)
