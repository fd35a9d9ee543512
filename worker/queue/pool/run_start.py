"""What is told of a run that begins."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from worker.queue.ledger.models import RowState
from worker.queue.telemetry import RunStart, SentCommand

if TYPE_CHECKING:
    from worker.queue.ledger.models import Lease
    from worker.queue.run_context import RunContext
    from worker.queue.telemetry import Listener


def hears_runs(telemetry: Listener) -> bool:
    """Tells whether anybody wants to know where runs begin and end."""
    return telemetry.hears("run_begun") or telemetry.hears("run_over")


def waited_seconds(run: RunContext[Any]) -> float | None:
    """Returns how long a command has waited for its first run; None for any later one."""
    if not _is_first(run.lease):
        return None
    return max(0.0, run.now() - run.lease.accepted_at_ms / 1000)


def start_of(run: RunContext[Any]) -> RunStart:
    """Returns what is told of a run that begins now."""
    lease = run.lease
    since, waits_for = _wait(lease)
    return RunStart(
        SentCommand(
            lease.command_id,
            run.command.type,
            lease.lane,
            lease.entry_id,
            lease.group,
            run.command.context(),
        ),
        lease.token,
        lease.attempts,
        lease.claims,
        lease.accepted_at_ms / 1000,
        run.now(),
        since,
        waits_for,
    )


def _is_first(lease: Lease) -> bool:
    return lease.claims == 1 and not lease.attempts


def _wait(lease: Lease) -> tuple[float | None, str]:
    """Returns since when a command has waited, as far as its row tells, and for what."""
    if _is_first(lease) and lease.state is RowState.ACCEPTED:
        return lease.accepted_at_ms / 1000, "slot"
    if lease.state is RowState.RETRYING and lease.claims == 1 and lease.errors:
        return _moment(lease.errors[-1]), "retry"
    return None, ""


def _moment(error: Any) -> float | None:
    try:
        return datetime.fromisoformat(error["at"]).timestamp()
    except (TypeError, ValueError, LookupError):
        # Written by someone else.
        return None
