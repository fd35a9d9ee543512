"""How trainings are told: what the read model lists, joined with what the ledger has of each."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from schemas.attributes import Timestamp
from schemas.trainings import SEVEN_DAYS_SECONDS
from trainmaster_client.events import ENDS
from worker.gateway.message_json import read_message
from worker.gateway.models import moment
from worker.queue.ledger.models import RowState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from worker.gateway.read_model.rows import CommandRow
    from worker.queue.ledger.command_status import CommandStatus
    from worker.queue.ledger.queries import CommandDetails, LedgerReader

TYPES: Final = ("train", "watch_training")
# The last day of the year 9999: calendars end there.
_LAST_MOMENT_MS: Final = 253_402_214_400_000
_TIMESTAMP: Final[TypeAdapter[datetime]] = TypeAdapter(Timestamp)


@dataclass(frozen=True, slots=True)
class _Told:
    """What the sources say of one training; each may be gone.

    Attributes:
        sent: the command as it was sent.
        result: of its success.
    """

    row: CommandRow
    status: CommandStatus | None
    sent: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def data(self) -> Mapping[str, Any]:
        """The command's data; what was rejected may have anything there."""
        return _object(self.sent.get("data"))

    @property
    def progress(self) -> Mapping[str, Any]:
        """What its handler remembers; empty once it has ended."""
        return {} if self.status is None else self.status.progress or {}

    @property
    def iteration(self) -> Mapping[str, Any]:
        """What the training came to; empty until it is known."""
        return _object(self.result.get("iteration"))

    def text(self, name: str, *sources: Mapping[str, Any]) -> str | None:
        """Returns the first text that has this name."""
        return next((found for each in sources if isinstance(found := each.get(name), str)), None)

    def count(self, name: str) -> int | None:
        """Returns what the training had of something, else what was asked for."""
        found = self.iteration.get(name, self.data.get(name))
        return found if isinstance(found, int) and not isinstance(found, bool) else None


async def details_of(reader: LedgerReader, rows: Sequence[CommandRow]) -> list[CommandDetails]:
    """Returns what the ledger has of trainings, mostly in one round trip.

    What has ended since the list heard of it is asked for once more, with the event of its end.
    """
    found = await reader.details([(row.id, row.entry_id) for row in rows])
    ends = {
        at: each.status.last_event_id
        for at, (row, each) in enumerate(zip(rows, found, strict=True))
        if each.status is not None and each.status.last_event_id not in {None, "", row.entry_id}
    }
    if ends:
        again = await reader.details([(rows[at].id, str(end)) for at, end in ends.items()])
        for at, each in zip(ends, again, strict=True):
            found[at] = each
    return found


def training_item(row: CommandRow, details: CommandDetails, now_ms: int) -> dict[str, Any]:
    """Returns a training as it is answered.

    Args:
        row: of the read model.
        details: of the ledger.
        now_ms: by this machine's clock.
    """
    status, event = details.status, details.event
    text = details.text if details.letter is None else details.letter.text
    result = None if event is None or event.state != RowState.SUCCEEDED else event.result
    told = _Told(row, status, read_message(text) or {}, _object(result))
    ended = _ended_ms(row, status)
    accepted = row.accepted_at_ms or (None if status is None else status.accepted_at_ms) or None
    is_polled = status is not None and status.state == RowState.POLLING
    return {
        "id": row.id,
        "type": row.type,
        # The ledger is ahead of the list by a moment, which counts at the end.
        "state": status.state if status is not None and status.ended else row.state,
        "model_uuid": told.text("model_uuid", told.data),
        "training_uuid": told.text("training_uuid", told.result, told.data)
        or told.text("uuid", told.progress),
        "epochs": told.count("epochs"),
        "batch_size": told.count("batch_size"),
        "accepted_at": moment(accepted),
        "ended_at": moment(ended),
        "elapsed_seconds": _seconds(accepted, ended or now_ms),
        "next_poll_at": moment(status.due_at_ms) if status is not None and is_polled else None,
        "deadline": None if ended else _deadline(told),
        "attempts": row.attempts if status is None else status.attempts,
        "error": _error(row, details, ended),
        "iteration": told.iteration or None,
    }


def _ended_ms(row: CommandRow, status: CommandStatus | None) -> int | None:
    if status is not None:
        return status.ended_at_ms
    # The ledger forgets what has ended, never what has not.
    return row.changed_at_ms if row.state in ENDS else None


def _seconds(since_ms: int | None, until_ms: int) -> float | None:
    return None if since_ms is None else max(0.0, (until_ms - since_ms) / 1000)


def _deadline(told: _Told) -> datetime | None:
    """Returns when the wait for the training ends: by its deadline, or sooner by its timeout."""
    ends = []
    with suppress(ValidationError):
        ends.append(_TIMESTAMP.validate_python(told.sent.get("deadline")).timestamp())
    begun = told.progress.get("at")
    timeout = told.data.get("timeout_seconds", SEVEN_DAYS_SECONDS)
    if told.sent and isinstance(begun, int | float) and isinstance(timeout, int):
        ends.append(begun + timeout)
    return moment(int(min(min(ends) * 1000, _LAST_MOMENT_MS))) if ends else None


def _error(row: CommandRow, details: CommandDetails, ended: int | None) -> dict[str, Any] | None:
    status, event = details.status, details.event
    if event is not None and event.error:
        return dict(event.error)
    if status is not None and status.last_error is not None and ended is None:
        return status.last_error
    if row.error_code is None:
        return None
    return {"code": row.error_code, "message": row.error_message}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
