"""A row as people see it: whatever stands there, as far as it can be read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from worker.queue.ledger.keys import shown_id
from worker.queue.ledger.models import LANES, Phase, read_phase
from worker.queue.ledger.stored_values import is_error, json_of, moment_of, number_of, text_of
from worker.queue.ledger.streams import is_entry_id
from worker.times import milliseconds_of

UNREADABLE: Final = "unreadable"
"""The state that is shown of a row without one."""


@dataclass(frozen=True, slots=True)
class CommandStatus:
    """A row, for people.

    Attributes:
        group: whose member it is, None for a command of its own.
        state: of `RowState`, or as it stands: a newer version may have written one of its own;
            `UNREADABLE` where there is none.
        lane: of `Priority`, or likewise.
        due_at_ms: when someone looks at it again; the lease's end while it runs.
        last_event_id: stream id of the terminal event.
        phase: how far its change has come; None if a newer version wrote it.
        resolution: `created`, `by` and `at_ms`, where a person settled a doubt.
        last_error: of the latest failed attempt, while the command has not ended.
    """

    id: str
    group: str | None
    type: str
    state: str
    lane: str
    attempts: int
    claims: int
    accepted_at_ms: int
    due_at_ms: int | None
    ended_at_ms: int | None
    last_error: dict[str, Any] | None
    progress: dict[str, Any] | None
    last_event_id: str | None
    resolution: dict[str, Any] | None = None
    phase: Phase | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the command, whatever its state is called."""
        return self.ended_at_ms is not None

    @property
    def changed_at_ms(self) -> int:
        """When it ended, else the latest of its acceptance, last error and progress."""
        if self.ended_at_ms is not None:
            return self.ended_at_ms
        error_ms = _milliseconds((self.last_error or {}).get("at"))
        progress_at = (self.progress or {}).get("at")
        progress_ms = moment_of(progress_at * 1000) if isinstance(progress_at, int | float) else 0
        return max(self.accepted_at_ms, error_ms, progress_ms)


def read_status(row_id: str, fields: dict[bytes, bytes], due: float | None) -> CommandStatus:
    """Returns a row as far as it can be read: one that is odd must not hide all others."""
    errors = json_of(fields.get(b"x"), list)
    last_error = errors[-1] if errors else None
    lane = fields.get(b"l", b"")
    return CommandStatus(
        id=shown_id(row_id),
        group=text_of(fields[b"b"]) if b"b" in fields else None,
        type=text_of(fields.get(b"t", b"")),
        state=text_of(fields.get(b"s", b"")) or UNREADABLE,
        lane=LANES.get(lane, text_of(lane)),
        attempts=number_of(fields.get(b"a")),
        claims=number_of(fields.get(b"c")),
        accepted_at_ms=moment_of(number_of(fields.get(b"m"))),
        due_at_ms=None if due is None else moment_of(due),
        ended_at_ms=moment_of(number_of(fields[b"e"])) if b"e" in fields else None,
        last_error=last_error if is_error(last_error) else None,
        progress=json_of(fields.get(b"p"), dict),
        last_event_id=_entry_id(fields.get(b"v")),
        resolution=json_of(fields.get(b"r"), dict),
        phase=read_phase(fields.get(b"h")),
    )


def _entry_id(value: bytes | None) -> str | None:
    """Returns the id of an entry, None where it can be none's: Redis refuses to look for it."""
    found = None if value is None else text_of(value)
    return found if found is None or not found or is_entry_id(found) else None


def _milliseconds(time: object) -> int:
    """Returns an RFC 3339 time as ms since the epoch, 0 where it is none."""
    try:
        return milliseconds_of(datetime.fromisoformat(str(time)))
    except (ValueError, TypeError):
        return 0
