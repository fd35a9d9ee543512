"""Events about backfills, ready for a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.backfills import Backfill
from schemas.events import event_json

if TYPE_CHECKING:
    from schemas.enums import EventState
    from worker.backfill.plan import Plan


def backfill_event(  # noqa: PLR0913 - what an event tells
    backfill_id: str,
    plan: Plan,
    entry: str,
    state: EventState,
    data: dict[str, Any],
    *,
    now_ms: int,
    told: str = "",
) -> bytes:
    """Returns an event of a backfill; what is told again has the same id.

    Args:
        backfill_id: of the backfill.
        plan: what it does.
        entry: of its command.
        state: that is told.
        data: of the event.
        now_ms: Redis' time.
        told: what tells events of the same state apart.
    """
    return event_json(
        event_id=f"{entry}/{state}/{told}" if told else f"{entry}/{state}",
        command_type=Backfill.command_type,
        state=state,
        subject=backfill_id,
        time_ms=now_ms,
        data=data,
        context=plan.context,
    )
