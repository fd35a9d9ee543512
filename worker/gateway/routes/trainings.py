"""`/v1/trainings`: trainings as they go, and what they came to."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from schemas.suggestions import unknown
from trainmaster_client import State
from worker.gateway.access.callers import Reads
from worker.gateway.gateway import GatewayOf
from worker.gateway.problems import ProblemDetails, ProblemError, json_response
from worker.gateway.read_model.queries import CursorError
from worker.gateway.read_model.readers import ModelUnavailableError
from worker.gateway.routes.command_list import list_unavailable
from worker.gateway.views.trainings import TYPES, details_of, training_item

router: Final = APIRouter(prefix="/v1/trainings", tags=["trainings"])

# Each row may bring a command of a megabyte with it.
MOST: Final = 100


class TrainingRow(BaseModel):
    """A training in a list."""

    id: str = Field(description="Of its command.")
    type: str = Field(description="`train` or `watch_training`.")
    state: str = Field(description="Of the last event.")
    model_uuid: str | None = Field(description="None where the command is no longer kept.")
    training_uuid: str | None = Field(description="None until the API has answered.")
    epochs: int | None
    batch_size: int | None
    accepted_at: datetime | None
    ended_at: datetime | None
    elapsed_seconds: float | None = Field(
        description="Since it was accepted, until its end or now."
    )
    next_poll_at: datetime | None = Field(description="While the training runs.")
    deadline: datetime | None = Field(
        description="When it is waited for no longer: by its deadline or its timeout."
    )
    attempts: int
    error: dict[str, Any] | None = Field(
        description="Of its end; while it runs, of its last attempt."
    )
    iteration: dict[str, Any] | None = Field(
        description="What the training came to, with `loss_log`, while its event is kept."
    )


class TrainingPage(BaseModel):
    """A page of trainings, newest first."""

    items: list[TrainingRow]
    next_cursor: str | None = Field(description="Of the next page, null at the end.")


class TrainingsQuery(BaseModel):
    """Which trainings are wanted."""

    model_config = ConfigDict(extra="forbid")

    state: str | None = Field(None, description="Of the last event.")
    limit: int = Field(50, ge=1, le=MOST)
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


@router.get(
    "",
    response_model=TrainingPage,
    responses={status: {"model": ProblemDetails} for status in (401, 403, 422, 503)},
)
async def list_trainings(
    gateway: GatewayOf, caller: Reads, asked: Annotated[TrainingsQuery, Query()]
) -> Response:
    """Lists trainings, newest first: those that are made here, and those that are watched.

    Which there are is told by the events, a moment behind them; how each stands, by the ledger.
    """
    states = [str(each) for each in State]
    if asked.state is not None and asked.state not in states:
        raise ProblemError(422, "invalid_parameters", unknown("state", asked.state, states))
    types = [each for each in TYPES if caller.sees(each)]
    if not types:
        raise ProblemError(
            403, "forbidden", f"This token is limited, and not to {' or '.join(TYPES)}."
        )
    try:
        last = await gateway.read_model.last_event()
        page = await gateway.read_model.query_types(types, asked.state, asked.cursor, asked.limit)
    except CursorError as exc:
        raise ProblemError(422, "invalid_parameters", f"{exc}.") from None
    except ModelUnavailableError:
        raise list_unavailable(gateway) from None
    details = await details_of(gateway.reader, page.rows)
    now_ms = int(time.time() * 1000)
    pairs = zip(page.rows, details, strict=True)
    return json_response(
        {
            "items": [training_item(row, each, now_ms) for row, each in pairs],
            "next_cursor": page.next_cursor,
        },
        Last_Event_ID=last,
    )
