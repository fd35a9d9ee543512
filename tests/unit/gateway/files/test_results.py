"""Which files are results, and what they are."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from worker.backfill.results.output import Output
from worker.gateway.files import results
from worker.gateway.files.results import ResultFile, find_record, list_results, media_type
from worker.gateway.problems import ProblemError
from worker.thread_pools import ThreadPool

if TYPE_CHECKING:
    from pathlib import Path

PART = "parts/part-000000.jsonl"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("summary.json", "application/json"),
        (PART, "application/x-ndjson"),
        ("parts/part-000000.parquet", "application/vnd.apache.parquet"),
        ("report.html", "text/html"),
        ("odd.of-nothing-known", "application/octet-stream"),
    ],
)
def test_a_file_is_told_by_its_name_what_it_is(name: str, found: str) -> None:
    assert media_type(name) == found


async def test_the_last_files_are_listed_first_and_parts_in_their_order(tmp_path: Path) -> None:
    assert await list_results(Output(str(tmp_path / "nothing"))) == []
    parts = tmp_path / "parts"
    parts.mkdir()
    for number in (2, 0, 1):
        (parts / f"part-{number:06}.jsonl").write_bytes(b"x" * number)
    for name in ("summary.json", "failures.jsonl", "notes.txt", "parts/part-x.jsonl", "parts/odd"):
        (tmp_path / name).write_bytes(b"yy")
    (parts / "part-000009.jsonl").mkdir()
    assert await list_results(Output(str(tmp_path))) == [
        ResultFile("failures.jsonl", 2),
        ResultFile("summary.json", 2),
        ResultFile("parts/part-000000.jsonl", 0),
        ResultFile("parts/part-000001.jsonl", 1),
        ResultFile("parts/part-000002.jsonl", 2),
    ]


@pytest.fixture
def searching() -> ThreadPool:
    return ThreadPool("parts-of-a-test", 1)


def part_of(folder: Path, *lines: bytes) -> Output:
    (folder / "parts").mkdir()
    (folder / PART).write_bytes(b"".join(line + b"\n" for line in lines))
    return Output(str(folder))


async def test_an_items_record_is_its_own_and_no_others(
    tmp_path: Path, searching: ThreadPool
) -> None:
    output = part_of(
        tmp_path,
        b'{"item": 17, "a": 1}',
        # What a record holds may look like another's number.
        b'{"item": 1, "input": {"item": 7}}',
        b'{"item":7, no JSON',
        b'["item", 7]',
        b'{"item":7,"a":2}',
        b'{"item":7,"a":3}',
        b'{"item":70,"a":4}',
    )
    assert await find_record(searching, output, PART, 7) == {"item": 7, "a": 2}
    assert await find_record(searching, output, PART, 17) == {"item": 17, "a": 1}
    assert await find_record(searching, output, PART, 0) is None


@pytest.mark.parametrize(("most", "is_found"), [(22, True), (20, False)])
async def test_so_much_of_a_part_is_looked_through_and_no_more(
    tmp_path: Path,
    searching: ThreadPool,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    *,
    is_found: bool,
) -> None:
    output = part_of(tmp_path, b'{"item":0}', b'{"item":1}', b'{"item":2}')
    monkeypatch.setattr(results, "MOST_SEARCHED_BYTES", most)
    if is_found:
        assert await find_record(searching, output, PART, 1) == {"item": 1}
    with pytest.raises(ProblemError, match="too large to be looked through") as refused:
        await find_record(searching, output, PART, 9)
    assert (refused.value.status, refused.value.code) == (404, "no_picture")


@pytest.mark.parametrize(
    "part", ["summary.json", "parts/../summary.json", f"{PART}\n", "parts/part-0.csv", ""]
)
async def test_what_is_no_part_is_no_file(tmp_path: Path, searching: ThreadPool, part: str) -> None:
    with pytest.raises(ProblemError) as refused:
        await find_record(searching, part_of(tmp_path), part, 0)
    assert (refused.value.status, refused.value.code) == (404, "unknown_file")


async def test_a_part_for_which_there_is_no_turn_is_told_to_come_again(
    tmp_path: Path, searching: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_SEARCH_SECONDS", 0.05)
    goes_on = threading.Event()
    output = part_of(tmp_path, b'{"item":0}')
    holding = asyncio.create_task(searching.run(30, goes_on.wait, 30))
    await asyncio.sleep(0)
    with pytest.raises(ProblemError, match="for too long") as refused:
        await find_record(searching, output, PART, 0)
    assert (refused.value.status, refused.value.code) == (503, "picture_unavailable")
    goes_on.set()
    await holding
    assert await find_record(searching, output, PART, 0) == {"item": 0}


async def test_a_part_whose_search_takes_too_long_is_told_to_come_again(
    tmp_path: Path, searching: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread is free, but its disk or store answers slowly; nothing is wrong with the store."""
    monkeypatch.setattr(results, "_SEARCH_SECONDS", 0)
    with pytest.raises(ProblemError, match="for too long") as refused:
        await find_record(searching, part_of(tmp_path, b'{"item":0}'), PART, 0)
    assert (refused.value.status, refused.value.code) == (503, "picture_unavailable")
