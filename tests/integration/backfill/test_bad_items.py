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
        "1 × invalid_item: file (data_path) must be a string": (f"line {GOOD + 6}: 7",),
    }.items():
        assert told[reason] in where
    rows = (studio.folder / "out-mixed-jsonl" / "failures.jsonl").read_bytes().splitlines()
    failures = {row["place"]: row for row in map(orjson.loads, rows)}
    assert set(failures) == {f"line {GOOD + number}" for number in range(1, len(bad) + 1)}
    assert failures[f"line {GOOD + 4}"]["row"] == "{nonsense"


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
