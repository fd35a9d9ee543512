"""`/v1/backfills/{id}/results`: the files of results, listed and downloaded."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from worker.backfill.results.output import Output, folder_name
from worker.gateway.access.callers import Reads
from worker.gateway.files.results import list_results, media_type, open_result
from worker.gateway.gateway import GatewayOf
from worker.gateway.problems import ProblemDetails
from worker.gateway.requests.text import name_in_address
from worker.gateway.views.backfills import BackfillIdOf, begun, location_of

router: Final = APIRouter(prefix="/v1/backfills", tags=["backfills"])


class ResultFileView(BaseModel):
    """A file of results."""

    name: str
    bytes: int | None
    type: str
    location: str


class ResultList(BaseModel):
    """The files of a backfill's results that are there by now."""

    items: list[ResultFileView]


@router.get("/{backfill_id}/results", responses={502: {"model": ProblemDetails}})
async def list_backfill_results(
    backfill_id: BackfillIdOf, gateway: GatewayOf, caller: Reads
) -> ResultList:
    """Lists the files of results that are there by now; parts come while it runs."""
    status = await begun(gateway, caller, backfill_id)
    base = f"{location_of(backfill_id)}/results"
    items = [
        ResultFileView(
            name=each.name,
            bytes=each.size,
            type=media_type(each.name),
            location=f"{base}/{each.name}",
        )
        for each in await list_results(Output(status.plan.output))
    ]
    return ResultList(items=items)


@router.get(
    "/{backfill_id}/results/{file:path}",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The file, as it is.",
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        },
        502: {"model": ProblemDetails, "description": "The results can't be read."},
    },
)
async def download_backfill_results(
    backfill_id: BackfillIdOf,
    file: Annotated[str, Path(description="As the list names it, like `parts/part-000000.jsonl`.")],
    gateway: GatewayOf,
    caller: Reads,
) -> StreamingResponse:
    """Sends a file of results."""
    status = await begun(gateway, caller, backfill_id)
    name = name_in_address(file)
    pieces, size = await open_result(Output(status.plan.output), name)
    shown = f"{folder_name(backfill_id)}-{name.rpartition('/')[2]}"
    headers = {"Content-Disposition": f'attachment; filename="{shown}"'}
    if size is not None:
        headers["Content-Length"] = str(size)
    return StreamingResponse(pieces, media_type=media_type(name), headers=headers)
