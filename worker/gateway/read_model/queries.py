"""Lists and searches of commands, newest first, in pages of bounded work.

Every query takes one index that gives its rows newest first, and looks at so many rows at most
for what the index does not know. Where those are used up before the page is full, the page is short
and its cursor goes on behind the last row that was looked at.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from worker.gateway.read_model.database import COLUMNS
from worker.gateway.read_model.rows import MOST_MESSAGE
from worker.gateway.read_model.text_index import has_text_index
from worker.gateway.read_model.writing import kept_row
from worker.utf8 import is_utf8

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from worker.gateway.read_model.rows import CommandRow, KeptRow

MOST_ROWS: Final = 1_000

# What one page may cost. A page that is short for it says where to go on.
_SECONDS: Final = 0.025
_FIRST_LOOK: Final = 500
LONGEST_LOOK: Final = 4_000
# So many rows are found by an index that is in another order, and sorted; of more, the newest ones
# that fit are soon met in the order of the file.
_MOST_SORTED: Final = 5_000
# By how much the time that an event tells may be behind that of its entry.
_SKEW_MILLISECONDS: Final = 300_000
_SHORTEST_TEXT: Final = 3
# No id and no message that is kept is longer.
_LONGEST_TEXT: Final = MOST_MESSAGE
# More characters in a row are compared with the text itself alone.
_MOST_PARTS: Final = 32
_CURSOR: Final = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)
# Greater than the last character of any text.
_BEYOND: Final = "\U0010ffff"


class CursorError(ValueError):
    """A cursor is not one that a page gave."""

    def __init__(self) -> None:
        super().__init__("the cursor is not one that a page gave: begin without one")


@dataclass(frozen=True, slots=True)
class CommandFilter:
    """Which commands are wanted; None is all.

    Attributes:
        state: of the last event, one of `EventState`.
        id_prefix: what the id begins with.
        since_ms: only what changed at or after this time.
        until_ms: only what changed before this time.
        text: stands somewhere in the id or in the error's message; ASCII letters in either case.
    """

    state: str | None = None
    type: str | None = None
    correlation_id: str | None = None
    id_prefix: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Commands, newest first by the time at which they were first heard of.

    Attributes:
        rows: fewer than were asked for, even none, where a search took too long; more may follow.
        next_cursor: for the next page; None where nothing follows.
    """

    rows: list[CommandRow]
    next_cursor: str | None


@dataclass(slots=True)
class Condition:
    """A part of WHERE with its values."""

    parts: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, part: str, *values: Any) -> None:
        self.parts.append(part)
        self.values += values

    def stated(self) -> Condition:
        """Returns what is left to ask where a table has asked for all of it."""
        return Condition(["1"], self.values)

    def __str__(self) -> str:
        return " AND ".join(self.parts) or "1"


@dataclass(frozen=True, slots=True)
class Source:
    """What gives rows newest first: a table with its index, and what that index takes."""

    table: str
    key: str
    taken: Condition


def find(
    connection: sqlite3.Connection, wanted: CommandFilter, cursor: str | None, limit: int
) -> Page:
    """Returns a page; it blocks.

    Raises:
        CursorError: the cursor is none.
        sqlite3.Error: the file can't be read.
    """
    limit = max(1, min(limit, MOST_ROWS))
    at = None if cursor is None else _entry_of(cursor)
    if not may_stand(wanted):
        return Page([], None)
    connection.execute("BEGIN")
    try:
        before = beyond_newest(connection) if at is None else _seq_of(connection, at)
        if wanted.until_ms is not None:
            # What was first heard of later has changed later, too.
            until = (_fitting(wanted.until_ms) + _SKEW_MILLISECONDS, 0)
            before = min(before, _seq_of(connection, until))
        return _look(connection, plan(connection, wanted), residual(wanted), before, limit)
    finally:
        connection.execute("ROLLBACK")


def find_types(
    connection: sqlite3.Connection,
    types: Sequence[str],
    state: str | None,
    cursor: str | None,
    limit: int,
) -> Page:
    """Returns a page of the commands of some types; it blocks. The page is never short.

    Args:
        connection: to the model.
        types: of the commands, each once.
        state: of the last event; None for all.
        cursor: `next_cursor` of the page before.
        limit: rows of the page.

    Raises:
        CursorError: the cursor is none.
        sqlite3.Error: the file can't be read.
    """
    limit = max(1, min(limit, MOST_ROWS))
    at = None if cursor is None else _entry_of(cursor)
    # The newest of each type, by an index in their order: of these, the newest of all.
    index, more = ("by_type", "") if state is None else ("by_type_and_state", " AND state = ?")
    newest = (
        f"SELECT seq FROM (SELECT seq FROM commands INDEXED BY {index} "
        f"WHERE type = ?{more} AND seq < ? ORDER BY seq DESC LIMIT ?)"
    )
    of_each = " UNION ALL ".join([newest] * len(types))
    connection.execute("BEGIN")
    try:
        before = beyond_newest(connection) if at is None else _seq_of(connection, at)
        values: list[Any] = []
        for each in types:
            values += [each, *([] if state is None else [state]), before, limit + 1]
        found = connection.execute(
            f"SELECT {COLUMNS} FROM commands WHERE seq IN ({of_each}) ORDER BY seq DESC LIMIT ?",
            (*values, limit + 1),
        ).fetchall()
    finally:
        connection.execute("ROLLBACK")
    kept = [kept_row(each) for each in found]
    following = _cursor(kept[limit - 1]) if len(kept) > limit else None
    return Page([each.row for each in kept[:limit]], following)


def _look(
    connection: sqlite3.Connection, source: Source, rest: Condition, before: int, limit: int
) -> Page:
    """Looks at ever more rows until the page is full, all was seen or the time is used up."""
    give_up_at = time.monotonic() + _SECONDS
    found: list[KeptRow] = []
    look = max(_FIRST_LOOK, limit + 1)
    while True:
        begin, seen = piece(connection, source, before, look)
        if not seen:
            return Page([kept.row for kept in found], None)
        found += map(
            kept_row,
            connection.execute(
                f"SELECT {COLUMNS} FROM commands WHERE {of_piece(source)} AND {rest} "
                "ORDER BY seq DESC LIMIT ?",
                (*source.taken.values, before, begin, *rest.values, limit + 1 - len(found)),
            ),
        )
        if len(found) > limit:
            return Page([kept.row for kept in found[:limit]], _cursor(found[limit - 1]))
        if seen < look:
            return Page([kept.row for kept in found], None)
        before = begin
        if time.monotonic() >= give_up_at:
            return Page([kept.row for kept in found], _cursor(_row_at(connection, begin)))
        look = min(4 * look, LONGEST_LOOK)


def piece(
    connection: sqlite3.Connection, source: Source, before: int, most: int
) -> tuple[int, int]:
    """Returns where the newest rows before one begin, and how many there are; 0 at the end."""
    begin, seen = connection.execute(
        f"SELECT min(k), count(*) FROM (SELECT {source.key} AS k FROM {source.table} "
        f"WHERE {source.taken} AND {source.key} < ? ORDER BY {source.key} DESC LIMIT ?)",
        (*source.taken.values, before, most),
    ).fetchone()
    return begin or 0, seen


def of_piece(source: Source) -> str:
    """Returns the condition of a piece; its values are the source's, its end and its begin."""
    return (
        f"seq IN (SELECT {source.key} FROM {source.table} "
        f"WHERE {source.taken} AND {source.key} < ? AND {source.key} >= ?)"
    )


def may_stand(wanted: CommandFilter) -> bool:
    """Returns whether SQLite can be asked for these texts; it holds no others."""
    texts = (wanted.state, wanted.type, wanted.correlation_id, wanted.id_prefix, wanted.text)
    # A pattern ends for SQLite at its first NUL, and what is left of it fits everything.
    return all(
        text is None or (len(text) <= _LONGEST_TEXT and is_utf8(text) and "\0" not in text)
        for text in texts
    )


def plan(connection: sqlite3.Connection, wanted: CommandFilter) -> Source:
    """Returns what leaves the fewest rows to be looked at."""
    if wanted.correlation_id is not None:
        return _indexed("by_correlation", correlation_id=wanted.correlation_id)
    exact = exact_values(wanted)
    of_exact = _indexed(f"by_{'_and_'.join(exact)}", **exact)
    if exact and count_up_to(connection, of_exact.table, of_exact.taken) <= _MOST_SORTED:
        return of_exact
    for index, few in (("by_id", by_id(wanted)), ("by_change", by_change(wanted))):
        table = f"commands INDEXED BY {index}"
        if few.parts and count_up_to(connection, table, few) <= _MOST_SORTED:
            return Source(f"(SELECT seq FROM {table} WHERE {few})", "seq", few.stated())
    for text in (wanted.text, wanted.id_prefix):
        if text is not None and (match := _match(connection, text)):
            return Source("commands_text", "rowid", Condition(["commands_text MATCH ?"], [match]))
    return of_exact if exact else Source("commands", "seq", Condition())


def exact_values(wanted: CommandFilter) -> dict[str, str]:
    """Returns the type and the state that are wanted, as far as they are told."""
    named = {"type": wanted.type, "state": wanted.state}
    return {column: value for column, value in named.items() if value is not None}


def _indexed(index: str, **values: str) -> Source:
    taken = Condition([f"{column} = ?" for column in values], list(values.values()))
    return Source(f"commands INDEXED BY {index}", "seq", taken)


def residual(wanted: CommandFilter) -> Condition:
    """Returns what a row itself is asked, whatever the index knows."""
    rest = Condition()
    for column in ("state", "type", "correlation_id"):
        if (value := getattr(wanted, column)) is not None:
            # The plus keeps SQLite from taking an index of its own choice.
            rest.add(f"+{column} = ?", value)
    for more in (by_id(wanted), by_change(wanted)):
        for part, value in zip(more.parts, more.values, strict=True):
            rest.add(f"+{part}", value)
    if wanted.text is not None:
        pattern = f"%{_escaped(wanted.text)}%"
        rest.add(r"(id LIKE ? ESCAPE '\' OR error_message LIKE ? ESCAPE '\')", pattern, pattern)
    return rest


def by_id(wanted: CommandFilter) -> Condition:
    """Returns what an index of the ids finds."""
    found = Condition()
    if wanted.id_prefix:
        found.add("id >= ?", wanted.id_prefix)
        found.add("id < ?", wanted.id_prefix + _BEYOND)
    return found


def by_change(wanted: CommandFilter) -> Condition:
    """Returns what an index of the times finds."""
    found = Condition()
    if wanted.since_ms is not None:
        found.add("changed_at_ms >= ?", _fitting(wanted.since_ms))
    if wanted.until_ms is not None:
        found.add("changed_at_ms < ?", _fitting(wanted.until_ms))
    return found


def count_up_to(
    connection: sqlite3.Connection, table: str, few: Condition, most: int = _MOST_SORTED
) -> int:
    """Returns how many rows of an index fit; of more than `most`, one more than that."""
    some = f"SELECT 1 FROM {table} WHERE {few} LIMIT {most + 1}"
    (found,) = connection.execute(f"SELECT count(*) FROM ({some})", few.values).fetchone()
    return int(found)


def _match(connection: sqlite3.Connection, text: str) -> str | None:
    """Returns what the index of texts is asked; None where it can't help."""
    if len(text) < _SHORTEST_TEXT or not has_text_index(connection):
        return None
    parts = dict.fromkeys(text[at : at + 3] for at in range(len(text) - 2))
    quoted = (part.replace('"', '""') for part in list(parts)[:_MOST_PARTS])
    return " AND ".join(f'"{part}"' for part in quoted)


def beyond_newest(connection: sqlite3.Connection) -> int:
    """Returns where the next row would stand; 0 where there is none."""
    # Nobody looks for a row where there is none.
    (beyond,) = connection.execute("SELECT coalesce(max(seq) + 1, 0) FROM commands").fetchone()
    return int(beyond)


def _seq_of(connection: sqlite3.Connection, at: tuple[int, int]) -> int:
    """Returns where the rows begin that the cursor's page did not pass.

    A cursor names an entry of the stream, which is the same in a model that was made anew.
    """
    low, high = 0, beyond_newest(connection)
    while low < high:
        middle = (low + high) // 2
        kept = _row_at(connection, middle)
        if kept.first_entry < at:
            low = kept.seq + 1
        else:
            high = middle
    return low


def _row_at(connection: sqlite3.Connection, seq: int) -> KeptRow:
    """Returns the first row from there on; the caller knows that there is one."""
    statement = f"SELECT {COLUMNS} FROM commands WHERE seq >= ? ORDER BY seq LIMIT 1"
    return kept_row(connection.execute(statement, (seq,)).fetchone())


def _cursor(kept: KeptRow) -> str:
    milliseconds, number = kept.first_entry
    return base64.urlsafe_b64encode(f"{milliseconds}-{number}".encode()).decode().rstrip("=")


def _entry_of(cursor: str) -> tuple[int, int]:
    try:
        text = base64.b64decode(f"{cursor}{'=' * (-len(cursor) % 4)}", b"-_", validate=True)
        found = _CURSOR.fullmatch(text.decode())
    except (ValueError, binascii.Error):
        raise CursorError from None
    if found is None:
        raise CursorError
    return int(found[1]), int(found[2])


def _fitting(milliseconds: int) -> int:
    """Returns a number that SQLite can hold."""
    return max(0, min(milliseconds, 2**62))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
