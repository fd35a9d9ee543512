"""What happened in each minute: how many commands began and ended, and how long those took.

Durations are counted in buckets whose bounds grow by a constant factor, so that a minute has a few
hundred numbers at most, whatever happens in it, and any quantile of it is told to within 5 %.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from trainmaster_client.events import State

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from worker.gateway.read_model.rows import KeptRow

MINUTE_MS: Final = 60_000
# Each bucket ends at so much more than the one before: 2 ** (1 / 8).
_PER_DOUBLING: Final = 8
# Of 2 ** 40 ms, which are 34 years; longer ones count as that.
_LAST_BUCKET: Final = 40 * _PER_DOUBLING

MINUTE_TABLES: Final = """
CREATE TABLE minutes (
    minute INTEGER PRIMARY KEY,
    accepted INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    rejected INTEGER NOT NULL
);
CREATE TABLE durations (
    minute INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    commands INTEGER NOT NULL,
    PRIMARY KEY (minute, bucket)
) WITHOUT ROWID;
-- Messages that were rejected under an id whose row is of another message: no row tells that they
-- were counted.
CREATE TABLE rejected_beside (
    origin TEXT PRIMARY KEY,
    minute INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX rejected_by_minute ON rejected_beside (minute);
"""

# In the order of the columns.
COUNTED: Final = (
    State.ACCEPTED,
    State.SUCCEEDED,
    State.FAILED,
    State.CANCELLED,
    State.REJECTED,
)
_COUNTED: Final = frozenset(COUNTED)
_SUMS: Final = ", ".join(f"{state} = {state} + excluded.{state}" for state in COUNTED)
_ADD_MINUTE: Final = (
    f"INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (minute) DO UPDATE SET {_SUMS}"
)
_ADD_DURATION: Final = (
    "INSERT INTO durations VALUES (?, ?, ?) "
    "ON CONFLICT (minute, bucket) DO UPDATE SET commands = commands + excluded.commands"
)


@dataclass(frozen=True, slots=True)
class Minute:
    """What happened in a minute.

    Attributes:
        begin_ms: its begin; ms since the epoch.
        p50_seconds: the median of the time from acceptance to the end, of commands that ended in
            it; None where there is none whose acceptance is known. So with `p99_seconds`.
    """

    begin_ms: int
    accepted: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    rejected: int = 0
    p50_seconds: float | None = None
    p99_seconds: float | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        """How many commands began and ended in it."""
        return (self.accepted, self.succeeded, self.failed, self.cancelled, self.rejected)


class MinuteTally:
    """Counts what a batch of events has changed, by minutes."""

    def __init__(self) -> None:
        self._happened: Counter[tuple[int, str]] = Counter()
        self._durations: Counter[tuple[int, int]] = Counter()

    def count(self, kept: KeptRow) -> None:
        """Counts what an event has made of a row; an event that changed nothing is none."""
        row = kept.row
        if row.state not in _COUNTED:
            return
        minute = row.changed_at_ms // MINUTE_MS
        self._happened[minute, row.state] += 1
        if row.state != State.ACCEPTED and row.accepted_at_ms is not None:
            self._durations[minute, bucket_of(row.changed_at_ms - row.accepted_at_ms)] += 1

    def write(self, connection: sqlite3.Connection) -> None:
        """Adds what was counted to what stands there."""
        minutes = {minute for minute, _ in self._happened}
        connection.executemany(
            _ADD_MINUTE,
            ((each, *(self._happened[each, state] for state in COUNTED)) for each in minutes),
        )
        connection.executemany(
            _ADD_DURATION,
            ((*of_bucket, commands) for of_bucket, commands in self._durations.items()),
        )


def read_minutes(
    connection: sqlite3.Connection,
    last_ms: int,
    number: int,
    known: Mapping[int, Minute] = MappingProxyType({}),
) -> list[Minute]:
    """Returns so many minutes, oldest first, of which the last holds a time.

    Args:
        connection: to the model.
        last_ms: ms since the epoch.
        number: of minutes.
        known: those that were read before, by their begin: where as many began and ended as then
            the durations are the same, and reading them is most of the work.
    """
    last = last_ms // MINUTE_MS
    first = last - number + 1
    found = {minute: Minute(minute * MINUTE_MS) for minute in range(first, last + 1)}
    stale = []
    for minute, *counted in connection.execute(
        "SELECT * FROM minutes WHERE minute BETWEEN ? AND ?", (first, last)
    ):
        fresh, old = Minute(minute * MINUTE_MS, *counted), known.get(minute * MINUTE_MS)
        if old is not None and old.counts == fresh.counts:
            found[minute] = old
        else:
            found[minute] = fresh
            stale.append(minute)
    if stale:
        rows = connection.execute(
            "SELECT * FROM durations WHERE minute BETWEEN ? AND ? ORDER BY minute, bucket",
            (min(stale), max(stale)),
        )
        for minute, of_minute in groupby(rows, itemgetter(0)):
            buckets = [(bucket, commands) for _, bucket, commands in of_minute]
            found[minute] = replace(
                found[minute],
                p50_seconds=quantile(buckets, 0.5),
                p99_seconds=quantile(buckets, 0.99),
            )
    return list(found.values())


def is_first_rejection(connection: sqlite3.Connection, origin: str, at_ms: int) -> bool:
    """Returns whether nobody has asked this of a message yet; remembers that it was asked.

    Args:
        connection: the writer's.
        origin: the message; one that was rejected under another's id.
        at_ms: when it was rejected, ms since the epoch: it is forgotten with that minute.
    """
    made = connection.execute(
        "INSERT OR IGNORE INTO rejected_beside VALUES (?, ?)", (origin, at_ms // MINUTE_MS)
    )
    return made.rowcount == 1


def forget_minutes(connection: sqlite3.Connection, before_ms: int) -> None:
    """Deletes the minutes that ended before a time."""
    minute = before_ms // MINUTE_MS
    connection.execute("DELETE FROM minutes WHERE minute < ?", (minute,))
    connection.execute("DELETE FROM durations WHERE minute < ?", (minute,))
    connection.execute("DELETE FROM rejected_beside WHERE minute < ?", (minute,))


def bucket_of(milliseconds: int) -> int:
    """Returns the bucket of a duration."""
    if milliseconds < 1:
        return 0
    return min(int(math.log2(milliseconds) * _PER_DOUBLING) + 1, _LAST_BUCKET)


def quantile(buckets: Sequence[tuple[int, int]], share: float) -> float | None:
    """Returns the seconds that a share of durations does not exceed; None without any.

    Args:
        buckets: bucket and number of durations in it, the shortest first.
        share: 0 to 1.
    """
    rank = math.ceil(share * sum(number for _, number in buckets))
    for bucket, number in buckets:
        rank -= number
        if rank <= 0:
            return _middle_seconds(bucket)
    return None


def _middle_seconds(bucket: int) -> float:
    """Returns what differs least from every duration of a bucket."""
    return 0.0 if not bucket else 2 ** ((bucket - 0.5) / _PER_DOUBLING) / 1000
