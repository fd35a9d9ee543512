"""Which entries of the stream tell of a command: found by its id, read one by one.

A row has the entry of its first event. Those of all others stand in one text, in their order, each
as a space, the milliseconds since the first one, and its number where that is not 0: ` 12 3400-1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import sqlite3

# Of a text that would be longer the beginning is cut off: a command has a thousand events by then.
MOST_LATER: Final = 8_000

Entry = tuple[int, int]
"""An entry's id as two numbers, which can be compared."""


class Timeline(NamedTuple):
    """Where the events of a command stand.

    Attributes:
        entries: their ids, oldest first; an event may stand there twice.
        is_cut: whether there were too many to remember all.
        cursor: the last entry of the stream that the model has taken in.
    """

    command_type: str
    entries: list[str]
    is_cut: bool
    cursor: str


def entry_numbers(entry_id: str) -> Entry:
    """Returns an entry's id as two numbers."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)


def later_entry(first: Entry, entry_id: str) -> str:
    """Returns what the text says of one more entry."""
    milliseconds, number = entry_numbers(entry_id)
    return f" {milliseconds - first[0]}-{number}" if number else f" {milliseconds - first[0]}"


def read_timeline(connection: sqlite3.Connection, command_id: str) -> Timeline | None:
    """Returns where the events of a command stand; None where the model does not know it."""
    found = connection.execute(
        "SELECT type, first_ms, first_number, later, cursor FROM commands, progress WHERE id = ?",
        (command_id,),
    ).fetchone()
    if found is None:
        return None
    command_type, milliseconds, number, later, cursor = found
    parts = later.split()
    is_cut = len(later) >= MOST_LATER
    # Of one that was cut the first part may be the rest of one.
    entries = [_entry_id(milliseconds, part) for part in (parts[1:] if is_cut else parts)]
    return Timeline(command_type, [f"{milliseconds}-{number}", *entries], is_cut, cursor)


def _entry_id(first_ms: int, part: str) -> str:
    milliseconds, _, number = part.partition("-")
    return f"{first_ms + int(milliseconds)}-{number or 0}"
