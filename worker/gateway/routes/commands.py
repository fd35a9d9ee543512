"""`/v1/commands`: sends commands, tells how far they are, cancels and resolves them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote, unquote
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from schemas.attributes import is_valid_id
from schemas.json_text import RawJson, encode_json
from schemas.parsing import InvalidCommandError
from schemas.wording import counted
from trainmaster_client.events import ENDS
from worker.acts import Act
from worker.encord.creation.resolution import Resolution, ResolveStatus, resolve
from worker.gateway.access import Caller, Operates, Reads, Submits
from worker.gateway.bodies import (
    BodyKind,
    Bounds,
    binary_event,
    idempotency_key,
    kind_of,
    read_body,
    read_lines,
    split_array,
    too_many_commands,
    trace_of,
)
from worker.gateway.event_stream import EventFilter
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.json_bodies import documented, json_body
from worker.gateway.models import (
    Accepted,
    BatchAnswer,
    Cancelled,
    CommandView,
    ResolveBody,
    Resolved,
    moment,
)
from worker.gateway.problems import (
    ProblemDetails,
    ProblemError,
    conflict,
    invalid_body,
    json_response,
    redis_away,
    status_of,
)
from worker.gateway.sent_acts import record_sent
from worker.gateway.submission import Submission, SubmitStatus, prepare
from worker.gateway.submit_queue import PAGE
from worker.integrations.patterns import Patterns
from worker.queue.ledger.cancellation import CancelStatus, cancel
from worker.queue.ledger.connection import PASSING_TROUBLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainmaster_client import Event
    from worker.queue.ledger.queries import CommandStatus

router: Final = APIRouter(prefix="/v1/commands", tags=["commands"])

MAX_WAIT_SECONDS: Final = 60.0
_ENDS: Final = Patterns([f"*.{state}" for state in sorted(ENDS)])


async def _read_id(command_id: Annotated[str, Path(description="Percent-encoded.")]) -> str:
    found = unquote(command_id, errors="replace")
    if not is_valid_id(found):
        raise ProblemError(404, "unknown_id", "No command has such an id.")
    return found


CommandIdOf = Annotated[str, Depends(_read_id)]


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


@router.get("/{command_id}", responses={404: {"model": ProblemDetails}})
async def read_command(
    command_id: CommandIdOf,
    gateway: GatewayOf,
    caller: Reads,
    wait: Annotated[
        float,
        Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the command's end."),
    ] = 0,
) -> CommandView:
    """Tells how far a command is, and its result once it has succeeded."""
    if wait:
        waiting = _await_end(gateway, command_id, wait)
        view = await gateway.access.while_allowed(caller, waiting)
    else:
        view = await _look(gateway, command_id)
    if view is None:
        unread_type = await gateway.submitter.unread_type(command_id)
        view = None if unread_type is None else _unread(command_id, unread_type)
    if view is None:
        raise ProblemError(
            404,
            "unknown_id",
            "No command has this id: it was never sent, was refused, ended too long ago, or no "
            "worker has read it yet.",
        )
    _check_type(caller, view.type)
    return view


@router.post("/{command_id}/cancel", responses={404: {"model": ProblemDetails}})
async def cancel_command(
    command_id: CommandIdOf, gateway: GatewayOf, caller: Operates
) -> Cancelled:
    """Cancels a command that has not ended.

    What was done at the API stays: a running training goes on, because the API can't stop it.
    """
    await _check_type_of(gateway, caller, command_id)
    async with gateway.recorded(caller, Act.COMMAND_CANCEL, command_id) as entry:
        outcome = await cancel(
            gateway.redis,
            gateway.keys,
            command_id,
            retention_seconds=gateway.settings.id_retention_seconds,
            reply_retention_seconds=gateway.settings.event_retention_seconds,
        )
        if outcome.is_done:
            entry.done(state_before=outcome.state)
    if outcome.status is CancelStatus.UNKNOWN_ID:
        raise ProblemError(
            404,
            "unknown_id",
            "No command has this id: no worker has read it yet, or it ended too long ago.",
        )
    return Cancelled(
        id=command_id,
        status=outcome.status,
        state=outcome.state or None,
        leaves=outcome.leaves,
        in_doubt=outcome.in_doubt,
    )


@router.post(
    "/{command_id}/resolve",
    responses={409: {"model": ProblemDetails, "description": "The command is not in doubt."}},
    openapi_extra=documented(ResolveBody),
)
async def resolve_command(
    command_id: CommandIdOf,
    gateway: GatewayOf,
    caller: Operates,
    body: Annotated[ResolveBody, Depends(json_body(ResolveBody))],
) -> Resolved:
    """Settles a command in doubt: says whether its lost call created something.

    Look at Encord first. With `created` the command goes on as if the API had answered; with
    `not_created` its call is sent again, once.
    """
    if (body.created is None) == (not body.not_created):
        raise ProblemError(
            422, "invalid_parameters", "Say either created, a uuid, or not_created: true."
        )
    created = _uuid(body.created)
    await _check_type_of(gateway, caller, command_id)
    async with gateway.recorded(caller, Act.COMMAND_RESOLVE, command_id) as entry:
        outcome = await resolve(
            gateway.redis,
            gateway.keys,
            command_id,
            Resolution(created, caller.name),
            reply_retention_seconds=gateway.settings.event_retention_seconds,
        )
        if outcome.status is ResolveStatus.RESOLVED:
            entry.done(created=created)
    if outcome.status is ResolveStatus.UNKNOWN_ID:
        raise ProblemError(404, "unknown_id", "No command has this id.")
    if outcome.status is not ResolveStatus.RESOLVED:
        raise ProblemError(
            409, outcome.status, f"The command is not in doubt: its state is {outcome.state}."
        )
    return Resolved(id=command_id, status=outcome.status, state=outcome.state or None)


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


async def _await_end(gateway: Gateway, command_id: str, seconds: float) -> CommandView | None:
    """Returns how far a command is once it has ended, or after so long.

    All who wait share the one reader of the events that a process has.
    """
    after = await gateway.events.newest()
    view = await _look(gateway, command_id)
    if view is not None and view.ended_at is not None:
        return view
    ends = EventFilter(types=_ENDS, subject=command_id)
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(seconds),
            aclosing(gateway.events.events(ends, after)) as pieces,
        ):
            async for piece in pieces:
                # A notice, of a gap say, is none of the end.
                if b"\ndata:" in piece and (found := await _look(gateway, command_id)):
                    view = found
                    if view.ended_at is not None:
                        return view
    return await _look(gateway, command_id) or view


async def _look(gateway: Gateway, command_id: str) -> CommandView | None:
    status = await gateway.reader.status(command_id)
    if status is None:
        return None
    event = await gateway.reader.terminal_event(status)
    return _view(status, event)


def _view(status: CommandStatus, event: Event | None) -> CommandView:
    error = status.last_error if event is None else dict(event.error) or None
    return CommandView(
        id=status.id,
        type=status.type,
        state=status.state,
        lane=status.lane,
        attempts=status.attempts,
        accepted_at=moment(status.accepted_at_ms),
        due_at=moment(status.due_at_ms),
        ended_at=moment(status.ended_at_ms),
        error=error,
        result=None if event is None else event.result,
        dataref=None if event is None else event.dataref,
        progress=status.progress,
        resolution=status.resolution,
    )


def _unread(command_id: str, command_type: str) -> CommandView:
    """Returns the view of a command that stands in its stream and that no worker has read."""
    return CommandView(
        id=command_id,
        # A gateway of an earlier version did not note it.
        type=command_type or None,
        state="submitted",
        lane=None,
        attempts=0,
        accepted_at=None,
        due_at=None,
        ended_at=None,
        error=None,
        result=None,
        dataref=None,
        progress=None,
        resolution=None,
    )


async def _check_type_of(gateway: Gateway, caller: Caller, command_id: str) -> None:
    if caller.token is not None and caller.token.types:
        status = await gateway.reader.status(command_id)
        if status is not None:
            _check_type(caller, status.type)


def _check_type(caller: Caller, command_type: str | None) -> None:
    """Refuses what another command's id would tell to a token that is limited to types."""
    if not caller.sees(command_type):
        raise ProblemError(404, "unknown_id", "No command has this id.")


def _uuid(text: str | None) -> UUID | None:
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise ProblemError(422, "invalid_parameters", "created must be a uuid.") from None
