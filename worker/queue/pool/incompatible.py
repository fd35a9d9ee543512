"""What becomes of a command that this version of the worker can't read, though one accepted it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import structlog
from structlog.contextvars import bound_contextvars

from schemas.enums import EventState
from schemas.events import UNREADABLE_TYPE, ErrorBody, ErrorCode
from schemas.parsing import InvalidCommandError
from schemas.partial import read_partial
from worker.queue.groups import event_source
from worker.queue.ledger.dead_letters import dead_letter_json
from worker.queue.ledger.event_builder import build_event
from worker.queue.ledger.models import Lease, RowState, RunResult
from worker.queue.pool.settling import fields_of
from worker.queue.telemetry import RunEnd, RunOutcome

if TYPE_CHECKING:
    from worker.queue.groups import GroupOwner
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.repair import LostRow

log = structlog.get_logger(__name__)

# During a deploy a newer worker may come by and take the command.
PAUSE_SECONDS: Final = 60.0
# Of the first lease that anybody took on a row.
FIRST_TOKEN: Final = 1


@dataclass(frozen=True, slots=True)
class LastWord:
    """What it takes to tell the end of a command that nobody has read.

    Attributes:
        groups: whoever makes groups.
        now: Redis' time, in seconds.
    """

    ledger: Ledger
    groups: GroupOwner
    now: float


def leave_to_others(lease: Lease) -> RunResult:
    """Returns the finish that lets another worker try; the claim counts as one without an end."""
    log.warning("command.unreadable", **fields_of(lease), claims=lease.claims)
    return RunResult(
        lease, lease.state, lease.attempts, delay_seconds=PAUSE_SECONDS, claims=lease.claims
    )


def give_up(lease: Lease, error: Exception, last: LastWord) -> RunResult:
    """Returns the finish of a command that nobody could read: it has failed."""
    body = ErrorBody(
        code=ErrorCode.INTERNAL_ERROR,
        message=f"no worker can read the command that one accepted: {_said(error)}",
        problems=(list(error.problems) or None) if isinstance(error, InvalidCommandError) else None,
    )
    return _fail(lease, body, last)


def give_up_defective(lease: Lease, error: Exception, last: LastWord) -> RunResult:
    """Returns the finish of a command whose end can't be told or recorded: it has failed.

    It is made of the row alone, for what the command says may be what can't be told.
    """
    body = ErrorBody(
        code=ErrorCode.INTERNAL_ERROR, message=f"its end can't be told: {_said(error)}"
    )
    return _fail(lease, body, last)


def give_up_late(lease: Lease, last: LastWord) -> RunResult:
    """Returns the finish of a command whose deadline passed before anybody could read it."""
    body = ErrorBody(
        code=ErrorCode.DEADLINE_EXCEEDED,
        message="the deadline passed; this version of the worker can't read the command",
    )
    return _fail(lease, body, last)


def give_up_lost(row: LostRow, last: LastWord) -> RunResult:
    """Returns the finish of a command of which Redis has lost a part: it has failed."""
    lease = row.lease
    lost = "text" if not lease.text else "record"
    untouched = lease.state is RowState.ACCEPTED and lease.token == FIRST_TOKEN and not lease.text
    body = ErrorBody(
        code=ErrorCode.DATA_LOSS,
        message=f"the command's {lost} is gone from Redis, so it can't be run: someone deleted it, "
        "or the server evicts keys. "
        + (
            "It was never started: send it again under a new id"
            if untouched
            else "It may have been started: look at the API before you send it again under a new id"
        ),
    )
    return _fail(lease, body, last, row.command_type)


def _said(error: Exception) -> str:
    if isinstance(error, InvalidCommandError):
        return error.message
    return f"a defect of trainmaster: {type(error).__name__}; see the worker's log"


def _fail(
    lease: Lease,
    error: ErrorBody,
    last: LastWord,
    command_type: str = "",
) -> RunResult:
    partial = read_partial(lease.text)
    if command_type and partial.type == UNREADABLE_TYPE:
        partial = replace(partial, type=command_type)
    body = error.model_dump(mode="json", exclude_none=True)
    end = RunEnd(
        lease.command_id,
        partial.type,
        lease.lane,
        RunOutcome.FAILED,
        RowState.FAILED,
        lease.attempts,
        None,
        code=error.code,
        message=error.message,
    )
    # There may be no run whose context a line would carry.
    with bound_contextvars(**fields_of(lease)):
        last.ledger.telemetry.failed(end)
    return RunResult(
        lease,
        RowState.FAILED,
        lease.attempts,
        end=end,
        event=b""
        if lease.group and last.groups.is_silent(partial.context())
        else build_event(
            partial,
            lease.entry_id,
            lease.command_id,
            EventState.FAILED,
            {"error": body, "attempts": lease.attempts},
            source=event_source(last.groups, lease),
            now=last.now,
        ),
        replies=last.ledger.keys.replies(partial.replyto),
        # Its group keeps a member's failure; a dead letter would name a command.
        dead_letter=b""
        if lease.group
        else dead_letter_json(
            command_id=lease.command_id,
            command_type=partial.type,
            error=body,
            text=lease.text,
            at_ms=int(last.now * 1000),
            attempts=lease.attempts,
            history=lease.errors,
            lane=lease.lane,
        ),
        member_result=last.groups.unreadable(lease, body) if lease.group else b"",
        late=error.code is ErrorCode.DEADLINE_EXCEEDED,
        failure=body["code"],
    )
