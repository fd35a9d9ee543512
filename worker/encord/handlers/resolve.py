"""`resolve`: settles the doubt of another command, as the console does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.control import Resolve, ResolveResult
from schemas.events import ErrorCode
from worker.encord.creation.resolution import Resolution, ResolveStatus
from worker.encord.creation.resolution import resolve as resolve_command
from worker.errors import PermanentError
from worker.queue.outcome import Outcome, Succeeded
from worker.queue.registry import handles

if TYPE_CHECKING:
    from worker.queue.run_context import RunContext


@handles(Resolve)
async def resolve(run: RunContext[Resolve]) -> Outcome:
    """Settles a doubt, once; run again, it finds that there is none any more."""
    data = run.command.data
    ledger = run.dependencies.ledger
    by = data.by or f"the command {run.lease.command_id}"
    outcome = await resolve_command(
        ledger.redis,
        ledger.keys,
        data.command_id,
        Resolution(data.created, by),
        reply_retention_seconds=ledger.reply_retention_seconds,
    )
    if outcome.status is ResolveStatus.UNKNOWN_ID:
        raise PermanentError(
            f"no command has the id {data.command_id!r}: it is not accepted yet, or ended too "
            "long ago",
            code=ErrorCode.NOT_FOUND,
        )
    resolved = outcome.status is ResolveStatus.RESOLVED
    return Succeeded(ResolveResult(resolved=resolved, state=outcome.state).model_dump())
