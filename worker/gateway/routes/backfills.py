"""`/v1/backfills`: started with an uploaded manifest, steered, and their results downloaded."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response, StreamingResponse

from schemas.attributes import CommandId, ReplyTo, Text, is_valid_id
from schemas.backfills import ItemField
from schemas.enums import PartFormat, PredictTask, SourceFormat
from schemas.json_text import encode_json
from schemas.parameters import Count, Share
from schemas.parsing import InvalidCommandError
from worker.acts import Act
from worker.backfill.finalization import FAILURES
from worker.backfill.output import Output, folder_name
from worker.backfill.status import BackfillStatus, Origin
from worker.backfill.transitions import begin_cancel, begin_pause, begin_resume
from worker.gateway.access import Caller, Operates, Reads, Submits
from worker.gateway.bodies import (
    JSON,
    NDJSON,
    Bounds,
    idempotency_key,
    media_type_of,
    trace_of,
)
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.models import Accepted, moment
from worker.gateway.problems import (
    ProblemDetails,
    ProblemError,
    conflict,
    json_response,
    status_of,
)
from worker.gateway.results import list_results, media_type, open_result, unreadable
from worker.gateway.submission import Submission, SubmitStatus, prepare
from worker.gateway.uploads import (
    check_uploads,
    spooled_body,
    spooled_file,
    store,
    upload_name,
)
from worker.queue.ledger.cancellation import CancelStatus, cancel
from worker.redaction import redact_url

if TYPE_CHECKING:
    from worker.gateway.uploads import Spooled

router: Final = APIRouter(prefix="/v1/backfills", tags=["backfills"])

TYPE: Final = "backfill"
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


class BackfillView(BaseModel):
    """How a backfill stands."""

    id: str
    state: str = Field(
        description="`submitted` and `accepted` until a worker has begun it, then `running`, "
        "`paused`, `cancelling`, `succeeded`, `failed` or `cancelled`."
    )
    reason: str | None = Field(None, description="Why it is paused or failed.")
    begun_at: datetime | None = None
    ended_at: datetime | None = None
    total: int | None = Field(None, description="Items, as far as known.")
    read: int = 0
    succeeded: int = 0
    failed: int = 0
    failures: dict[str, int] = Field(default={}, description="How many by their error's code.")
    open: int = Field(0, description="Items that wait or run.")
    dropped: int = Field(0, description="Items that a cancellation kept from running.")
    passed_over: dict[str, int] = Field(
        default={}, description="What a folder held besides items, by its kind."
    )
    led: bool = Field(False, description="Whether a process leads it at the moment.")
    origin: str = Field("queue", description="`queue`, or `console`: its person leads it.")
    source: str | None = None
    output: str | None = Field(None, description="Where its results lie.")
    result: dict[str, Any] | None = Field(None, description="What it came to.")


class BackfillPage(BaseModel):
    """A page of backfills, those begun last first."""

    items: list[BackfillView]
    next_cursor: str | None = Field(description="Of the next page, null at the end.")


class ResultFileView(BaseModel):
    """A file of results."""

    name: str
    bytes: int | None
    type: str
    location: str


class ResultList(BaseModel):
    """The files of a backfill's results that are there by now."""

    items: list[ResultFileView]


class PageQuery(BaseModel):
    """Which page of a list."""

    model_config = {"extra": "forbid"}

    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, description="Of the page before.")


async def _read_id(backfill_id: Annotated[str, Path(description="Percent-encoded.")]) -> str:
    return unquote(backfill_id, errors="replace")


BackfillIdOf = Annotated[str, Depends(_read_id)]

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
        "type": TYPE,
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
        answer = await _start(gateway, caller, command, spooled, uploads)
    return json_response(answer, 202, Location=answer["location"])


@router.get("")
async def list_backfills(
    gateway: GatewayOf, caller: Reads, query: Annotated[PageQuery, Query()]
) -> BackfillPage:
    """Lists backfills that were begun, the last one first."""
    if not caller.sees(TYPE):
        return BackfillPage(items=[], next_cursor=None)
    backfills = gateway.backfills
    ids = (await backfills.ids())[::-1]
    if query.cursor is not None:
        if query.cursor not in ids:
            raise ProblemError(
                422, "invalid_cursor", "The cursor is none of this list, or what it names is gone."
            )
        ids = ids[ids.index(query.cursor) + 1 :]
    found = [await backfills.look(backfill_id) for backfill_id in ids[: query.limit]]
    return BackfillPage(
        items=[_view(status) for status in found if status is not None],
        next_cursor=ids[query.limit - 1] if len(ids) > query.limit else None,
    )


@router.get("/{backfill_id}")
async def read_backfill(
    backfill_id: BackfillIdOf, gateway: GatewayOf, caller: Reads
) -> BackfillView:
    """Tells how far a backfill is."""
    return await _look(gateway, caller, backfill_id)


@router.post("/{backfill_id}/pause")
async def pause_backfill(
    backfill_id: BackfillIdOf, gateway: GatewayOf, caller: Operates
) -> BackfillView:
    """Starts no further items until it is resumed; running ones finish."""
    await begun(gateway, caller, backfill_id)
    async with gateway.recorded(caller, Act.BACKFILL_PAUSE, backfill_id) as entry:
        if await begin_pause(gateway.backfills, backfill_id):
            entry.done()
    return await _look(gateway, caller, backfill_id)


@router.post("/{backfill_id}/resume")
async def resume_backfill(
    backfill_id: BackfillIdOf, gateway: GatewayOf, caller: Operates
) -> BackfillView:
    """Resumes a backfill that is paused.

    A worker goes on with it; one whose `origin` is `console` needs `trainmaster backfill resume`
    there, if its process has ended.
    """
    await begun(gateway, caller, backfill_id)
    async with gateway.recorded(caller, Act.BACKFILL_RESUME, backfill_id) as entry:
        if await begin_resume(gateway.backfills, backfill_id):
            entry.done()
    return await _look(gateway, caller, backfill_id)


@router.post(
    "/{backfill_id}/cancel",
    responses={409: {"model": ProblemDetails, "description": "Its console has to do that."}},
)
async def stop_backfill(
    backfill_id: BackfillIdOf, gateway: GatewayOf, caller: Operates
) -> BackfillView:
    """Cancels a backfill: waiting items never run; the results so far are written."""
    await _look(gateway, caller, backfill_id)
    status = await gateway.backfills.look(backfill_id)
    if status is None:
        settings = gateway.settings
        async with gateway.recorded(caller, Act.BACKFILL_CANCEL, backfill_id) as entry:
            outcome = await cancel(
                gateway.redis,
                gateway.keys,
                backfill_id,
                retention_seconds=settings.id_retention_seconds,
                reply_retention_seconds=settings.event_retention_seconds,
            )
            if outcome.is_done:
                entry.done(state_before=outcome.state)
        if outcome.status is CancelStatus.UNKNOWN_ID:
            raise ProblemError(
                409, "not_read_yet", "No worker has read it yet; cancel it once one has."
            )
        return await _look(gateway, caller, backfill_id)
    if status.origin is Origin.CONSOLE and not status.led_ms and not status.state.ended:
        raise ProblemError(
            409,
            "no_leader",
            "No process leads it, and its results lie where it was begun: cancel it there by "
            "`trainmaster backfill cancel`.",
        )
    # Who leads it ends it: this process need not reach its results.
    async with gateway.recorded(caller, Act.BACKFILL_CANCEL, backfill_id) as entry:
        before = await begin_cancel(gateway.backfills, backfill_id)
        if before is not None:
            entry.done(state_before=before)
    return await _look(gateway, caller, backfill_id)


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
    backfill_id: BackfillIdOf, gateway: GatewayOf, caller: Operates
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
            answer = await _start(gateway, caller, command, spooled, uploads)
            if not answer["duplicate"]:
                entry.done(new_id=command["id"], failed=status.failed)
    except (OSError, ImportError) as exc:
        raise unreadable(exc) from exc
    return json_response(answer, 202, Location=answer["location"])


@router.get("/{backfill_id}/results", responses={502: {"model": ProblemDetails}})
async def list_backfill_results(
    backfill_id: BackfillIdOf, gateway: GatewayOf, caller: Reads
) -> ResultList:
    """Lists the files of results that are there by now; parts come while it runs."""
    status = await begun(gateway, caller, backfill_id)
    base = f"{_location(backfill_id)}/results"
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
    name = unquote(file, errors="replace")
    pieces, size = await open_result(Output(status.plan.output), name)
    shown = f"{folder_name(backfill_id)}-{name.rpartition('/')[2]}"
    headers = {"Content-Disposition": f'attachment; filename="{shown}"'}
    if size is not None:
        headers["Content-Length"] = str(size)
    return StreamingResponse(pieces, media_type=media_type(name), headers=headers)


def _prepared(caller: Caller, command: dict[str, Any], source: str) -> Submission:
    raw = encode_json(command | {"data": command["data"] | {"source": source}})
    try:
        submission = prepare(raw)
    except InvalidCommandError as exc:
        raise ProblemError(status_of(exc), exc.code, exc.message, problems=exc.problems) from None
    caller.check_command(submission.command)
    return submission


async def _start(
    gateway: Gateway, caller: Caller, command: dict[str, Any], spooled: Spooled, uploads: str
) -> dict[str, Any]:
    suffix = str(command["data"]["format"])
    name = upload_name(command["id"], spooled, suffix)
    submission = _prepared(caller, command, Output(uploads).path(name))
    await store(spooled, uploads, name)
    status = await gateway.submitter.submit_one(submission)
    if status is SubmitStatus.CONFLICT:
        raise conflict(submission.command_id)
    location = _location(submission.command_id)
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
        "type": TYPE,
        "id": f"{status.id}.retry",
        "causationid": status.id,
        "data": data,
    }


async def begun(gateway: Gateway, caller: Caller, backfill_id: str) -> BackfillStatus:
    """Returns how a backfill stands that somebody has begun.

    Raises:
        ProblemError: there is none, or the caller may not know of it.
    """
    status = await gateway.backfills.look(backfill_id) if caller.sees(TYPE) else None
    if status is None:
        raise _unknown()
    return status


async def _look(gateway: Gateway, caller: Caller, backfill_id: str) -> BackfillView:
    """Returns how a backfill stands; of one that no worker has begun, what its command tells."""
    if not caller.sees(TYPE) or not is_valid_id(backfill_id):
        raise _unknown()
    status = await gateway.backfills.look(backfill_id)
    if status is not None:
        return _view(status)
    row = await gateway.reader.status(backfill_id)
    if row is not None and row.type == TYPE:
        reason = (row.last_error or {}).get("message")
        return BackfillView(
            id=backfill_id, state=row.state, reason=reason, ended_at=moment(row.ended_at_ms)
        )
    if row is None and await gateway.submitter.unread_type(backfill_id) == TYPE:
        return BackfillView(id=backfill_id, state="submitted")
    raise _unknown()


def _view(status: BackfillStatus) -> BackfillView:
    return BackfillView(
        id=status.id,
        state=status.state,
        reason=status.reason or None,
        begun_at=moment(status.begun_ms),
        ended_at=moment(status.ended_ms),
        total=status.total,
        read=status.read,
        succeeded=status.succeeded,
        failed=status.failed,
        failures=status.failures,
        open=status.open,
        dropped=status.dropped,
        passed_over=status.passed_over,
        led=status.led_ms > 0,
        origin=status.origin,
        source=redact_url(status.plan.source.location),
        output=redact_url(status.plan.output),
        result=status.result,
    )


def _location(backfill_id: str) -> str:
    return f"/v1/backfills/{quote(backfill_id, safe='')}"


def _unknown() -> ProblemError:
    return ProblemError(
        404,
        "unknown_backfill",
        "No backfill has this id: it was never started, no worker has begun it yet, or it ended "
        "too long ago.",
    )
