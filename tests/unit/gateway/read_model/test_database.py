"""The file of the read model: which one is valid, who may write it, and what is damage."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from worker.gateway.read_model.database import (
    OutdatedError,
    WriterLock,
    current_file,
    forget_file,
    is_damage,
    make_file,
    open_reader,
    open_writer,
)

if TYPE_CHECKING:
    from pathlib import Path


def error(code: int, text: str = "x") -> sqlite3.Error:
    made = sqlite3.OperationalError(text)
    made.sqlite_errorcode = code
    return made


@pytest.mark.parametrize(
    ("found", "is_it"),
    [
        (error(sqlite3.SQLITE_CORRUPT), True),
        # As SQLite says it of an index, say.
        (error(sqlite3.SQLITE_CORRUPT | (3 << 8)), True),
        (error(sqlite3.SQLITE_NOTADB), True),
        (error(sqlite3.SQLITE_ERROR, "no such table: commands"), True),
        (error(sqlite3.SQLITE_ERROR, "near X: syntax error"), False),
        (error(sqlite3.SQLITE_FULL, "no such luck"), False),
        (error(sqlite3.SQLITE_BUSY), False),
        (error(sqlite3.SQLITE_IOERR), False),
        (sqlite3.OperationalError("without a code"), False),
    ],
)
def test_only_a_file_that_is_at_fault_itself_is_made_anew(
    found: sqlite3.Error, *, is_it: bool
) -> None:
    assert is_damage(found) == is_it


def test_a_model_that_is_made_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    first, connection = make_file(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert current_file(folder) == first
    connection.close()
    (folder / f"{first.name}-wal").write_bytes(b"")
    (folder / "other.txt").write_bytes(b"of somebody")
    second, connection = make_file(folder)
    connection.close()
    assert current_file(folder) == second != first
    assert sorted(each.name for each in folder.iterdir()) == sorted((
        second.name,
        "current",
        "other.txt",
    ))


@pytest.mark.parametrize(
    ("told", "is_found"),
    [("NAME", True), ("NAME\n", True), ("", False), ("gone", False), ("../outside", False)],
)
def test_the_valid_file_is_the_one_that_is_named_and_lies_there(
    tmp_path: Path, told: str, *, is_found: bool
) -> None:
    folder = tmp_path / "model"
    file, connection = make_file(folder)
    connection.close()
    (tmp_path / "outside").write_bytes(b"")
    (folder / "current").write_text(told.replace("NAME", file.name), "utf-8")
    assert current_file(folder) == (file if is_found else None)


def test_what_names_no_file_names_none(tmp_path: Path) -> None:
    assert current_file(tmp_path / "nothing") is None
    (tmp_path / "current").write_bytes(b"\xff\xfe")
    assert current_file(tmp_path) is None


def test_only_the_file_that_was_met_is_forgotten(tmp_path: Path) -> None:
    file, connection = make_file(tmp_path)
    connection.close()
    forget_file(tmp_path, tmp_path / "another")
    assert current_file(tmp_path) == file
    forget_file(tmp_path, file)
    assert current_file(tmp_path) is None
    forget_file(tmp_path, file)


def test_a_reader_writes_nothing_and_a_writer_no_file_of_another_version(tmp_path: Path) -> None:
    file, connection = make_file(tmp_path)
    reader = open_reader(file)
    with pytest.raises(sqlite3.OperationalError, match=r"readonly|query_only"):
        reader.execute("DELETE FROM progress")
    reader.close()
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OutdatedError):
        open_writer(file)


def test_one_writes_at_a_time_and_the_next_once_that_has_let_go(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    first = WriterLock.take(folder)
    assert first is not None
    assert first.is_held()
    assert WriterLock.take(folder) is None
    first.release()
    second = WriterLock.take(folder)
    assert second is not None
    # Somebody removed the folder, or put another file there: others would not meet it.
    (folder / "writer.lock").unlink()
    assert not second.is_held()
    (folder / "writer.lock").write_bytes(b"")
    assert not second.is_held()
    third = WriterLock.take(folder)
    assert third is not None
    assert third.is_held()
    for each in (second, third):
        each.release()
