"""Events about backfills, ready for a stream."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from schemas.enums import CommandType
from schemas.events import event_json

if TYPE_CHECKING:
    from schemas.enums import EventState
    from worker.backfill.plan import Plan


def backfill_event(
    backfill_id: str,
    plan: Plan,
    entry: str,
    state: EventState,
    data: dict[str, Any],
    *,
    told: str = "",
) -> bytes:
    """Returns an event of a backfill; what is told again has the same id."""
    return event_json(
        event_id=f"{entry}/{state}/{told}" if told else f"{entry}/{state}",
        command_type=CommandType.BACKFILL,
        state=state,
        subject=backfill_id,
        time_ms=int(time.time() * 1000),
        data=data,
        context=plan.context,
    )
