"""What a handler returns: the result, or when to look again. Errors are raised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schemas.enums import EventState
    from worker.queue.ledger.models import Phase, Progress, RowState


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The command has done what it asked for.

    Attributes:
        result: JSON with keys in snake_case; parts may be encoded.
        kept_bytes: what the command was sent with is kept for a while after its end, for people who
            look at the result, unless it has more bytes than this.
    """

    result: Any
    kept_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Snooze:
    """Nothing more can be done now; the row is looked at again after `delay_seconds`.

    Attributes:
        state: `polling`, `in_doubt` or `retrying`: where the command stands meanwhile.
        progress: what the next run must know; None leaves it as it is.
        phase: how far its change has come; None leaves it as it is.
        failure: code of the error for whose end it waits.
        event: an event to publish with the reschedule, with its data.
        drop_lock: key of a lock that is no longer needed.
    """

    delay_seconds: float
    state: RowState
    progress: Progress | None = None
    phase: Phase | None = None
    event: tuple[EventState, dict[str, Any]] | None = None
    drop_lock: str = ""
    failure: str = ""


Outcome = Succeeded | Snooze
