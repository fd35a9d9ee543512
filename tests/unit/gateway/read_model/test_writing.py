"""What a writer makes of batches: all of one or nothing, each once, and the place it ends at."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from tests.stream_events import FIRST_MS, entry
from worker.gateway.read_model import writing
from worker.gateway.read_model.database import current_file, open_reader
from worker.gateway.read_model.state_counts import count_of, count_states, count_types
from worker.gateway.read_model.writing import Progress, Writer, read_progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Model:
    """A model with its writer and a reader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer = Writer(folder)
        self.writer.begin(Progress(epoch="e", added=5))
        file = current_file(folder)
        assert file is not None
        self.reader = open_reader(file)

    def rows(self, columns: str) -> list[tuple[Any, ...]]:
        found = self.reader.execute(f"SELECT {columns} FROM commands ORDER BY seq")  # noqa: S608 - ours
        return found.fetchall()


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    made = Model(tmp_path)
    yield made
    made.reader.close()
    made.writer.close()


def test_a_model_that_is_opened_again_goes_on_where_it_was(model: Model) -> None:
    model.writer.take([entry(0, "a", "train.accepted")], Progress("e", "7-0", 6))
    assert read_progress(model.reader) == Progress("e", "7-0", 6)
    again = Writer(model.folder)
    assert again.open() == Progress("e", "7-0", 6)
    again.take([entry(1, "b", "train.accepted")], Progress("f", "8-0", 7))
    again.close()
    assert read_progress(model.reader) == Progress("f", "8-0", 7)
    assert model.rows("seq, id") == [(1, "a"), (2, "b")]


def test_without_a_file_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    assert writer.open() is None
    assert not writer.is_valid()
    with pytest.raises(sqlite3.ProgrammingError, match="not open"):
        writer.take([], Progress())


def test_a_file_that_is_no_longer_the_valid_one_is_told(model: Model) -> None:
    assert model.writer.is_valid()
    (model.folder / "current").write_text("another", "utf-8")
    assert not model.writer.is_valid()


def test_a_batch_that_fails_leaves_nothing_and_the_next_one_is_taken(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        patch.setattr(writing, "move_counts", fail)
        with pytest.raises(sqlite3.OperationalError):
            model.writer.take([entry(0, "a", "train.accepted")], Progress("e", "1-0", 6))
    assert model.rows("id") == []
    assert read_progress(model.reader) == Progress("e", "0-0", 5)
    model.writer.take([entry(0, "a", "train.accepted")], Progress("e", "1-0", 6))
    assert model.rows("id") == [("a",)]


def test_rows_stand_in_the_order_of_their_first_events(model: Model) -> None:
    batch = [entry(number, f"c{number}", "train.accepted") for number in (0, 1, 2)]
    model.writer.take([*batch, entry(3, "c0", "train.failed")], Progress())
    # An id that begins anew stands behind all that were there.
    anew = entry(4, "c1", "attach.accepted", origin="other")
    ended = entry(3, "c1", "train.failed")
    model.writer.take([ended, anew, entry(5, "c3", "train.accepted")], Progress())
    assert model.rows("id, type, state") == [
        ("c0", "train", "failed"),
        ("c2", "train", "accepted"),
        ("c1", "attach", "accepted"),
        ("c3", "train", "accepted"),
    ]


def test_items_and_what_is_no_event_are_no_commands(model: Model) -> None:
    item = entry(0, "night/1", "predict.failed", source="/trainmaster/backfills/night")
    model.writer.take([item, (b"1-0", {b"other": b"x"}), (b"2-0", {b"event": b"{"})], Progress())
    assert model.rows("id") == []
    assert count_states(model.reader) == {}


def test_a_batch_of_very_many_ids_is_joined_with_what_is_known(model: Model) -> None:
    """SQLite takes so many parameters in one statement."""
    ids = [f"c{number}" for number in range(2_000)]
    for state in ("accepted", "succeeded"):
        batch = [entry(0, command_id, f"train.{state}") for command_id in ids]
        model.writer.take(batch, Progress())
    assert count_states(model.reader) == {"succeeded": 2_000}
    assert len(model.rows("id")) == 2_000


def test_only_what_ended_before_a_time_is_forgotten_and_so_many_at_a_time(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_FORGOTTEN", 2)
    ended = [
        each
        for number, state in enumerate(("succeeded", "failed", "cancelled", "rejected"))
        for each in (
            *([] if state == "rejected" else [entry(number, state, "train.accepted")]),
            entry(number, state, f"train.{state}"),
        )
    ]
    going = [entry(0, "open", "train.accepted"), entry(1, "tried", "train.retrying")]
    late = [entry(50, "late", "train.accepted"), entry(50, "late", "train.failed")]
    model.writer.take([*ended, *going, *late], Progress())
    before_ms = FIRST_MS + 500
    assert [model.writer.forget(before_ms) for _ in range(4)] == [2, 2, 0, 0]
    assert {row[0] for row in model.rows("id")} == {"open", "tried", "late"}
    assert count_states(model.reader) == {"accepted": 1, "retrying": 1, "failed": 1}
    assert model.writer.forget(before_ms + 1) == 1


def test_the_counts_are_those_of_the_types_and_states_that_there_are(model: Model) -> None:
    model.writer.take(
        [
            entry(0, "a", "train.accepted"),
            entry(0, "b", "train.accepted"),
            entry(0, "c", "attach.accepted"),
        ],
        Progress(),
    )
    model.writer.take([entry(1, "a", "train.failed")], Progress())
    assert count_types(model.reader) == {
        ("train", "accepted"): 1,
        ("train", "failed"): 1,
        ("attach", "accepted"): 1,
    }
    assert count_states(model.reader) == {"accepted": 2, "failed": 1}
    assert count_of(model.reader, {}) == 3
    assert count_of(model.reader, {"type": "train"}) == 2
    assert count_of(model.reader, {"type": "train", "state": "failed"}) == 1
    assert count_of(model.reader, {"state": "none"}) == 0
    # What there is no more of takes no place: anybody may send a type that there is not.
    model.writer.take([entry(2, "c", "attach.failed")], Progress())
    stored = model.reader.execute("SELECT type, state, commands FROM state_counts").fetchall()
    assert ("attach", "accepted") not in {row[:2] for row in stored}
    assert all(row[2] > 0 for row in stored)


def test_a_file_that_is_damaged_is_begun_anew_and_trouble_with_the_disk_is_told(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or lists that are fine would be thrown away because something else was full."""
    found: list[sqlite3.Error] = []

    def fail(_: object) -> None:
        raise found[0]

    monkeypatch.setattr(writing, "read_progress", fail)
    again = Writer(model.folder)
    for code, is_anew in ((sqlite3.SQLITE_CORRUPT, True), (sqlite3.SQLITE_IOERR, False)):
        error = sqlite3.OperationalError("x")
        error.sqlite_errorcode = code
        found[:] = [error]
        if is_anew:
            assert again.open() is None
        else:
            with pytest.raises(sqlite3.OperationalError):
                again.open()
        again.close()
