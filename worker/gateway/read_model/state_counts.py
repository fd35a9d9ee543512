"""How many commands there are of each type in each state: kept by the writer, not counted anew."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

STATE_COUNTS_TABLE: Final = """
CREATE TABLE state_counts (
    type TEXT NOT NULL,
    state TEXT NOT NULL,
    commands INTEGER NOT NULL,
    PRIMARY KEY (type, state)
) WITHOUT ROWID;
"""
_ADD: Final = (
    "INSERT INTO state_counts VALUES (?, ?, ?) "
    "ON CONFLICT (type, state) DO UPDATE SET commands = commands + excluded.commands"
)

TypeAndState = tuple[str, str]


def move_counts(
    connection: sqlite3.Connection, gone: Iterable[TypeAndState], new: Iterable[TypeAndState]
) -> None:
    """Has the counts follow what was done to commands in the same transaction.

    Args:
        connection: of the writer.
        gone: of each row that was changed or deleted, as it was.
        new: of each row that was changed or added, as it is.
    """
    moved = Counter(new)
    moved.subtract(gone)
    connection.executemany(_ADD, ((*of, commands) for of, commands in moved.items() if commands))
    if any(commands < 0 for commands in moved.values()):
        # Anybody may send a type that there is not.
        connection.execute("DELETE FROM state_counts WHERE commands = 0")


def count_states(connection: sqlite3.Connection) -> dict[str, int]:
    """Returns how many commands there are in each state."""
    return dict(connection.execute("SELECT state, sum(commands) FROM state_counts GROUP BY state"))


def count_types(connection: sqlite3.Connection) -> dict[TypeAndState, int]:
    """Returns how many commands there are of each type in each state."""
    rows = connection.execute("SELECT type, state, commands FROM state_counts")
    return {(command_type, state): commands for command_type, state, commands in rows}


def count_of(connection: sqlite3.Connection, wanted: Mapping[str, str]) -> int:
    """Returns how many commands there are of a `type`, in a `state`, or both; of none, all."""
    of = " AND ".join(f"{column} = ?" for column in wanted) or "1"
    (found,) = connection.execute(
        f"SELECT coalesce(sum(commands), 0) FROM state_counts WHERE {of}", tuple(wanted.values())
    ).fetchone()
    return int(found)
