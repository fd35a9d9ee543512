"""`cancel`: ends another command, as the console does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.enums import CommandType
from schemas.events import ErrorCode
from schemas.results import CancelResult
from worker.errors import PermanentError
from worker.handlers.files import input_error
from worker.handlers.outcome import Outcome, Succeeded
from worker.handlers.registry import handles
from worker.ledger.cancellation import CancelVerdict
from worker.ledger.cancellation import cancel as cancel_command
from worker.ledger.row import RowState

if TYPE_CHECKING:
    from schemas.commands import Cancel
    from worker.handlers.run import Run


@handles(CommandType.CANCEL)
async def cancel(run: Run[Cancel]) -> Outcome:
    """Ends a command unless it has ended; run again, it finds the same."""
    command_id = run.command.data.command_id
    if command_id == run.lease.command_id:
        raise input_error("data.command_id", "a command can't cancel itself")
    ledger = run.around.ledger
    outcome = await cancel_command(
        ledger.redis,
        ledger.keys,
        command_id,
        retention_seconds=ledger.retention_seconds,
        reply_retention_seconds=ledger.reply_retention_seconds,
    )
    match outcome.verdict:
        case CancelVerdict.UNKNOWN_ID:
            raise PermanentError(
                f"no command has the id {command_id!r}: it is not accepted yet, or ended too long "
                "ago",
                code=ErrorCode.NOT_FOUND,
            )
        case CancelVerdict.ITEM_OF_BACKFILL:
            message = "an item of a backfill can't be cancelled; cancel the backfill"
            raise input_error("data.command_id", message)
        case CancelVerdict.CANCELLED:
            found = CancelResult(cancelled=True, state=RowState.CANCELLED)
        case CancelVerdict.CANCELLING:
            found = CancelResult(cancelled=True, state=CancelVerdict.CANCELLING)
        case CancelVerdict.ALREADY_ENDED:
            was_cancelled = outcome.state == RowState.CANCELLED
            found = CancelResult(cancelled=was_cancelled, state=outcome.state)
    return Succeeded(found.model_dump())
