"""Folders as sources: of images, of parts, and of neither."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.enums import SourceFormat
from tests.unit.backfill.sources.reading import data_of, plan_of, problem_of, read_all
from worker.backfill.errors import SourceError
from worker.backfill.plan import Plan, SourcePlan
from worker.backfill.sources.formats import expected_items, guess_format
from worker.backfill.sources.reader import Reader

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = (
    ".hidden.png",
    "._a.png",
    ".ipynb_checkpoints/a.png",
    ".DS_Store",
    "__MACOSX/._a.png",
    "__MACOSX/a.png",
    "Thumbs.db",
    "b/Thumbs.db",
    "b/@eaDir/a.png",
    "desktop.ini",
)


def fill(folder: Path, *names: str) -> str:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(folder)


def passed_over(plan: Plan, most: int) -> tuple[int, Counter[str]]:
    """Reads a folder batch by batch, each by a reader of its own; returns items and the rest."""
    passed: Counter[str] = Counter()
    number, position, exhausted = 0, "", False
    while not exhausted:
        batch = asyncio.run(Reader("b", plan).read(number, position, most))
        number, position = number + len(batch.items), batch.position
        passed += batch.passed
        exhausted = batch.exhausted
    return number, passed


def test_what_is_hidden_or_left_behind_by_systems_is_no_item(tmp_path: Path) -> None:
    location = fill(tmp_path, "a.png", "b/c.jpg", *HIDDEN)
    assert guess_format(location) is SourceFormat.FOLDER
    assert [data_of(item)["data_path"] for item in read_all(location, most=1)] == [
        f"{location}/a.png",
        f"{location}/b/c.jpg",
    ]
    assert expected_items(plan_of(location).source) == 2


@pytest.mark.parametrize("most", [1, 2, 3, 200])
def test_what_is_passed_over_is_counted_once_by_its_kind_whoever_reads_on(
    most: int, tmp_path: Path
) -> None:
    location = fill(
        tmp_path,
        *("0.heic", "a.png", "b.HEIC", "b/c.jpg", "b/labels.json", "c.png", "d.png", "README"),
        *("z/last.heic", *HIDDEN),
    )
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    assert passed_over(plan_of(location), most) == (
        4,
        {".heic": 3, ".json": 1, "files without a suffix": 1, "links to folders": 1},
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.heic", "b.heic", "c/d.avif", "._x.jpg"], "it holds 2 .heic, 1 .avif. Convert"),
        (["Thumbs.db", ".ipynb_checkpoints/a.png"], "it is empty"),
        ([], "it is empty"),
        (["a.csv", "b.jsonl"], "files of more than one format: 1 .csv, 1 .jsonl. Say which"),
    ],
)
def test_a_folder_without_items_is_an_error_that_tells_what_it_holds(
    names: list[str], said: str, tmp_path: Path
) -> None:
    location = fill(tmp_path, *names)
    with pytest.raises(SourceError, match=said):
        guess_format(location)
    plan = Plan(common={}, source=SourcePlan(location, SourceFormat.FOLDER), output="unused")
    with pytest.raises(SourceError, match="holds no images that can be sent"):
        asyncio.run(Reader("b", plan).read(0, "", 10))


def test_a_link_to_itself_or_to_nowhere_fails_its_item_and_no_folder(tmp_path: Path) -> None:
    location = fill(tmp_path, "a.png", "d.png")
    (tmp_path / "b.png").symlink_to("b.png")
    (tmp_path / "c.png").symlink_to("nowhere.png")
    (tmp_path / "round").symlink_to(".")
    names = [data_of(item)["data_path"].rpartition("/")[2] for item in read_all(location)]
    assert names == ["a.png", "b.png", "c.png", "d.png"]


def test_a_folder_of_links_to_folders_says_that_they_are_not_followed(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "a.png")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "one").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="it holds 1 link to a folder, which is not followed"):
        guess_format(str(tmp_path / "links"))


@pytest.mark.parametrize("most", [1, 2, 3, 5, 200])
def test_parquet_parts_are_one_source_in_the_order_of_their_names(
    most: int, tmp_path: Path
) -> None:
    """As Spark, pandas and Dask write them, with what those leave beside them."""
    fill(tmp_path, "_SUCCESS", "._SUCCESS.crc", ".part-0000.parquet.crc", "notes.txt")
    for number, part in enumerate(("b=2/part-0001.parquet", "part-0000.parquet", "a/p.pq")):
        path = tmp_path / part
        path.parent.mkdir(exist_ok=True)
        rows = [{"data_path": f"{number}-{row}.png"} for row in range(5)]
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    location = str(tmp_path)
    assert guess_format(location) is SourceFormat.PARQUET
    assert [data_of(item)["data_path"] for item in read_all(location, most=most)] == [
        *(f"{tmp_path}/a/2-{row}.png" for row in range(5)),
        *(f"{tmp_path}/b=2/0-{row}.png" for row in range(5)),
        *(f"{tmp_path}/1-{row}.png" for row in range(5)),
    ]
    plan = plan_of(location)
    assert expected_items(plan.source) == 15
    assert passed_over(plan, most) == (15, {".txt": 1})


def test_parts_of_csv_are_read_whether_some_are_empty_and_name_their_rows(tmp_path: Path) -> None:
    (tmp_path / "part-0.csv").write_text("file,conf_thresh\n/a.png,0.5\n/b.png,much\n")
    (tmp_path / "part-1.csv").write_text("")
    (tmp_path / "part-2.csv").write_text("file,conf_thresh\n")
    (tmp_path / "part:3.csv").write_text("file,conf_thresh\n/c.png,0.5\n")
    for most in (1, 200):
        first, bad, last = read_all(str(tmp_path), {"data_path": "file"}, most=most)
        assert [data_of(item)["data_path"] for item in (first, last)] == ["/a.png", "/c.png"]
        assert problem_of(bad).startswith("part-0.csv: line 3: conf_thresh must be a number")


def test_parts_of_json_behind_a_url_are_one_source_too() -> None:
    store = fsspec.filesystem("memory")
    for number in range(3):
        rows = (orjson.dumps({"data_path": f"{number}.png"}) for _ in range(2))
        store.pipe_file(f"/parts/lists/part-{number}.jsonl", b"\n".join(rows))
    location = "memory://parts/lists/"
    assert guess_format(location) is SourceFormat.JSONL
    assert [data_of(item)["data_path"] for item in read_all(location, most=1)] == [
        f"{location}{number}.png" for number in (0, 0, 1, 1, 2, 2)
    ]


def test_a_part_that_is_missing_a_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-0.csv").write_text("data_path\n/a.png\n")
    (tmp_path / "part-1.csv").write_text("picture\n/b.png\n")
    with pytest.raises(SourceError, match=r"part-1\.csv: no column says which item it is"):
        read_all(str(tmp_path))


@pytest.mark.parametrize(
    ("folder", "columns", "wanted"),
    [
        ("conf_thresh=0.25", {}, 0.25),
        ("day=1/conf%5Fthresh=0.25", {}, 0.25),
        ("sure=0.25", {}, 0.5),
        ("conf_thresh=__HIVE_DEFAULT_PARTITION__", {}, 0.5),
    ],
)
def test_what_the_names_of_hives_folders_say_holds_for_the_items_in_them(
    folder: str, columns: dict[str, str], wanted: float, tmp_path: Path
) -> None:
    """Who writes partitions leaves their column out of the files."""
    (tmp_path / folder).mkdir(parents=True)
    pq.write_table(pa.table({"data_path": ["/a.png"]}), tmp_path / folder / "part-0.parquet")
    (item,) = read_all(f"{tmp_path}/", columns)
    assert data_of(item)["conf_thresh"] == wanted


def test_a_file_s_own_column_goes_before_its_folders_and_a_bad_one_fails_its_items(
    tmp_path: Path,
) -> None:
    for folder, row in (("0.25", {"conf_thresh": 0.75}), ("high", {})):
        (tmp_path / f"conf_thresh={folder}").mkdir()
        text = orjson.dumps({"data_path": "/a.png", **row})
        (tmp_path / f"conf_thresh={folder}" / "part.jsonl").write_bytes(text)
    good, bad = read_all(f"{tmp_path}/")
    assert data_of(good)["conf_thresh"] == 0.75
    assert problem_of(bad).endswith("conf_thresh must be a number")
