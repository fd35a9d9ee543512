"""`/v1/backfills/{id}/picture`: what an item of a backfill is about, as a browser shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from worker.backfill.results.output import Output
from worker.gateway.access.callers import Reads
from worker.gateway.files.pictures import no_picture
from worker.gateway.files.results import find_record
from worker.gateway.gateway import GatewayOf
from worker.gateway.problems import ProblemDetails
from worker.gateway.routes.picture import PICTURE, FrameOf, picture_response
from worker.gateway.views.backfills import BackfillIdOf, begun

if TYPE_CHECKING:
    from collections.abc import Mapping

router: Final = APIRouter(prefix="/v1/backfills", tags=["backfills"])


@router.get(
    "/{backfill_id}/picture",
    response_class=StreamingResponse,
    responses={
        200: PICTURE,
        404: {"model": ProblemDetails, "description": "No such item, or no picture of it."},
        502: {"model": ProblemDetails, "description": "The results can't be read."},
    },
)
async def read_item_picture(
    backfill_id: BackfillIdOf,
    gateway: GatewayOf,
    caller: Reads,
    part: Annotated[
        str, Query(description="As the list of results names it, like `parts/part-000000.jsonl`.")
    ],
    item: Annotated[int, Query(ge=0, description="Its number, as its record in the part tells.")],
    frame: FrameOf = None,
) -> StreamingResponse:
    """Sends the picture that an item of a backfill is about, where the gateway can read it.

    The item's record in a part of the results says which: a file below
    `TRAINMASTER_GATEWAY_DATA_ROOTS`, by the rules of `/v1/commands/{command_id}/picture`.
    """
    status = await begun(gateway, caller, backfill_id)
    searching = gateway.pictures.searching
    record = await find_record(searching, Output(status.plan.output), part, item)
    if record is None:
        raise no_picture(f"The part holds no item {item}.")
    return picture_response(await gateway.pictures.picture_of(_data_of(record), frame))


def _data_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what an item was sent with, as far as its record keeps it."""
    told = record.get("input")
    return told if isinstance(told, dict) else record
