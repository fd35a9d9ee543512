"""How backfills are told: what a worker has begun, or what the command of one tells."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

from fastapi import Depends, Path
from pydantic import BaseModel, Field

from schemas.attributes import is_valid_id
from worker.backfill.errors import UnreadableBackfillError
from worker.gateway.models import moment
from worker.gateway.problems import ProblemError
from worker.gateway.requests.text import name_in_address
from worker.queue.ledger.command_status import UNREADABLE
from worker.redaction import redact_url

if TYPE_CHECKING:
    from worker.backfill.status import BackfillStatus
    from worker.backfill.store import BackfillStore
    from worker.gateway.access.callers import Caller
    from worker.gateway.gateway import Gateway


BACKFILL: Final = "backfill"


class BackfillView(BaseModel):
    """How a backfill stands."""

    id: str
    state: str = Field(
        description="`submitted` and `accepted` until a worker has begun it, then `running`, "
        "`paused`, `cancelling`, `succeeded`, `failed` or `cancelled`; `unreadable` where someone "
        "wrote over it in Redis."
    )
    reason: str | None = Field(None, description="Why it is paused or failed.")
    begun_at: datetime | None = None
    ended_at: datetime | None = None
    total: int | None = Field(None, description="Items, as far as known.")
    read: int = 0
    succeeded: int = 0
    failed: int = 0
    failures: dict[str, int] = Field(default={}, description="How many by their error's code.")
    open: int = Field(0, description="Items that wait or run.")
    dropped: int = Field(0, description="Items that a cancellation kept from running.")
    passed_over: dict[str, int] = Field(
        default={}, description="What a folder held besides items, by its kind."
    )
    led: bool = Field(False, description="Whether a process leads it at the moment.")
    origin: str = Field("queue", description="`queue`, or `console`: its person leads it.")
    source: str | None = None
    output: str | None = Field(None, description="Where its results lie.")
    result: dict[str, Any] | None = Field(None, description="What it came to.")


async def _read_id(backfill_id: Annotated[str, Path(description="Percent-encoded.")]) -> str:
    return name_in_address(backfill_id)


BackfillIdOf = Annotated[str, Depends(_read_id)]


async def begun(gateway: Gateway, caller: Caller, backfill_id: str) -> BackfillStatus:
    """Returns how a backfill stands that somebody has begun.

    Raises:
        ProblemError: there is none, or the caller may not know of it.
    """
    try:
        status = await gateway.backfills.look(backfill_id) if caller.sees(BACKFILL) else None
    except UnreadableBackfillError as exc:
        raise unreadable(exc) from exc
    if status is None:
        raise unknown_backfill()
    return status


async def view_begun(backfills: BackfillStore, backfill_id: str) -> BackfillView | None:
    """Returns how a backfill stands that somebody has begun, None where there is none."""
    try:
        status = await backfills.look(backfill_id)
    except UnreadableBackfillError as exc:
        return BackfillView(id=backfill_id, state=UNREADABLE, reason=str(exc))
    return None if status is None else view_of(status)


async def look(gateway: Gateway, caller: Caller, backfill_id: str) -> BackfillView:
    """Returns how a backfill stands; of one that no worker has begun, what its command tells."""
    if not caller.sees(BACKFILL) or not is_valid_id(backfill_id):
        raise unknown_backfill()
    view = await view_begun(gateway.backfills, backfill_id)
    if view is not None:
        return view
    row = await gateway.reader.status(backfill_id)
    if row is not None and row.type == BACKFILL:
        reason = (row.last_error or {}).get("message")
        return BackfillView(
            id=backfill_id, state=row.state, reason=reason, ended_at=moment(row.ended_at_ms)
        )
    if row is None and await gateway.submitter.unread_type(backfill_id) == BACKFILL:
        return BackfillView(id=backfill_id, state="submitted")
    raise unknown_backfill()


def view_of(status: BackfillStatus) -> BackfillView:
    """Returns it as the gateway shows it; URLs without their secrets."""
    return BackfillView(
        id=status.id,
        state=status.state,
        reason=status.reason or None,
        begun_at=moment(status.begun_ms),
        ended_at=moment(status.ended_ms),
        total=status.total,
        read=status.read,
        succeeded=status.succeeded,
        failed=status.failed,
        failures=status.failures,
        open=status.open,
        dropped=status.dropped,
        passed_over=status.passed_over,
        led=status.led_ms > 0,
        origin=status.origin,
        source=redact_url(status.plan.source.location),
        output=redact_url(status.plan.output),
        result=status.result,
    )


def location_of(backfill_id: str) -> str:
    """Returns its address."""
    return f"/v1/backfills/{quote(backfill_id, safe='')}"


def unreadable(error: UnreadableBackfillError) -> ProblemError:
    """Returns what is answered where someone wrote over a backfill in Redis."""
    return ProblemError(409, "unreadable_backfill", str(error))


def unknown_backfill() -> ProblemError:
    """Returns what whoever may not know of a backfill is told, too."""
    return ProblemError(
        404,
        "unknown_backfill",
        "No backfill has this id: it was never started, no worker has begun it yet, or it ended "
        "too long ago.",
    )
