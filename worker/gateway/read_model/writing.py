"""Takes events into the model: a batch is one transaction, with the place that it ends at."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainmaster_client.events import ENDS, event_of
from worker.gateway.read_model.database import (
    COLUMNS,
    OutdatedError,
    current_file,
    is_damage,
    make_file,
    open_writer,
)
from worker.gateway.read_model.minutes import (
    MinuteTally,
    forget_minutes,
    is_first_rejection,
)
from worker.gateway.read_model.rows import CommandRow, KeptRow, fold, is_rejection_beside
from worker.gateway.read_model.state_counts import move_counts
from worker.gateway.read_model.text_index import change_texts
from worker.gateway.read_model.timeline import MOST_LATER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from worker.queue.ledger.streams import StreamEntry

FIRST: Final = "0-0"
# SQLite takes at least so many parameters in one statement.
_PARAMETERS: Final = 900
# Deleted together; more would keep batches waiting.
_FORGOTTEN: Final = 2_000

_INSERT: Final = f"INSERT INTO commands ({COLUMNS}, later) VALUES ({', '.join('?' * 15)})"
_DELETE: Final = "DELETE FROM commands WHERE seq = ?"
# Only what an event may change: an index whose column is set is written, whatever is set.
_UPDATE: Final = (
    "UPDATE commands SET state = ?, attempts = ?, changed_at_ms = ?, error_code = ?, "
    f"error_message = ?, entry_id = ?, later = substr(later || ?, -{MOST_LATER}) WHERE seq = ?"
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a model has come.

    Attributes:
        epoch: of the ledger; empty where no worker has run yet.
        cursor: the entry of the last event that was taken in.
        added: how many events the stream had been given up to that one.
    """

    epoch: str = ""
    cursor: str = FIRST
    added: int = 0


class Writer:
    """The one writer of a model; its methods block, and are called one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Path | None = None
        self._connection: sqlite3.Connection | None = None

    def open(self) -> Progress | None:
        """Opens the model; returns how far it has come, None where it has to be begun.

        Raises:
            sqlite3.Error, OSError: the disk is at fault.
        """
        self.close()
        file = current_file(self._folder)
        if file is None:
            return None
        try:
            self._connection = open_writer(file)
            found = read_progress(self._connection)
        except OutdatedError:
            return None
        except sqlite3.Error as exc:
            if not is_damage(exc):
                raise
            return None
        self._file = file
        return found

    def begin(self, progress: Progress) -> None:
        """Makes the model anew, empty.

        Raises:
            sqlite3.Error, OSError: the disk is at fault.
        """
        self.close()
        self._file, self._connection = make_file(self._folder)
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO progress VALUES (1, ?, ?, ?)",
                (progress.epoch, progress.cursor, progress.added),
            )

    def is_valid(self) -> bool:
        """Returns whether readers still read this file."""
        return self._file is not None and current_file(self._folder) == self._file

    def take(self, entries: Sequence[StreamEntry], progress: Progress) -> None:
        """Takes entries of the stream in.

        Args:
            entries: in their order; what is no event, or is about a backfill's item, is left out.
            progress: after them.

        Raises:
            sqlite3.Error: nothing was taken in.
        """
        events = [event for each in entries if (event := event_of(*each)) is not None]
        events = [event for event in events if not event.is_of_item]
        with self._transaction() as connection:
            known = _rows(connection, {event.command_id for event in events})
            rows = dict(known)
            minutes = MinuteTally()
            for event in events:
                old = rows.get(event.command_id)
                if old is not None and is_rejection_beside(old, event):
                    alone = fold(None, event)
                    if is_first_rejection(connection, alone.origin, alone.row.changed_at_ms):
                        minutes.count(alone)
                    continue
                new = fold(old, event)
                if new is not old:
                    rows[event.command_id] = new
                    minutes.count(new)
            _write(connection, known, rows)
            minutes.write(connection)
            connection.execute(
                "UPDATE progress SET epoch = ?, cursor = ?, added = ?",
                (progress.epoch, progress.cursor, progress.added),
            )

    def forget(self, before_ms: int) -> int:
        """Deletes a part of what ended before a time; returns how many commands."""
        with self._transaction() as connection:
            gone = connection.execute(
                "SELECT seq, id, error_message, type, state FROM commands INDEXED BY by_change "
                f"WHERE changed_at_ms < ? AND state IN ({', '.join('?' * len(ENDS))}) LIMIT ?",
                (before_ms, *ENDS, _FORGOTTEN),
            ).fetchall()
            change_texts(connection, ((*texts,) for *texts, _, _ in gone), ())
            move_counts(connection, ((kind, state) for *_, kind, state in gone), ())
            connection.executemany(_DELETE, ((seq,) for seq, *_ in gone))
            forget_minutes(connection, before_ms)
        return len(gone)

    def close(self) -> None:
        """Closes the file."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._file = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        if connection is None:
            raise sqlite3.ProgrammingError("the model is not open")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def read_progress(connection: sqlite3.Connection) -> Progress | None:
    """Returns how far a model has come, None where nobody has begun it."""
    found = connection.execute("SELECT epoch, cursor, added FROM progress").fetchone()
    return None if found is None else Progress(*found)


def kept_row(values: Sequence[object]) -> KeptRow:
    """Returns what stands in the columns `COLUMNS`."""
    seq, *shown, first_ms, first_number, origin = values
    return KeptRow(CommandRow(*shown), origin, (first_ms, first_number), seq)  # type: ignore[arg-type]


def _rows(connection: sqlite3.Connection, ids: set[str]) -> dict[str, KeptRow]:
    found: dict[str, KeptRow] = {}
    asked = list(ids)
    for start in range(0, len(asked), _PARAMETERS):
        page = asked[start : start + _PARAMETERS]
        marks = ", ".join("?" * len(page))
        for values in connection.execute(
            f"SELECT {COLUMNS} FROM commands WHERE id IN ({marks})", page
        ):
            kept = kept_row(values)
            found[kept.row.id] = kept
    return found


def _write(
    connection: sqlite3.Connection, known: dict[str, KeptRow], rows: dict[str, KeptRow]
) -> None:
    changed = [row for command_id, row in rows.items() if known.get(command_id) is not row]
    fresh = sorted((row for row in changed if not row.seq), key=lambda row: row.first_entry)
    (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM commands").fetchone()
    fresh = [row._replace(seq=seq) for seq, row in enumerate(fresh, start=last + 1)]
    replaced = [known[row.row.id] for row in fresh if row.row.id in known]
    kept = [row for row in changed if row.seq]
    connection.executemany(_DELETE, ((row.seq,) for row in replaced))
    connection.executemany(_UPDATE, map(_update_of, kept))
    connection.executemany(_INSERT, map(_insert_of, fresh))
    retold = [row for row in kept if row.texts != known[row.row.id].texts]
    gone = [*replaced, *(known[row.row.id] for row in retold)]
    change_texts(connection, (row.texts for row in gone), (row.texts for row in (*fresh, *retold)))
    changed_from = (known[row.row.id] for row in changed if row.row.id in known)
    move_counts(
        connection,
        ((kept.row.type, kept.row.state) for kept in changed_from),
        ((kept.row.type, kept.row.state) for kept in changed),
    )


def _insert_of(kept: KeptRow) -> tuple[object, ...]:
    row = kept.row
    return (
        *(kept.seq, row.id, row.type, row.state, row.correlation_id, row.attempts),
        *(row.accepted_at_ms, row.changed_at_ms, row.error_code, row.error_message),
        *(row.entry_id, *kept.first_entry, kept.origin, kept.later),
    )


def _update_of(kept: KeptRow) -> tuple[object, ...]:
    row = kept.row
    return (
        *(row.state, row.attempts, row.changed_at_ms, row.error_code, row.error_message),
        *(row.entry_id, kept.later, kept.seq),
    )
