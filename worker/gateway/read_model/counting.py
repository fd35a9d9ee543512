"""How many commands fit a filter: exact where that is cheap, else as many as were met in time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.gateway.read_model.queries import (
    LONGEST_LOOK,
    CommandFilter,
    beyond_newest,
    by_change,
    by_id,
    count_up_to,
    exact_values,
    may_stand,
    of_piece,
    piece,
    plan,
    residual,
)
from worker.gateway.read_model.state_counts import count_of

if TYPE_CHECKING:
    import sqlite3

    from worker.gateway.read_model.queries import Condition, Source

# What one count may cost, and how many rows an index alone counts in less than that.
_COUNT_SECONDS: Final = 0.2
_MOST_COUNTED: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Count:
    """How many commands are wanted.

    Attributes:
        is_exact: False where counting took too long: there are as many at least.
    """

    count: int
    is_exact: bool


def count(connection: sqlite3.Connection, wanted: CommandFilter) -> Count:
    """Returns how many commands fit, or how many at least; it blocks.

    Raises:
        sqlite3.Error: the file can't be read.
    """
    if not may_stand(wanted):
        return Count(0, True)
    connection.execute("BEGIN")
    try:
        if wanted == CommandFilter(type=wanted.type, state=wanted.state):
            return Count(count_of(connection, exact_values(wanted)), True)
        # What one index holds in its own order needs no look at the rows.
        for index, few, alone in (
            ("by_id", by_id(wanted), CommandFilter(id_prefix=wanted.id_prefix)),
            (
                "by_change",
                by_change(wanted),
                CommandFilter(since_ms=wanted.since_ms, until_ms=wanted.until_ms),
            ),
        ):
            if few.parts and wanted == alone:
                found = count_up_to(connection, f"commands INDEXED BY {index}", few, _MOST_COUNTED)
                return Count(min(found, _MOST_COUNTED), found <= _MOST_COUNTED)
        return _count_pieces(connection, plan(connection, wanted), residual(wanted))
    finally:
        connection.execute("ROLLBACK")


def _count_pieces(connection: sqlite3.Connection, source: Source, rest: Condition) -> Count:
    give_up_at = time.monotonic() + _COUNT_SECONDS
    total, before = 0, beyond_newest(connection)
    while True:
        begin, seen = piece(connection, source, before, LONGEST_LOOK)
        if seen:
            (fitting,) = connection.execute(
                f"SELECT count(*) FROM commands WHERE {of_piece(source)} AND {rest}",
                (*source.taken.values, before, begin, *rest.values),
            ).fetchone()
            total += fitting
            before = begin
        if seen < LONGEST_LOOK:
            return Count(total, True)
        if time.monotonic() >= give_up_at:
            return Count(total, False)
