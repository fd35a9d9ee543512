"""`POST /v1/commands`: sends one command or many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from schemas.json_text import RawJson, encode_json
from schemas.parsing import InvalidCommandError
from schemas.wording import counted
from worker.gateway.access.callers import Caller, Submits
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.models import Accepted, BatchAnswer
from worker.gateway.problems import (
    ProblemDetails,
    ProblemError,
    conflict,
    invalid_body,
    json_response,
    redis_away,
    status_of,
)
from worker.gateway.requests.bodies import (
    BodyKind,
    Bounds,
    binary_event,
    kind_of,
    read_body,
    read_lines,
    split_array,
    too_many_commands,
    trace_of,
)
from worker.gateway.requests.text import idempotency_key
from worker.gateway.sent_acts import record_sent
from worker.gateway.submission.queue import PAGE
from worker.gateway.submission.submission import Submission, SubmitStatus, prepare
from worker.queue.ledger.connection import PASSING_TROUBLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

router: Final = APIRouter(prefix="/v1/commands", tags=["commands"])


@router.post(
    "",
    status_code=202,
    response_model=Accepted | BatchAnswer,
    responses={
        207: {"model": BatchAnswer, "description": "Some commands were not taken."},
        **{
            status: {"model": ProblemDetails}
            for status in (400, 401, 403, 408, 413, 415, 422, 429, 503)
        },
    },
    openapi_extra={"x-body": "commands"},
)
async def submit_commands(request: Request, gateway: GatewayOf, caller: Submits) -> Response:
    """Sends one command or many; 202 says that Redis has acknowledged each.

    One is a JSON object or a CloudEvent in structured or binary mode; many are a JSON array, a
    batch of CloudEvents, or NDJSON, which is taken as it comes. Of many, the good ones are taken,
    and each other one has its problem in its place.

    A command's `id`, or the header `Idempotency-Key`, makes it safe to send again: the same
    command does nothing more, and another one under the same id is answered 422.
    """
    await gateway.backlog.check()
    kind = kind_of(request)
    key = idempotency_key(request)
    bounds = Bounds(gateway.settings.gateway_body_bytes, gateway.settings.gateway_body_seconds)
    trace = trace_of(request)
    if kind is BodyKind.LINES:
        _refuse_key(key)
        return await _submit_lines(request, bounds, _Batch(gateway, caller, trace))
    body = await read_body(request, bounds)
    if kind is BodyKind.BINARY:
        return await _submit_one(gateway, caller, binary_event(request, body), key, trace)
    items = split_array(body, gateway.settings.gateway_batch_items)
    if items is None:
        if kind is BodyKind.ARRAY:
            raise ProblemError(400, "not_json", "A batch of CloudEvents is a JSON array.")
        return await _submit_one(gateway, caller, body, key, trace)
    _refuse_key(key)
    batch = _Batch(gateway, caller, trace)
    await batch.take(items)
    return batch.answer()


class _Batch:
    """Commands of one request, taken in pages as they come."""

    def __init__(self, gateway: Gateway, caller: Caller, trace: Mapping[str, str]) -> None:
        self._gateway = gateway
        self._caller = caller
        self._trace = trace
        self._count = 0
        # JSON in one piece: as dicts they take ten times as much, and small pieces between lines
        # that come and go keep the memory of these.
        self._items = bytearray()
        self._accepted = 0
        self._is_lost = False
        self._trouble: BaseException | None = None

    async def check_caller(self) -> None:
        """Checks that the caller may still send commands.

        Raises:
            ProblemError: not any more.
        """
        await self._gateway.access.check_still(self._caller)

    async def take(self, raws: Sequence[bytes]) -> None:
        """Submits those that are good.

        Raises:
            ProblemError: there are more than a request may hold.
        """
        most = self._gateway.settings.gateway_batch_items
        if self._count + len(raws) > most:
            raise too_many_commands(most)
        # In pages: others are answered between two, and Redis' trouble leaves no more in doubt.
        for first in range(0, len(raws), PAGE):
            found = [self._try_prepare(raw) for raw in raws[first : first + PAGE]]
            good = [each for each in found if isinstance(each, Submission)]
            told = await self._submit(good)
            added = [
                each
                for each, status in zip(good, told, strict=True)
                if status is SubmitStatus.ADDED
            ]
            await record_sent(self._gateway, self._caller, added)
            statuses = iter(told)
            for each in found:
                if isinstance(each, Submission):
                    self._note(each, next(statuses))
                else:
                    self._add(each)

    def _try_prepare(self, raw: bytes) -> Submission | dict[str, Any]:
        try:
            submission = prepare(raw, is_alone=False, trace=self._trace)
            self._caller.check_command(submission.command)
        except InvalidCommandError as exc:
            return {"id": exc.command_id, "status": status_of(exc), "problem": invalid_body(exc)}
        except ProblemError as exc:
            return {"id": submission.command_id, "status": exc.status, "problem": exc.body()}
        return submission

    def answer(self) -> Response:
        """Returns what became of all."""
        refused = self._count - self._accepted
        items = RawJson(bytes(self._items or b"[") + b"]")
        status = 202 if not refused else 207
        if self._is_lost:
            status = 503
        return json_response(
            {"accepted": self._accepted, "refused": refused, "items": items}, status
        )

    def broken_off(self, problem: ProblemError) -> ProblemError:
        """Returns the problem that ended the request, with what was taken before it."""
        refused = self._count - self._accepted
        return ProblemError(
            problem.status,
            problem.code,
            f"{problem.detail} Before that {counted(self._accepted, 'command')} of this request "
            f"came into the stream, and {refused} did not; send the rest by itself, with ids, so "
            "that none is done twice.",
            headers=problem.headers,
        )

    async def _submit(self, good: Sequence[Submission]) -> Sequence[SubmitStatus | None]:
        if self._is_lost:
            return [None] * len(good)
        try:
            return await self._gateway.submitter.submit(good)
        except PASSING_TROUBLE as exc:
            self._is_lost = True
            self._trouble = exc
            return [None] * len(good)

    def _note(self, submission: Submission, status: SubmitStatus | None) -> None:
        if status is None or status is SubmitStatus.REFUSED:
            problem = redis_away(self._trouble).body()
            self._is_lost = True
        elif status is SubmitStatus.CONFLICT:
            problem = conflict(submission.command_id).body()
        else:
            self._accepted += 1
            self._add(_accepted(submission, status))
            return
        self._add({
            "id": submission.command_id,
            "status": problem["status"],
            "problem": problem,
        })

    def _add(self, item: dict[str, Any]) -> None:
        self._count += 1
        self._items += b"," if self._items else b"["
        self._items += encode_json(item)


async def _submit_lines(request: Request, bounds: Bounds, batch: _Batch) -> Response:
    try:
        async for lines in read_lines(request, bounds):
            # A body may take hours.
            await batch.check_caller()
            await batch.take(lines)
    except ProblemError as exc:
        raise batch.broken_off(exc) from None
    return batch.answer()


async def _submit_one(
    gateway: Gateway, caller: Caller, raw: bytes, key: str | None, trace: Mapping[str, str]
) -> Response:
    try:
        submission = prepare(raw, key, trace=trace)
    except InvalidCommandError as exc:
        raise ProblemError(status_of(exc), exc.code, exc.message, problems=exc.problems) from None
    caller.check_command(submission.command)
    status = await gateway.submitter.submit_one(submission)
    if status is SubmitStatus.CONFLICT:
        raise conflict(submission.command_id)
    if status is SubmitStatus.ADDED:
        await record_sent(gateway, caller, [submission])
    body = _accepted(submission, status)
    return json_response(body, 202, Location=body["location"])


def _accepted(submission: Submission, status: SubmitStatus) -> dict[str, Any]:
    return {
        "id": submission.command_id,
        "status": 202,
        "location": f"/v1/commands/{quote(submission.command_id, safe='')}",
        "duplicate": status is SubmitStatus.KNOWN,
    }


def _refuse_key(key: str | None) -> None:
    if key is not None:
        raise ProblemError(
            400,
            "idempotency_key_for_many",
            "Idempotency-Key names one command; give each of many an id of its own.",
        )
