"""`cancel`: ends another command, as the console does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.control import Cancel, CancelResult
from schemas.events import ErrorCode
from worker.errors import PermanentError
from worker.files.file_access import input_error
from worker.queue.ledger.cancellation import CancelStatus
from worker.queue.ledger.cancellation import cancel as cancel_command
from worker.queue.ledger.models import RowState
from worker.queue.outcome import Outcome, Succeeded
from worker.queue.registry import handles

if TYPE_CHECKING:
    from worker.queue.run_context import RunContext


@handles(Cancel)
async def cancel(run: RunContext[Cancel]) -> Outcome:
    """Ends a command unless it has ended; run again, it finds the same."""
    command_id = run.command.data.command_id
    if command_id == run.lease.command_id:
        raise input_error("data.command_id", "a command can't cancel itself")
    ledger = run.dependencies.ledger
    outcome = await cancel_command(
        ledger.redis,
        ledger.keys,
        command_id,
        retention_seconds=ledger.retention_seconds,
        reply_retention_seconds=ledger.reply_retention_seconds,
    )
    match outcome.status:
        case CancelStatus.UNKNOWN_ID:
            raise PermanentError(
                f"no command has the id {command_id!r}: it is not accepted yet, or ended too long "
                "ago",
                code=ErrorCode.NOT_FOUND,
            )
        case CancelStatus.MEMBER_OF_GROUP:
            message = "an item of a backfill can't be cancelled; cancel the backfill"
            raise input_error("data.command_id", message)
        case CancelStatus.CANCELLED:
            found = CancelResult(cancelled=True, state=RowState.CANCELLED)
        case CancelStatus.CANCELLING:
            found = CancelResult(cancelled=True, state=CancelStatus.CANCELLING)
        case CancelStatus.ALREADY_ENDED:
            was_cancelled = outcome.state == RowState.CANCELLED
            found = CancelResult(cancelled=was_cancelled, state=outcome.state)
    return Succeeded(found.model_dump())
