"""One row per command, and what each event makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from trainmaster_client.events import ENDS, State
from worker.gateway.read_model.timeline import entry_numbers, later_entry
from worker.times import milliseconds_of

if TYPE_CHECKING:
    from trainmaster_client import Event
    from worker.gateway.read_model.text_index import Texts

# An API's message may hold a page of HTML; people and searches need its beginning.
MOST_MESSAGE: Final = 2_000
_MOST_ATTEMPTS: Final = 2**31 - 1


# Tuples, for one of each is made of every event, and a frozen dataclass takes five times as long.
class CommandRow(NamedTuple):
    """What the events have told of a command.

    Attributes:
        state: of its last event: one of `EventState`, or one that a newer worker knows.
        attempts: that failed, or brought the end.
        accepted_at_ms: None where that event is no longer kept, and of what was rejected.
        entry_id: of its last event.
    """

    id: str
    type: str
    state: str
    correlation_id: str | None
    attempts: int
    accepted_at_ms: int | None
    changed_at_ms: int
    error_code: str | None
    error_message: str | None
    entry_id: str


class KeptRow(NamedTuple):
    """A row with what only the model needs.

    Attributes:
        row: as it is shown.
        origin: the message that the command came in. An id may be used again once it is forgotten.
        first_entry: of the first event that told of it; rows are in the order of these.
        seq: where it stands in the file, 0 before it stands there.
        later: the entries of further events, as far as they do not stand in the file yet; see
            `timeline`.
    """

    row: CommandRow
    origin: str
    first_entry: tuple[int, int]
    seq: int = 0
    later: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the command."""
        return self.row.state in ENDS

    @property
    def texts(self) -> Texts:
        """What the index of texts has of it."""
        return self.seq, self.row.id, self.row.error_message


def fold(old: KeptRow | None, event: Event) -> KeptRow:
    """Returns what an event makes of a command's row.

    An event may stand in the stream more than once, and messages may be rejected that have the id
    of a command that goes on.
    """
    origin = event.id.partition("/")[0]
    if old is None:
        return _first(event, origin)
    if old.origin == origin:
        repeated = old.ended or event.state == State.ACCEPTED
        return old if repeated else _next(old, event)
    if is_rejection_beside(old, event):
        return old
    if event.state in {State.ACCEPTED, State.REJECTED} or old.ended:
        return _first(event, origin)
    return _next(old, event)


def is_rejection_beside(old: KeptRow, event: Event) -> bool:
    """Returns whether an event tells of a message that was rejected under another command's id."""
    return (
        event.state == State.REJECTED
        and old.row.state != State.REJECTED
        and event.id.partition("/")[0] != old.origin
    )


def _first(event: Event, origin: str) -> KeptRow:
    code, message = _error(event)
    at_ms = _time_ms(event)
    row = CommandRow(
        id=event.command_id,
        type=event.command_type,
        state=event.state,
        correlation_id=event.correlation_id,
        attempts=_attempts(event, 0),
        accepted_at_ms=at_ms if event.state == State.ACCEPTED else None,
        changed_at_ms=at_ms,
        error_code=code,
        error_message=message,
        entry_id=event.entry_id,
    )
    return KeptRow(row, origin, entry_numbers(event.entry_id))


def _next(old: KeptRow, event: Event) -> KeptRow:
    code, message = _error(event)
    row = old.row._replace(
        state=event.state,
        attempts=_attempts(event, old.row.attempts),
        changed_at_ms=_time_ms(event),
        error_code=code,
        error_message=message,
        entry_id=event.entry_id,
    )
    later = f"{old.later}{later_entry(old.first_entry, event.entry_id)}"
    return old._replace(row=row, later=later)


def _error(event: Event) -> tuple[str | None, str | None]:
    error = event.error
    if not error:
        return None, None
    return str(error.get("code", "")), str(error.get("message", ""))[:MOST_MESSAGE]


def _attempts(event: Event, known: int) -> int:
    told = event.data.get("attempts", event.data.get("attempt", known))
    # Whoever writes events by hand may write what SQLite can't hold.
    return told if isinstance(told, int) and 0 <= told <= _MOST_ATTEMPTS else known


def _time_ms(event: Event) -> int:
    try:
        return milliseconds_of(event.time)
    except (ValueError, TypeError):
        # Whoever writes events by hand; Redis' own time of the entry is as good.
        return entry_numbers(event.entry_id)[0]
