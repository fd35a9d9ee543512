"""Pages of the read model: what fits, all of it, once, newest first, whatever is asked."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stream_events import FIRST_MS, entry
from worker.gateway.read_model import counting, queries
from worker.gateway.read_model.counting import Count, count
from worker.gateway.read_model.database import current_file, open_reader
from worker.gateway.read_model.queries import CommandFilter, CursorError, find
from worker.gateway.read_model.text_index import has_text_index
from worker.gateway.read_model.writing import Progress, Writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from worker.gateway.read_model.rows import CommandRow
    from worker.queue.ledger.streams import StreamEntry

STATES = ("accepted", "retrying", "succeeded", "failed", "rejected")
TYPES = ("train", "attach")
PREFIXES = ("night-", "night", "a%b_", "東京-", "Night-", "")


@contextmanager
def model(folder: Path, entries: Sequence[StreamEntry]) -> Iterator[sqlite3.Connection]:
    """A model of these entries, and a reader of it."""
    writer = Writer(folder)
    writer.begin(Progress())
    writer.take(entries, Progress())
    file = current_file(folder)
    assert file is not None
    connection = open_reader(file)
    try:
        yield connection
    finally:
        connection.close()
        writer.close()


def some(number: int) -> list[StreamEntry]:
    """Commands of every kind; each ends, if it does, some time after others have begun."""
    begun = [
        entry(
            each,
            f"{PREFIXES[each % 6]}{each}",
            f"{TYPES[each % 2]}.accepted",
            correlationid=f"c{each % 5}",
        )
        for each in range(number)
    ]
    ended = [
        entry(
            number + each,
            f"{PREFIXES[each % 6]}{each}",
            f"{TYPES[each % 2]}.{STATES[each % 4]}",
            data={"error": {"code": "x", "message": f'Error 100% of "{each}" in a_b 東京'}},
        )
        for each in range(0, number, 3)
        if each % 4
    ]
    return [*begun, *ended]


def paged(connection: sqlite3.Connection, wanted: CommandFilter, limit: int) -> list[CommandRow]:
    found: list[CommandRow] = []
    cursor = None
    for _ in range(10_000):
        page = find(connection, wanted, cursor, limit)
        assert len(page.rows) <= limit
        found += page.rows
        cursor = page.next_cursor
        if cursor is None:
            return found
    raise AssertionError("the pages have no end")


def fits(row: CommandRow, wanted: CommandFilter) -> bool:
    text = (wanted.text or "").lower()
    return (
        wanted.state in {None, row.state}
        and wanted.type in {None, row.type}
        and wanted.correlation_id in {None, row.correlation_id}
        and row.id.startswith(wanted.id_prefix or "")
        and row.changed_at_ms >= (wanted.since_ms or 0)
        and (wanted.until_ms is None or row.changed_at_ms < wanted.until_ms)
        and (text in row.id.lower() or text in (row.error_message or "").lower())
    )


MOMENTS = st.none() | st.integers(FIRST_MS - 10, FIRST_MS + 1_000)
FILTERS = st.builds(
    CommandFilter,
    state=st.sampled_from([None, None, *STATES]),
    type=st.sampled_from([None, None, *TYPES, "detach"]),
    correlation_id=st.sampled_from([None, None, None, "c0", "c4", "c9"]),
    id_prefix=st.sampled_from([None, None, *PREFIXES, "night-1", "n", "x"]),
    since_ms=MOMENTS,
    until_ms=MOMENTS,
    text=st.sampled_from([
        None,
        None,
        "1",
        "00%",
        "100% of",
        "a_b",
        'of "1',
        "NIGHT",
        "東京",
        "東京 ",
        "zzz",
        "",
        "ror 1",
        "\0",
        "1\0",
        "100\0zzz",
    ]),
)


@pytest.fixture(scope="module")
def small() -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory() as folder, model(Path(folder), some(70)) as connection:
        yield connection


@given(wanted=FILTERS, limit=st.sampled_from([1, 3, 100]))
def test_the_pages_hold_what_fits_once_and_newest_first(
    small: sqlite3.Connection, wanted: CommandFilter, limit: int
) -> None:
    every = paged(small, CommandFilter(), 1_000)
    assert len(every) == 70
    assert paged(small, wanted, limit) == [row for row in every if fits(row, wanted)]


@given(wanted=FILTERS)
def test_as_many_are_counted_as_are_listed(
    small: sqlite3.Connection, wanted: CommandFilter
) -> None:
    listed = len(paged(small, wanted, 1_000))
    assert count(small, wanted) == Count(listed, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "LONGEST_LOOK", 2)
        patch.setattr(queries, "_MOST_SORTED", 8)
        assert count(small, wanted) == Count(listed, True)
        patch.setattr(counting, "_MOST_COUNTED", 3)
        patch.setattr(counting, "_COUNT_SECONDS", 0)
        some = count(small, wanted)
    assert some.count == listed if some.is_exact else some.count <= listed


def test_what_takes_too_long_to_count_is_counted_in_part(
    small: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "LONGEST_LOOK", 2)
    monkeypatch.setattr(counting, "_COUNT_SECONDS", 0)
    assert not count(small, CommandFilter(text="1")).is_exact
    assert not count(small, CommandFilter(state="accepted", until_ms=FIRST_MS + 900)).is_exact
    monkeypatch.setattr(counting, "_MOST_COUNTED", 3)
    assert count(small, CommandFilter(until_ms=FIRST_MS + 900)) == Count(3, False)
    # These are kept by the writer.
    assert count(small, CommandFilter()) == Count(70, True)
    assert count(small, CommandFilter(state="accepted")).is_exact


@given(wanted=FILTERS)
def test_a_search_that_takes_too_long_goes_on_in_the_next_page(
    small: sqlite3.Connection, wanted: CommandFilter
) -> None:
    every = paged(small, CommandFilter(), 1_000)
    with pytest.MonkeyPatch.context() as patch:
        # Each page looks at few rows, finds them by the index of its choice, and has no time.
        patch.setattr(queries, "_FIRST_LOOK", 2)
        patch.setattr(queries, "LONGEST_LOOK", 2)
        patch.setattr(queries, "_MOST_SORTED", 8)
        patch.setattr(queries, "_SECONDS", 0)
        assert paged(small, wanted, 1) == [row for row in every if fits(row, wanted)]


def test_a_cursor_goes_on_in_a_model_that_was_made_anew(tmp_path: Path) -> None:
    entries = some(30)
    with model(tmp_path / "old", entries) as connection:
        every = paged(connection, CommandFilter(), 100)
        page = find(connection, CommandFilter(), None, 10)
    # Meanwhile the oldest were forgotten, and others came.
    later = [*entries[5:], entry(500, "new", "train.accepted")]
    with model(tmp_path / "new", later) as connection:
        rest = find(connection, CommandFilter(), page.next_cursor, 100).rows
    assert [row.id for row in rest] == [row.id for row in every[10:25]]


def test_what_comes_while_one_pages_does_not_move_the_pages(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.begin(Progress())
    writer.take(some(20), Progress())
    file = current_file(tmp_path)
    assert file is not None
    connection = open_reader(file)
    before = find(connection, CommandFilter(), None, 10)
    # The rows of this page and of the next one change, and new ones come.
    changed = [
        entry(900 + each, row.id, f"{row.type}.retrying") for each, row in enumerate(before.rows)
    ]
    writer.take([*changed, entry(950, "new", "train.accepted")], Progress())
    rest = find(connection, CommandFilter(), before.next_cursor, 100)
    assert {row.id for row in before.rows}.isdisjoint(row.id for row in rest.rows)
    assert len(before.rows) + len(rest.rows) == 20
    connection.close()
    writer.close()


@pytest.mark.parametrize("cursor", ["", "x", "MTIz", "!!!", "LTE", "MS0x" * 1_000, "ü", "MS0x\n"])
def test_a_cursor_that_no_page_gave_is_refused(small: sqlite3.Connection, cursor: str) -> None:
    with pytest.raises(CursorError, match="begin without one"):
        find(small, CommandFilter(), cursor, 10)


@pytest.mark.parametrize(
    "odd",
    ['"', "'", '" OR "', "a\0b", "\ud800", "x" * 60_000, "%" * 2_000, "NEAR(", "*", "\\"],
)
def test_any_text_may_be_sought(small: sqlite3.Connection, odd: str) -> None:
    fields: list[dict[str, Any]] = [
        {name: odd} for name in ("text", "id_prefix", "state", "type", "correlation_id")
    ]
    every = paged(small, CommandFilter(), 100)
    for asked in fields:
        wanted = CommandFilter(**asked)
        assert paged(small, wanted, 100) == [row for row in every if fits(row, wanted)]


def test_a_time_that_no_calendar_has_is_no_error(small: sqlite3.Connection) -> None:
    assert paged(small, CommandFilter(since_ms=10**30), 100) == []
    assert len(paged(small, CommandFilter(since_ms=-(10**30), until_ms=10**30), 100)) == 70


def test_without_an_index_of_texts_they_are_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.gateway.read_model.text_index.has_trigrams", lambda: False)
    with model(tmp_path, some(70)) as connection:
        assert not has_text_index(connection)
        wanted = CommandFilter(text="error 100%")
        every = paged(connection, CommandFilter(), 100)
        assert paged(connection, wanted, 2) == [row for row in every if fits(row, wanted)] != []


def test_what_happened_before_a_time_is_listed_though_redis_got_it_later(tmp_path: Path) -> None:
    """Events tell the time of a worker's clock, entries that of Redis, minutes apart at most."""
    entries = [
        (f"{FIRST_MS + 60_000 + number}-0".encode(), fields)
        for number in range(3)
        for _, fields in [entry(number, f"c{number}", "train.accepted")]
    ]
    with model(tmp_path, entries) as connection:
        wanted = CommandFilter(until_ms=FIRST_MS + 11)
        assert [row.id for row in find(connection, wanted, None, 10).rows] == ["c1", "c0"]
