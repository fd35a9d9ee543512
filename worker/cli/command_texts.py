"""How one command stands, in words for people and in fields for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from worker.cli.formatting import describe_creation, describe_error, show_duration
from worker.queue.ledger.models import Phase, RowState
from worker.queue.ledger.stored_values import is_error

if TYPE_CHECKING:
    from worker.queue.ledger.command_status import CommandStatus

KNOWN_STATES: Final = frozenset(RowState)


def fields_for_machines(row: CommandStatus) -> dict[str, Any]:
    """Returns what --json tells of a command."""
    told = asdict(row)
    # The one kind of group that there is for people.
    backfill = told.pop("group")
    return {**told, "backfill": backfill, "changed_at_ms": row.changed_at_ms}


def describe_resolution(resolution: dict[str, Any], now: float) -> str:
    """Returns what a person said of a doubt, who it was and how long ago."""
    at_ms = resolution.get("at_ms")
    what = describe_creation(resolution.get("created"))
    since = f", {show_duration(now - at_ms / 1000)} ago" if isinstance(at_ms, int) else ""
    return f"by {resolution.get('by')}: {what}{since}"


def progress_fields(row: CommandStatus, now: float) -> list[tuple[str, str]]:
    """Returns what is known of a change at the API: what it made, or why that is not known."""
    progress = row.progress or {}
    at = progress.get("at")
    age = show_duration(now - at) if isinstance(at, int | float) else ""
    ago, lasting = (f", {age} ago", f", for {age}") if age else ("", "")
    match row.phase:
        case Phase.APPLIED:
            noun = "training" if row.type == "train" else "created"
            return [(noun, f"{progress.get('uuid')}{ago}")]
        case Phase.INTENDED:
            return [("under way", f"a change at the API{lasting}; its answer is not known yet")]
        case Phase.IN_DOUBT:
            error, check = progress.get("error"), progress.get("check")
            why = describe_error(error) if is_error(error) else ""
            if not isinstance(check, str):
                check = "the API is asked whether it happened; nothing is sent again meanwhile"
            return [("in doubt", f"{why}{lasting}"), ("check", check)]
        case _:
            waits = row.state == RowState.POLLING and age
            return [("waiting", f"{age}, for the end of a training")] if waits else []


def describe_next_look(row: CommandStatus, now: float) -> str:
    """Returns when a command is looked at again; empty where it has ended."""
    if row.due_at_ms is None:
        return ""
    rest = row.due_at_ms / 1000 - now
    if row.state == RowState.RUNNING:
        return "running now" if rest > 0 else f"its lease ended {show_duration(-rest)} ago"
    return f"in {show_duration(rest)}" if rest > 0 else f"due for {show_duration(-rest)}"
