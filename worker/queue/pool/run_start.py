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


def is_first(lease: Lease) -> bool:
    """Tells whether a run is the first of its command; a training's polls are later ones."""
    return lease.claims == 1 and lease.state is RowState.ACCEPTED


def _wait(lease: Lease) -> tuple[float | None, str]:
    """Returns since when a command has waited, as far as its row tells, and for what."""
    if is_first(lease):
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
