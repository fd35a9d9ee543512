"""What the owner of a backfill reads where something is wrong with it, on the command line."""

from __future__ import annotations

import itertools
import shutil
from typing import TYPE_CHECKING

import orjson
import pytest

from tests.console import running_worker
from worker.backfill.results.output import Output
from worker.backfill.results.parts import read_records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.console import Said
    from tests.integration.backfill.studio import Studio

ITEMS = 60
GOOD = 20


@pytest.fixture(scope="module", autouse=True)
def worker(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running_worker(studio.console, tmp_path_factory.mktemp("worker") / "worker.log"):
        yield


def run(studio: Studio, source: Path, *more: str) -> Said:
    """Runs a backfill of a manifest whose column is `file`, named like its file."""
    name = source.name.replace(".", "-")
    return studio.console.run(
        *("backfill", "run", str(source), "--id", name, "--map", "data_path=file"),
        *("--output", str(studio.folder / f"out-{name}")),
        *studio.options(),
        *more,
    )


def said_lines(said: Said) -> list[str]:
    return [line.strip() for line in said.out.splitlines()]


def test_one_bad_item_of_many_is_named_with_its_line_and_what_to_do(studio: Studio) -> None:
    broken = studio.folder / "one-broken.png"
    broken.write_bytes(b"no picture")
    names = [path.removeprefix(f"{studio.folder}/") for path in studio.truth]
    rows = [{"file": names[number % len(names)]} for number in range(ITEMS)]
    rows[49] = {"file": broken.name}
    source = studio.folder / "many.jsonl"
    source.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    said = run(studio, source)
    assert said.code == 1
    lines = said_lines(said)
    assert "1 item failed:" in lines
    reason = lines.index(next(line for line in lines if line.startswith("1 × invalid_arguments")))
    assert "read as a picture" in lines[reason]
    assert lines[reason + 1] == f"line 50: {broken}"
    assert lines[-1].endswith("run them again: trainmaster backfill retry-failed many-jsonl")

    broken.write_bytes((studio.folder / names[0]).read_bytes())
    again = studio.console.run("backfill", "retry-failed", "many-jsonl")
    assert again.code == 0
    third = studio.console.run("backfill", "retry-failed", "many-jsonl")
    assert third.code == 1
    assert "none of the items of many-jsonl.retry failed" in third.err
    output = Output(str(studio.folder / "out-many-jsonl"))
    records = list(read_records(output))
    assert sorted(record["item"] for record in records) == list(range(ITEMS))


def test_what_fails_again_can_be_mended_and_run_once_more(studio: Studio) -> None:
    source = studio.folder / "twice.jsonl"
    source.write_bytes(orjson.dumps({"file": "late.png"}))
    assert run(studio, source).code == 1
    assert studio.console.run("backfill", "retry-failed", "twice-jsonl").code == 1
    shutil.copy(next(iter(studio.truth)), studio.folder / "late.png")
    said = studio.console.run("backfill", "retry-failed", "twice-jsonl", "--json")
    assert said.code == 0
    (told,) = said.lines
    assert (told["id"], told["succeeded"]) == ("twice-jsonl.retry.retry", 1)


def test_unreadable_files_and_bad_rows_are_told_by_reason_with_line_and_column(
    studio: Studio,
) -> None:
    (studio.folder / "folder.png").mkdir()
    bad = [
        b'{"file": "missing.png"}',
        b'{"file": "folder.png"}',
        b'{"file": "/etc/hostname"}',
        b"{nonsense",
        b'{"file": "gone.png"}',
        b'{"file": 7}',
    ]
    source = studio.manifest("mixed.jsonl", *bad, most=GOOD)
    said = run(studio, source)
    assert said.code == 1
    lines = said_lines(said)
    told = dict(itertools.pairwise(lines))
    for reason, where in {
        # The first that ended, whichever of the two that was.
        "2 × invalid_input: the file can't be opened: No such file or directory": (
            f"the first: line {GOOD + 1}: {studio.folder}/missing.png",
            f"the first: line {GOOD + 5}: {studio.folder}/gone.png",
        ),
        "1 × invalid_input: not a plain file": (f"line {GOOD + 2}: {studio.folder}/folder.png",),
        "1 × invalid_input: the file lies outside the folders of TRAINMASTER_DATA_ROOTS": (
            f"line {GOOD + 3}: /etc/hostname",
        ),
        "1 × invalid_item: not JSON: key must be a string at column 2": (
            f"line {GOOD + 4}: {{nonsense",
        ),
        "1 × invalid_item: file (data_path) must be a string": (f'line {GOOD + 6}: {{"file":7}}',),
    }.items():
        assert told[reason] in where
    rows = (studio.folder / "out-mixed-jsonl" / "failures.jsonl").read_bytes().splitlines()
    failures = {row["place"]: row for row in map(orjson.loads, rows)}
    assert set(failures) == {f"line {GOOD + number}" for number in range(1, len(bad) + 1)}
    assert failures[f"line {GOOD + 4}"]["row"] == "{nonsense"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "columns.csv",
            "picture,size\na.png,1\n",
            "columns.csv: has no column file; its columns are picture, size",
        ),
        (
            "columns.jsonl",
            '{"picture": "a.png"}\n{"picture": "b.png"}\n',
            "none of its first 2 rows names data_uuid, file; the first one has picture",
        ),
        ("empty.csv", "", "empty.csv: is empty; its first line names the columns"),
        ("cut.parquet", "PAR1", "cut.parquet: is no Parquet file"),
    ],
)
def test_a_bad_source_is_one_line_begins_nothing_and_leaves_the_id_free(
    studio: Studio, name: str, text: str, said: str
) -> None:
    source = studio.folder / name
    source.write_text(text)
    told = run(studio, source)
    assert told.code == 1
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    unknown = studio.console.run("backfill", "status", name.replace(".", "-"))
    assert "no backfill has the id" in unknown.err


def test_too_many_failures_pause_it_with_the_reasons_and_how_to_go_on(studio: Studio) -> None:
    source = studio.manifest("paused.jsonl", *[b"nonsense"] * 4, most=3)
    said = run(studio, source, "--max-failures", "3")
    assert said.code == 1
    lines = said_lines(said)
    assert any(line.endswith("3 items failed; the limit is 3") for line in lines)
    assert any(line.startswith("3 × invalid_item: not JSON") for line in lines)
    assert "the first: line 4: nonsense" in lines
    assert lines[-1] == "Once fixed: trainmaster backfill resume paused-jsonl"
    resumed = studio.console.run("backfill", "resume", "paused-jsonl", "--json")
    (told,) = resumed.lines
    assert (told["state"], told["succeeded"], told["failed"]) == ("succeeded", 3, 4)


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("{file}", "File exists"),
        ("{file}/below", "Not a directory"),
        ("{folder}/" + "x" * 300, "File name too long"),
        ("http://me:s3cret@127.0.0.1:1/x", "NotImplementedError"),
    ],
)
def test_results_that_can_not_be_written_are_told_before_anything_is_begun(
    studio: Studio, tmp_path: Path, output: str, why: str
) -> None:
    """Items would be sent, and their results wait in Redis for a place that nobody can name."""
    (tmp_path / "file").write_bytes(b"")
    source = studio.manifest("nowhere.jsonl", most=1)
    said = studio.console.run(
        *("backfill", "run", str(source), "--id", "nowhere", "--map", "data_path=file"),
        *("--output", output.format(file=tmp_path / "file", folder=tmp_path)),
        *studio.options(),
    )
    assert said.code == 1
    assert f"can't be written: {why}" in said.err
    assert "s3cret" not in said.err
    assert studio.console.run("backfill", "status", "nowhere").code == 1


def test_a_folder_that_holds_other_results_is_refused(studio: Studio, tmp_path: Path) -> None:
    """Two backfills in one folder would be counted as one."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "part-000000.jsonl").write_bytes(b"{}\n")
    source = studio.manifest("other.jsonl", most=1)
    said = studio.console.run(
        *("backfill", "run", str(source), "--id", "other", "--map", "data_path=file"),
        *("--output", str(tmp_path)),
        *studio.options(),
    )
    assert said.code == 1
    assert "holds results of another backfill" in said.err


def test_a_folder_has_no_columns_to_map(studio: Studio) -> None:
    said = run(studio, studio.folder / "pictures")
    assert said.code == 2
    assert "a folder of images has no columns" in said.err
