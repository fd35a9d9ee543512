"""Every kind of source, and what its owner reads where it is bad."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import sys
import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from schemas.enums import SourceFormat
from tests.unit.backfill.sources.reading import COMMON, data_of, plan_of, problem_of, read_all, uuid
from worker.backfill.errors import SourceError, SourceUnavailableError
from worker.backfill.handler import _allowed
from worker.backfill.locations import STDIN, beside, suffix_of
from worker.backfill.plan import Plan, SourcePlan
from worker.backfill.sources.formats import expected_items, guess_format, open_source
from worker.backfill.sources.reader import BATCH_BYTES, Reader
from worker.backfill.sources.rows import MAX_ROW_BYTES, lines
from worker.errors import InputError

FORMATS = ("data.jsonl", "data.csv", "data.parquet", "data.jsonl.gz", "data.csv.gz")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """Writes rows in the format that the name tells; returns the path."""
    if ".parquet" in path.name:
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
        return str(path)
    if ".jsonl" in path.name:
        text = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    else:
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return str(path)


@pytest.mark.parametrize("name", FORMATS)
def test_each_row_is_one_item_though_every_batch_has_another_reader(
    name: str, tmp_path: Path
) -> None:
    location = write(tmp_path / name, [{"data_uuid": uuid(number)} for number in range(50)])
    assert [data_of(item)["data_uuid"] for item in read_all(location)] == [
        uuid(number) for number in range(50)
    ]


def write_rows(path: Path, count: int) -> None:
    """Writes the first so many of a source's rows, with a head where it has one."""
    rows = [{"data_uuid": uuid(number)} for number in range(count)]
    match path.suffix:
        case ".parquet":
            table = pa.Table.from_pylist(rows, pa.schema([("data_uuid", pa.string())]))
            pq.write_table(table, path, row_group_size=7)
        case ".csv":
            path.write_text("\n".join(["data_uuid", *(row["data_uuid"] for row in rows)]))
        case ".json":
            path.write_bytes(orjson.dumps(rows))
        case _:
            path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


@pytest.mark.parametrize("left", [0, 3])
@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_a_source_that_is_shorter_than_what_was_read_has_not_come_to_its_end(
    suffix: str, in_parts: bool, left: int, tmp_path: Path
) -> None:
    """Its backfill would end as a success, without the items that are missing."""
    path = tmp_path / f"items{suffix}"
    write_rows(path, 20)
    plan = plan_of(str(tmp_path if in_parts else path))
    batch = asyncio.run(Reader("b", plan).read(0, "", 9))

    write_rows(path, left)
    held = f"ends with [a-z]+ {left}" if left else "holds nothing any more"
    with pytest.raises(SourceError, match=f"{path}: {held}, but [a-z]+ 9 was read before"):
        asyncio.run(Reader("b", plan).read(9, batch.position, 9))

    write_rows(path, 20)
    rest = asyncio.run(Reader("b", plan).read(9, batch.position, 99))
    assert [data_of(item)["data_uuid"] for item in rest.items] == list(map(uuid, range(9, 20)))
    behind = asyncio.run(Reader("b", plan).read(20, rest.position, 99))
    assert (behind.items, behind.exhausted) == ([], True)


@pytest.mark.parametrize("name", FORMATS[:3])
def test_what_a_row_says_goes_before_what_all_share(name: str, tmp_path: Path) -> None:
    location = write(tmp_path / name, [{"data_uuid": uuid(1), "conf_thresh": 0.25, "other": "x"}])
    (item,) = read_all(location)
    assert data_of(item) == {**COMMON, "data_uuid": uuid(1), "conf_thresh": 0.25}


@pytest.mark.parametrize("name", FORMATS[:3])
def test_a_column_of_another_name_is_mapped(name: str, tmp_path: Path) -> None:
    rows = [{"file": "a.png", "first": 2, "last": 5}]
    columns = {"data_path": "file", "frame_range_from": "first", "frame_range_to": "last"}
    (item,) = read_all(write(tmp_path / name, rows), columns)
    data = data_of(item)
    assert (data["frame_range_from"], data["frame_range_to"]) == (2, 5)
    assert data["data_path"] == str(tmp_path / "a.png"), "beside its manifest"


async def test_a_batch_of_items_with_their_bytes_inside_is_bounded_by_bytes(tmp_path: Path) -> None:
    """One script takes all of it, and Redis does nothing else meanwhile."""
    text = "A" * (BATCH_BYTES // 8)
    location = write(tmp_path / "items.jsonl", [{"data_base64": text}] * 20)
    reader = Reader("b", plan_of(location))
    sizes: list[int] = []
    position, exhausted = "", False
    while not exhausted:
        batch = await reader.read(len(sizes), position, 200)
        found = [len(item.text) for item in batch.items]
        assert sum(found) < BATCH_BYTES + 2 * len(text)
        sizes += found
        position, exhausted = batch.position, batch.exhausted
    assert len(sizes) == 20
    assert min(sizes) > len(text)


def test_of_a_line_that_is_too_long_no_more_is_held_than_shows_it() -> None:
    file = io.BytesIO(b"x" * (4 * MAX_ROW_BYTES) + b"\n{}\n")
    assert [len(line) for line in lines(file)] == [MAX_ROW_BYTES + 1, 3]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"data_uuid":', "line 2: not JSON: EOF while parsing a value at column 13"),
        ("[1]", "line 2: no JSON object"),
        ('{"picture": "a.png"}', "line 2: names no data_uuid and no data_path; it has picture"),
        ('{"data_uuid": "7"}', "line 2: data_uuid must be a UUID"),
        ('{"data_path": "a", "conf_thresh": 2}', "line 2: conf_thresh must be"),
        (f'{{"data_path": "a", "data_uuid": "{UUID(int=1)}"}}', "line 2: exactly one of data_uuid"),
        ("x" * (MAX_ROW_BYTES + 10), f"line 2: longer than {MAX_ROW_BYTES} bytes"),
    ],
)
def test_a_bad_line_fails_its_own_item_and_says_why(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    good = orjson.dumps({"data_uuid": uuid(1)}).decode()
    path.write_text(f"{good}\n{line}\n\n{good}\n")
    first, bad, last = read_all(str(path))
    assert data_of(first) == data_of(last)
    assert said in problem_of(bad)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (b"a.png", "line 3: 1 value where the head names 2 columns"),
        (b"a.png,high", "line 3: conf_thresh must be a number, not 'high'"),
        (b"a\xff.png,0.5", "line 3: not UTF-8"),
        (b",0.5", "line 3: names no data_uuid and no data_path; it has conf_thresh"),
    ],
)
def test_a_bad_row_of_csv_fails_its_own_item_and_says_why(
    row: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(b"data_path,conf_thresh\na.png,0.5\n" + row + b"\nb.png,\n")
    first, bad, last = read_all(str(path))
    assert data_of(first)["conf_thresh"] == data_of(last)["conf_thresh"] == 0.5
    assert said in problem_of(bad)


def test_a_picture_in_a_row_of_csv_may_be_as_large_as_in_one_of_json(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    picture = "QUJD" * 100_000
    path.write_text(f"data_base64,note\n{picture},x\n")
    assert [data_of(item)["data_base64"] for item in read_all(str(path))] == [picture]


def test_no_row_of_csv_is_an_item_without_its_end(tmp_path: Path) -> None:
    """Its last value would be a part of what it says, and nothing else would tell."""
    path = tmp_path / "items.csv"
    note = "x" * (MAX_ROW_BYTES - 10)
    path.write_text(f"note,data_path\n{note},pictures/a.png\nééé{note},b.png\ny,c.png\n")
    first, second, last = read_all(str(path))
    assert problem_of(first) == f"line 2: longer than {MAX_ROW_BYTES} bytes"
    assert problem_of(second) == f"line 3: longer than {MAX_ROW_BYTES} bytes"
    assert orjson.loads(first.problem)["input"] == {"row": "x" * 500}
    assert data_of(last)["data_path"] == str(tmp_path / "c.png")


def test_a_row_of_csv_that_ends_in_another_way_is_told_with_what_stands_there(
    tmp_path: Path,
) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(b"data_path,note\na.png,x\rb.png,y\nc.png,z\n")
    bad, good = read_all(str(path))
    assert problem_of(bad).startswith("line 2: no row of CSV: a carriage return stands alone")
    assert orjson.loads(bad.problem)["input"] == {"row": "a.png,x\rb.png,y\n"}
    assert data_of(good)["data_path"] == str(tmp_path / "c.png")


@pytest.mark.parametrize("name", ["items.csv", "items.parquet"])
def test_a_missing_column_is_told_with_those_that_are_there(name: str, tmp_path: Path) -> None:
    location = write(tmp_path / name, [{"file": "a.png", "size": 1}])
    with pytest.raises(SourceError, match=r"its columns are file, size.*--map data_path=COLUMN"):
        read_all(location)
    with pytest.raises(SourceError, match="has no column path; its columns are file, size"):
        read_all(location, {"data_path": "path"})


def test_a_column_of_another_name_is_named_by_both_where_it_is_wrong(tmp_path: Path) -> None:
    location = write(tmp_path / "items.csv", [{"file": "a.png", "least": "much"}])
    (item,) = read_all(location, {"data_path": "file", "conf_thresh": "least"})
    assert problem_of(item) == "line 2: least (conf_thresh) must be a number, not 'much'"


def test_an_open_quotation_mark_names_all_lines_that_it_swallows(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text('data_path,conf_thresh\na.png,0.5\n"b.png,0.5\nc.png,0.5\n')
    good, bad = read_all(str(path))
    assert data_of(good)["data_path"] == str(tmp_path / "a.png")
    assert problem_of(bad).startswith("lines 3 to 4: no row of CSV: a quotation mark that is not")
    assert orjson.loads(bad.problem)["input"] == {"row": '"b.png,0.5\nc.png,0.5\n'}


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ('b.png,"open\nc.png,x\nd.png,y\n', "lines 2 to 4"),
        ('b.png,"open\nc.png,"closed"\nd.png,y\n', "lines 2 to 3"),
        ('b.png,x\nc.png,"', "line 3"),
    ],
)
def test_rows_that_an_open_quotation_mark_swallows_are_not_missing_without_a_word(
    rows: str, place: str, tmp_path: Path
) -> None:
    """The row has as many values as the head has columns, so nothing else would tell."""
    path = tmp_path / "items.csv"
    path.write_text(f"data_path,note\n{rows}")
    told = [problem_of(item) for item in read_all(str(path)) if item.problem]
    assert told == [f"{place}: no row of CSV: a quotation mark that is not closed"]


def test_values_of_many_lines_with_quotation_marks_and_blanks_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text('note,data_path\n"a\n""b"", c\n" ,b.png\n"d\r\ne","c.png"')
    assert [item.problem for item in read_all(str(path))] == [b"", b""]


@pytest.mark.parametrize("name", ["items.jsonl", "items.parquet"])
def test_rows_of_which_none_names_an_item_are_a_bad_source(name: str, tmp_path: Path) -> None:
    """One such row is a bad item; if all are, the owner has forgotten to map a column."""
    location = write(tmp_path / name, [{"file": "a.png"}, {"file": "b.png"}])
    with pytest.raises(SourceError, match=r"file.*--map data_path=COLUMN"):
        read_all(location)


def test_a_name_that_is_not_utf_8_fails_its_item_and_the_folder_goes_on(tmp_path: Path) -> None:
    names = (b"a.png", b"b\xff.png", b"c\td.png", "é.png".encode())
    for name in names:
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).touch()
    first, bad, tab, accent = read_all(str(tmp_path), most=1)
    assert "its name is not UTF-8" in problem_of(bad)
    shown = [data_of(item)["data_path"] for item in (first, tab, accent)]
    assert shown == [str(tmp_path / name) for name in ("a.png", "c\td.png", "é.png")]


def test_a_source_that_is_not_there_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no such file or folder"):
        guess_format(str(tmp_path / "items"))
    with pytest.raises(SourceError, match="its name does not tell"):
        guess_format("s3://bucket/items")
    location = write(tmp_path / "items.csv", [{"data_uuid": uuid(1)}])
    plan = plan_of(location)
    (tmp_path / "items.csv").unlink()
    with pytest.raises(SourceError, match=r"items\.csv: there is no such file"):
        asyncio.run(Reader("b", plan).read(0, "", 1))


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".csv", "x" * 300 + "/items.csv"])
def test_a_source_that_the_system_will_not_look_at_is_told_in_a_line(
    name: str, tmp_path: Path
) -> None:
    """Before Python 3.14, `pathlib` raises here, as it does below a folder that is closed to us."""
    with pytest.raises(SourceError, match="can't be read: File name too long"):
        guess_format(str(tmp_path / name))
    plan = Plan(COMMON, SourcePlan(str(tmp_path / name), SourceFormat.CSV), "unused")
    with pytest.raises(SourceError, match="can't be read: File name too long"):
        asyncio.run(Reader("b", plan).read(0, "", 9))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_source_below_a_folder_that_is_closed_to_us_is_told_in_a_line(tmp_path: Path) -> None:
    write(tmp_path / "items.csv", [{"data_uuid": uuid(1)}])
    tmp_path.chmod(0)
    try:
        with pytest.raises(SourceError, match="may not be read with the rights of this process"):
            guess_format(str(tmp_path / "items.csv"))
    finally:
        tmp_path.chmod(0o700)


def test_a_file_that_is_not_what_its_name_says_is_told_in_a_line(tmp_path: Path) -> None:
    for name, said in (
        ("items.parquet", "is no Parquet file"),
        ("items.jsonl.gz", "it is not packed, as its name says"),
        ("ITEMS.JSONL.GZ", "it is not packed, as its name says"),
        ("items.csv", "is empty; its first line names the columns"),
    ):
        path = tmp_path / name
        path.write_bytes(b"" if name.endswith("csv") else b"nonsense")
        with pytest.raises(SourceError, match=said):
            read_all(str(path))


def test_a_folder_gives_its_images_in_order_and_goes_on_behind_any(tmp_path: Path) -> None:
    names = ["a.png", "b/c.jpg", "b/d/e.png", "b.gif", "z.JPEG", "b/notes.txt", "b-c/x.png"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    source = open_source(SourcePlan(str(tmp_path), SourceFormat.FOLDER))
    positions = [row.position for row in source.rows("")]
    assert sorted(positions) == sorted(set(names) - {"b/notes.txt"})
    for number, position in enumerate(positions):
        assert [row.position for row in source.rows(position)] == positions[number + 1 :]
    items = read_all(str(tmp_path), most=1)
    assert [data_of(item)["data_path"] for item in items] == [
        str(tmp_path / position) for position in positions
    ]


def test_a_folder_behind_a_url_gives_its_images_in_order_and_goes_on_behind_any() -> None:
    store = fsspec.filesystem("memory")
    names = ["a.png", "b/c.jpg", "b/d/e.png", "b.gif", "b/notes.txt", "z.JPEG"]
    for name in names:
        store.pipe_file(f"/bucket/images/{name}", b"")
    location = "memory://bucket/images/"
    assert guess_format(location) is SourceFormat.FOLDER
    items = read_all(location, most=1)
    assert [data_of(item)["data_path"] for item in items] == [
        f"{location}{name}" for name in ("a.png", "b/c.jpg", "b/d/e.png", "b.gif", "z.JPEG")
    ]
    assert expected_items(SourcePlan(location, SourceFormat.FOLDER)) is None
    with pytest.raises(SourceError, match="memory:///bucket/nothing: there is no such folder"):
        read_all("memory://bucket/nothing/")


class EarlyFile(MemoryFile):  # type: ignore[misc]
    """Tells five bytes more than it gives."""

    @property
    def size(self) -> int:
        return len(self.getbuffer()) + 5


class EarlyStore(MemoryFileSystem):  # type: ignore[misc]
    """A store that ends each file before its end."""

    protocol = "early"

    def _open(self, path: str, *_: object, **__: object) -> EarlyFile:
        return EarlyFile(self, path, b'{"data_path": "a.png"}\n' * 3)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("early://").lstrip("/")


def test_a_store_that_ends_a_source_too_early_is_found_out() -> None:
    fsspec.register_implementation("early", EarlyStore, clobber=True)
    rows = open_source(SourcePlan("early://items.jsonl", SourceFormat.JSONL)).rows("")
    for _ in range(3):
        next(rows)
    with pytest.raises(SourceUnavailableError, match="it ended after 69 of 74 bytes"):
        next(rows)


def test_a_path_is_one_beside_its_manifest_wherever_that_lies() -> None:
    fsspec.filesystem("memory").pipe_file(
        "/bucket/lists/items.csv", b"data_path\na.png\n/data/b.png\ns3://other/c.png\n"
    )
    items = read_all("memory://bucket/lists/items.csv")
    assert [data_of(item)["data_path"] for item in items] == [
        "memory://bucket/lists/a.png",
        "/data/b.png",
        "s3://other/c.png",
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_a_source_within_an_archive_is_what_its_own_name_says(name: str, tmp_path: Path) -> None:
    """Not what the archive's name says; and what it names lies in the archive too."""
    written = Path(write(tmp_path / name, [{"data_path": "a.png"}]))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(written, f"lists/{name}")
    (item,) = read_all(f"zip://lists/{name}::{tmp_path}/all.zip")
    assert data_of(item)["data_path"] == f"zip://lists/a.png::{tmp_path}/all.zip"


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("simplecache::https://h/a/items.csv?sig=b/c", "simplecache::https://h/a/x.png"),
        (
            "simplecache::zip://items.csv::s3://b/all.zip",
            "simplecache::zip://x.png::s3://b/all.zip",
        ),
        ("simplecache::http://[::1]:80/items.csv", "simplecache::http://[::1]:80/x.png"),
        ("http://h/a::b/items.csv", "http://h/a::b/x.png"),
        ("/data/a::b/items.csv", "/data/a::b/x.png"),
    ],
)
def test_the_link_of_a_chain_that_names_the_file_says_what_it_is(location: str, path: str) -> None:
    assert suffix_of(location) == ".csv"
    assert beside(location, "x.png") == path


def test_a_path_with_colons_is_a_path_and_a_chain_of_urls_is_none(tmp_path: Path) -> None:
    path = tmp_path.resolve() / "a::b.csv"
    assert _allowed(str(path), (tmp_path.resolve(),), ()) == str(path)
    for chain in (f"simplecache::file://{path}", f"zip://a.csv::{path}", f"simplecache::{path}"):
        with pytest.raises(InputError, match="TRAINMASTER_SOURCE_URLS"):
            _allowed(chain, (tmp_path.resolve(),), ())


@pytest.mark.parametrize(
    ("text", "source_format"),
    [
        (b"", SourceFormat.JSONL),
        (b"PK\x03\x04", SourceFormat.CSV),
        (b"a,b\n1,2\n", SourceFormat.CSV),
        (b'{"a": 1}', SourceFormat.JSONL),
        (b'[{"data_path": "a.png"}', SourceFormat.JSONL),
        (b"a", SourceFormat.PARQUET),
    ],
)
def test_what_is_wrong_with_standard_input_is_told_by_its_name(
    text: bytes, source_format: SourceFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not as `-`, which nobody reads as one."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(text))))
    plan = Plan(COMMON, SourcePlan(STDIN, source_format), "unused")
    with pytest.raises(SourceError, match=r"^standard input: "):
        asyncio.run(Reader("b", plan).read(0, "", 9))


def test_a_parquet_file_that_is_broken_inside_is_told_so_and_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    content = bytearray(Path(write(path, [{"data_uuid": uuid(1)}])).read_bytes())
    content[4:30] = b"\xff" * 26
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"items.parquet: a part of it is broken: .+") as told:
        read_all(str(path))
    assert not isinstance(told.value, SourceUnavailableError)
    assert "\n" not in str(told.value)


def test_a_source_tells_about_how_many_items_it_has(tmp_path: Path) -> None:
    rows = [{"data_uuid": uuid(number)} for number in range(11)]
    for name in FORMATS[:3]:
        location = write(tmp_path / name, rows)
        assert expected_items(SourcePlan(location, guess_format(location))) == 11
    assert expected_items(SourcePlan("memory://items.csv", SourceFormat.CSV)) is None
    # What is packed would have to be unpacked to its end.
    for name in ("data.csv.gz", "DATA.CSV.GZ"):
        packed = tmp_path / name
        packed.write_bytes(gzip.compress(b"data_uuid\n" * 12))
        assert expected_items(SourcePlan(str(packed), guess_format(str(packed)))) is None


def test_a_plan_is_the_same_after_it_was_kept() -> None:
    plan = plan_of("s3://bucket/items.csv", {"data_path": "file"})
    assert Plan.parse(plan.json()) == plan
