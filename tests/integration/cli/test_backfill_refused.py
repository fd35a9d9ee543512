"""What `trainmaster backfill run` refuses, in a line and before anything is begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.backfill_bench import COMMON, write_lines

if TYPE_CHECKING:
    from pathlib import Path

    from tests.console import Console, Said

NAME = "night"
OPTIONS = (
    *("--project", COMMON["project_uuid"], "--attachment", COMMON["project_model_uuid"]),
    *("--training", COMMON["training_uuid"], "--task", "object_detection", "--id", NAME),
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A manifest of one good item."""
    return write_lines(tmp_path / "items.jsonl", {"data_uuid": COMMON["project_uuid"]})


def run(console: Console, source: Path, output: str | Path, *more: str) -> Said:
    """Runs a backfill whose results are to go to an output."""
    return console.run("backfill", "run", str(source), *OPTIONS, "--output", str(output), *more)


def is_unknown(console: Console) -> bool:
    """Tells whether nothing was begun, so that the id is still free."""
    return "no backfill has the id" in console.run("backfill", "status", NAME).err


@pytest.mark.parametrize(
    ("source", "more", "said"),
    [
        ("missing.jsonl", (), "there is no such file or folder"),
        ("items.txt", (), "its name does not tell whether it is JSON lines, CSV or Parquet"),
        ("items.csv", (), "no column says which item it is; its columns are file, size"),
        ("items.csv", ("--map=data_path=path",), "has no column path; its columns are file, size"),
        ("empty.csv", (), "is empty; its first line names the columns"),
        ("cut.parquet", (), "is no Parquet file"),
        (
            "odd.jsonl",
            ("--map=data_path=file",),
            "none of its first 2 rows names data_uuid, file; the first one has picture",
        ),
    ],
)
def test_a_source_that_is_none_is_a_line_begins_nothing_and_leaves_the_id_free(
    console: Console, tmp_path: Path, source: str, more: tuple[str, ...], said: str
) -> None:
    texts = {
        "empty.csv": "",
        "cut.parquet": "PAR1",
        "odd.jsonl": '{"picture": "a.png"}\n{"picture": "b.png"}\n',
    }
    if source != "missing.jsonl":
        (tmp_path / source).write_text(texts.get(source, "file,size\na.png,1\n"))
    told = run(console, tmp_path / source, tmp_path / "out", *more)
    assert (told.code, told.out) == (1, "")
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert is_unknown(console)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--id", "a/b"), "must be printable, without a slash"),
        (("--id", "x" * 201), "must be printable, without a slash"),
        (("--output", "", "--id", ".."), "can't be a folder's name: give --output"),
        (("--map", "data_path"), "NAME is one of"),
        (("--map", "picture=file"), "NAME is one of"),
        (("--map", "data_path=a", "--map", "data_path=b"), "data_path is mapped twice"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(
    console: Console, source: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    told = run(console, source, tmp_path / "out", *arguments)
    assert told.code == 2
    assert said in told.err


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("{folder}/file", "File exists"),
        ("{folder}/file/below", "Not a directory"),
        ("{folder}/" + "x" * 300, "File name too long"),
        ("http://me:s3cret@127.0.0.1:1/x", "NotImplementedError"),
    ],
)
def test_results_that_can_not_be_written_are_told_before_anything_is_begun(
    console: Console, source: Path, tmp_path: Path, output: str, why: str
) -> None:
    """Items would be sent, and their results wait in Redis for a place that nobody can name."""
    (tmp_path / "file").write_bytes(b"")
    said = run(console, source, output.format(folder=tmp_path))
    assert said.code == 1
    assert f"can't be written: {why}" in said.err
    assert "s3cret" not in said.err
    assert is_unknown(console)


def test_a_folder_that_holds_other_results_is_refused(
    console: Console, source: Path, tmp_path: Path
) -> None:
    """Two backfills in one folder would be counted as one."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "part-000000.jsonl").write_bytes(b"{}\n")
    said = run(console, source, tmp_path)
    assert said.code == 1
    assert "holds results of another backfill" in said.err
    assert is_unknown(console)


def test_a_folder_of_pictures_has_no_columns_to_map(console: Console, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    said = run(console, tmp_path / "pictures", tmp_path / "out", "--map", "data_path=file")
    assert said.code == 2
    assert "a folder of images has no columns" in said.err


@pytest.mark.parametrize(
    ("name", "told"),
    [("links", "1 link to a folder, which is not followed"), ("photos.heic", "2 .heic")],
)
def test_a_folder_without_a_picture_is_told_with_what_it_holds(
    console: Console, tmp_path: Path, name: str, told: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    if name == "links":
        (folder / "pictures").symlink_to(tmp_path)
    else:
        (folder / "a.heic").touch()
        (folder / "b.HEIC").touch()
    said = run(console, folder, tmp_path / "out")
    assert said.code == 1
    assert told in " ".join(said.err.split())
    assert is_unknown(console)
