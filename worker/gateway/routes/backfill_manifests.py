"""Starts backfills of manifests: of one that is uploaded, and of what failed in another."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from schemas.attributes import CommandId, ReplyTo, Text
from schemas.backfills import ItemField
from schemas.enums import PartFormat, PredictTask, SourceFormat
from schemas.json_text import encode_json
from schemas.parameters import Count, Share
from schemas.parsing import InvalidCommandError
from worker.acts import Act
from worker.backfill.results.finalization import FAILURES
from worker.backfill.results.output import Output
from worker.backfill.status import BackfillStatus
from worker.gateway.access.callers import Caller, Operates, Submits
from worker.gateway.files.results import unreadable
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.json_bodies import TakesNothing
from worker.gateway.models import Accepted
from worker.gateway.problems import (
    ProblemDetails,
    ProblemError,
    conflict,
    json_response,
    status_of,
)
from worker.gateway.requests.bodies import (
    JSON,
    NDJSON,
    Bounds,
    media_type_of,
    trace_of,
)
from worker.gateway.requests.text import idempotency_key
from worker.gateway.requests.uploads import (
    check_uploads,
    spooled_body,
    spooled_file,
    store,
    upload_name,
)
from worker.gateway.submission.submission import Submission, SubmitStatus, prepare
from worker.gateway.views.backfills import BACKFILL, BackfillIdOf, begun, location_of

if TYPE_CHECKING:
    from worker.gateway.requests.uploads import Spooled

router: Final = APIRouter(prefix="/v1/backfills", tags=["backfills"])

PARQUET: Final = "application/vnd.apache.parquet"
CSV: Final = "text/csv"
# A media type -> what the source is, and the suffix of its file.
MANIFESTS: Final = {
    CSV: SourceFormat.CSV,
    PARQUET: SourceFormat.PARQUET,
    "application/x-parquet": SourceFormat.PARQUET,
    **dict.fromkeys((*NDJSON, JSON), SourceFormat.JSONL),
}
_FIELDS: Final = frozenset(get_args(ItemField))
_ATTRIBUTES: Final = ("correlationid", "replyto")


class StartQuery(BaseModel):
    """What the predictions of a backfill share: the parameters of the command, its source aside."""

    model_config = {"extra": "forbid"}

    task: PredictTask
    project_uuid: uuid.UUID
    project_model_uuid: uuid.UUID = Field(description="The model as attached to the project.")
    training_uuid: uuid.UUID
    id: CommandId | None = Field(None, description="Names the backfill; or Idempotency-Key does.")
    map: list[str] = Field(
        default=[],
        max_length=len(_FIELDS),
        description="`parameter=column`, where the manifest's column has another name than the "
        "parameter of an item; may be said several times.",
    )
    conf_thresh: Share | None = None
    iou_thresh: Share | None = None
    allocation_enabled: bool | None = None
    rdp_thresh: float | None = Field(None, ge=0, le=0.01)
    max_failures: Count | None = Field(None, description="So many failed items pause it.")
    max_failure_share: Share | None = Field(None, description="A larger share pauses it.")
    part_format: PartFormat = PartFormat.JSONL
    item_events: bool = Field(False, description="Whether the end of each item is an event.")
    correlationid: Text | None = None
    replyto: ReplyTo | None = None

    def data(self) -> dict[str, Any]:
        """Returns the command's data without its source.

        Raises:
            ProblemError: columns are mapped wrongly.
        """
        told = self.model_dump(mode="json", exclude={"id", "map", *_ATTRIBUTES}, exclude_none=True)
        columns: dict[str, str] = {}
        for each in self.map:
            name, _, column = each.partition("=")
            if name not in _FIELDS or not column or name in columns:
                raise ProblemError(
                    422,
                    "invalid_parameters",
                    f"map: {name!r} must be one of {', '.join(sorted(_FIELDS))}, once, like "
                    "map=data_path=file.",
                )
            columns[name] = column
        return told | ({"columns": columns} if columns else {})


class Started(Accepted):
    """A backfill whose command Redis has acknowledged."""

    bytes: int = Field(description="Of the manifest.")


_MANIFEST: Final = {
    "requestBody": {
        "required": True,
        "description": "The manifest: one row for each item.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary", "minLength": 1}}
            for kind in (CSV, NDJSON[0], PARQUET)
        },
    },
    "x-idempotent": True,
}


@router.post(
    "",
    status_code=202,
    response_model=Started,
    responses={501: {"model": ProblemDetails, "description": "There is no place for uploads."}},
    openapi_extra=_MANIFEST,
)
async def start_backfill(
    request: Request, gateway: GatewayOf, caller: Submits, query: Annotated[StartQuery, Query()]
) -> Response:
    """Starts a backfill of the items that the body names: CSV, JSON lines or Parquet.

    The manifest is kept where workers read it, then the command `backfill` is sent. The same
    manifest under the same id starts nothing more. Paths in it are those of the workers' machines,
    or URLs.
    """
    uploads = check_uploads(gateway.settings.gateway_uploads)
    await gateway.backlog.check()
    kind = MANIFESTS.get(media_type_of(request))
    if kind is None:
        raise ProblemError(
            415,
            "media_type_not_taken",
            f"Send the manifest with a Content-Type of {', '.join(MANIFESTS)}.",
            headers={"Accept-Post": ", ".join(MANIFESTS)},
        )
    key = idempotency_key(request)
    if key is not None and query.id not in {None, key}:
        raise ProblemError(
            422, "invalid_parameters", "id is another than Idempotency-Key; send one of them."
        )
    command = {
        "type": BACKFILL,
        "id": query.id or key or str(uuid.uuid4()),
        **query.model_dump(include=set(_ATTRIBUTES), exclude_none=True),
        **trace_of(request),
        "data": query.data() | {"format": kind},
    }
    # What would be refused is told before a gigabyte is sent.
    _prepared(caller, command, "/")
    settings = gateway.settings
    bounds = Bounds(settings.gateway_upload_bytes, settings.gateway_body_seconds)
    async with spooled_body(request, bounds) as spooled:
        await gateway.access.check_still(caller)
        answer = await _send(gateway, caller, command, spooled, uploads)
    return json_response(answer, 202, Location=answer["location"])


@router.post(
    "/{backfill_id}/retry-failed",
    status_code=202,
    response_model=Started,
    responses={
        409: {"model": ProblemDetails, "description": "It has not ended, or nothing failed."},
        501: {"model": ProblemDetails, "description": "There is no place for uploads."},
        502: {"model": ProblemDetails, "description": "Its results can't be read."},
    },
)
async def retry_failed_items(
    backfill_id: BackfillIdOf, gateway: GatewayOf, caller: Operates, _: TakesNothing
) -> Response:
    """Runs the failed items of an ended backfill again, as the backfill `ID.retry`.

    Its manifest is the file of failures; said again, it starts nothing more.
    """
    status = await begun(gateway, caller, backfill_id)
    uploads = check_uploads(gateway.settings.gateway_uploads)
    if not status.state.ended:
        raise ProblemError(409, "not_ended", "It has not ended; its failures are not all known.")
    if not status.failed:
        raise ProblemError(409, "nothing_failed", "None of its items failed.")
    command = _retry(status)
    _prepared(caller, command, "/")
    try:
        async with (
            spooled_file(Output(status.plan.output), FAILURES) as spooled,
            gateway.recorded(caller, Act.BACKFILL_RETRY_FAILED, backfill_id) as entry,
        ):
            answer = await _send(gateway, caller, command, spooled, uploads)
            if not answer["duplicate"]:
                entry.done(new_id=command["id"], failed=status.failed)
    except (OSError, ImportError) as exc:
        raise unreadable(exc) from exc
    return json_response(answer, 202, Location=answer["location"])


def _prepared(caller: Caller, command: dict[str, Any], source: str) -> Submission:
    raw = encode_json(command | {"data": command["data"] | {"source": source}})
    try:
        submission = prepare(raw)
    except InvalidCommandError as exc:
        raise ProblemError(status_of(exc), exc.code, exc.message, problems=exc.problems) from None
    caller.check_command(submission.command)
    return submission


async def _send(
    gateway: Gateway, caller: Caller, command: dict[str, Any], spooled: Spooled, uploads: str
) -> dict[str, Any]:
    suffix = str(command["data"]["format"])
    name = upload_name(command["id"], spooled, suffix)
    submission = _prepared(caller, command, Output(uploads).path(name))
    await store(spooled, uploads, name)
    status = await gateway.submitter.submit_one(submission)
    if status is SubmitStatus.CONFLICT:
        raise conflict(submission.command_id)
    location = location_of(submission.command_id)
    return {
        "id": submission.command_id,
        "status": 202,
        "location": location,
        "duplicate": status is SubmitStatus.KNOWN,
        "bytes": spooled.size,
    }


def _retry(status: BackfillStatus) -> dict[str, Any]:
    """Returns the command that runs the failures of a backfill again, without its source."""
    plan = status.plan
    data = {
        **plan.common,
        "format": SourceFormat.JSONL,
        "part_format": plan.part_format,
        "item_events": plan.item_events,
    }
    reply_to = {} if plan.reply_to is None else {"replyto": plan.reply_to}
    return {
        **plan.context,
        **reply_to,
        "type": BACKFILL,
        "id": f"{status.id}.retry",
        "causationid": status.id,
        "data": data,
    }
