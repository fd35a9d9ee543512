"""Pausing, resuming and cancelling a backfill; each may be said again and changes nothing then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.backfill.leader import ACTIVE, AlreadyLed, Leader
from worker.backfill.status import BY_HAND, BackfillState, Origin
from worker.backfill.store import Transition

if TYPE_CHECKING:
    from worker.backfill.status import BackfillStatus
    from worker.backfill.store import BackfillStore


async def pause(store: BackfillStore, backfill_id: str) -> BackfillStatus | None:
    """Pauses a backfill; returns how it stands then, None where its id is not known."""
    await begin_pause(store, backfill_id)
    return await store.look(backfill_id)


async def begin_pause(store: BackfillStore, backfill_id: str) -> bool:
    """Pauses a backfill; returns whether it ran."""
    turn = Transition({BackfillState.RUNNING}, BackfillState.PAUSED, BY_HAND)
    return (await store.transition(backfill_id, turn))[0]


async def resume(store: BackfillStore, backfill_id: str) -> BackfillStatus | None:
    """Resumes a backfill that is paused; returns how it stands then."""
    await begin_resume(store, backfill_id)
    return await store.look(backfill_id)


async def begin_resume(store: BackfillStore, backfill_id: str) -> bool:
    """Resumes a backfill; returns whether it was paused."""
    turn = Transition({BackfillState.PAUSED}, BackfillState.RUNNING)
    return (await store.transition(backfill_id, turn))[0]


async def begin_cancel(store: BackfillStore, backfill_id: str) -> BackfillState | None:
    """Has nothing more start for a backfill; returns its state before, None where it stays so."""
    turn = Transition(ACTIVE, BackfillState.CANCELLING)
    is_done, before = await store.transition(backfill_id, turn)
    return before if is_done else None


async def cancel_backfill(store: BackfillStore, backfill_id: str) -> BackfillStatus | None:
    """Cancels a backfill; who leads it ends it, or this does where nobody leads."""
    await begin_cancel(store, backfill_id)
    status = await store.look(backfill_id)
    if (
        status is not None
        and status.origin is Origin.CONSOLE
        and status.state is BackfillState.CANCELLING
    ):
        ended = await Leader(store, backfill_id, announces=True).work()
        return status if isinstance(ended, AlreadyLed) else ended
    return status
