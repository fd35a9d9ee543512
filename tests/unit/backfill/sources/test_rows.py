"""What tables and lines out of other people's programs mean, and that no row harms another."""

from __future__ import annotations

import datetime
import fcntl
import gzip
import io
import json
import lzma
import os
import tarfile
import termios
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.backfill.sources.reading import data_of, problem_of, read_all, uuid
from worker.backfill.errors import SourceError
from worker.backfill.locations import beside
from worker.backfill.sources.items import ItemParser
from worker.backfill.sources.json_rows import Elements, JsonLines
from worker.backfill.sources.rows import MAX_ROW_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GOOD = {"data_uuid": uuid(1)}


def said(tmp_path: Path, name: str, text: bytes, columns: Mapping[str, str] | None = None) -> Any:
    """Returns what each item of a source says besides what all share."""
    path = tmp_path / name
    path.write_bytes(text)
    return [own(item) for item in read_all(str(path), columns)]


def own(item: Any) -> dict[str, Any]:
    shared = {"task", "project_uuid", "project_model_uuid", "training_uuid"}
    return {name: value for name, value in data_of(item).items() if name not in shared}


def table(tmp_path: Path, columns: Mapping[str, Any]) -> str:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table(dict(columns)), path)
    return str(path)


# Doubled columns


@pytest.mark.parametrize(
    "head", ["data_path,data_path", "data_path, data_path ", "note,data_path,note"]
)
def test_a_doubled_column_of_csv_refuses_the_source_by_its_name(head: str, tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text(f"{head}\na.png,b.png,c.png\n")
    doubled = "note" if "note" in head else "data_path"
    with pytest.raises(SourceError, match=f"more than one column {doubled}: which"):
        read_all(str(path))


def test_columns_without_a_name_may_be_many(tmp_path: Path) -> None:
    """Spreadsheets leave them behind, and none of them can be meant."""
    (item,) = said(tmp_path, "items.csv", b"data_path,,\na.png,,\n")
    assert item["data_path"] == str(tmp_path / "a.png")


def test_a_doubled_column_of_parquet_refuses_the_source_by_its_name(tmp_path: Path) -> None:
    columns = [pa.array(["a.png"]), pa.array(["b.png"])]
    path = tmp_path / "items.parquet"
    pq.write_table(pa.Table.from_arrays(columns, names=["data_path", "data_path"]), path)
    with pytest.raises(SourceError, match="more than one column data_path: which"):
        read_all(str(path))


def test_a_doubled_key_of_json_fails_its_own_item(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(b'{"data_path": "a.png", "data_path": "b.png"}\n' + json.dumps(GOOD).encode())
    doubled, good = read_all(str(path))
    assert "data_path" in problem_of(doubled)
    assert good.text


# What is meant


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mark.jsonl", b'\xef\xbb\xbf{"data_path": "a.png"}\n{"data_path": "a.png"}\n'),
        ("both.jsonl", b'\xef\xbb\xbf{"data_path": "a.png"}\r\n\xef\xbb\xbf{"data_path": "a.png"}'),
        ("mark.csv", b"\xef\xbb\xbfdata_path\r\na.png\r\na.png"),
        ("lines.csv", b"\n\r\n , \ndata_path , \n\na.png,\n,\na.png,\n\n"),
        ("old.csv", b"data_path\ra.png\ra.png\r"),
        ("list.json", b'\xef\xbb\xbf [\n {"data_path": "a.png"},\n{"data_path": "a.png"}\n]\n'),
        ("list.json", b'[{"data_path": "a.png"},{"data_path": "a.png"}]'),
        ("list.json", b'\n[{"data_path": "a.png", "more": [1]\n},{"data_path": "a.png"}]\n\n'),
        ("list.json", b'[{"data_path": "a.png", "more": [1]\n,"x": 1},{"data_path": "a.png"}]\n'),
        (
            "list.json.gz",
            gzip.compress(b'[{"data_path": "a.png"}, {"data_path": "a.png"}]', mtime=0),
        ),
        ("packed.csv", gzip.compress(b"data_path\na.png\na.png\n", mtime=0)),
        (
            "twice.csv.gz",
            gzip.compress(gzip.compress(b"data_path\na.png\na.png\n", mtime=0), mtime=0),
        ),
    ],
)
def test_marks_blank_lines_arrays_and_packing_are_taken(
    name: str, text: bytes, tmp_path: Path
) -> None:
    paths = [item["data_path"] for item in said(tmp_path, name, text)]
    assert paths == [str(tmp_path / "a.png")] * 2


@pytest.mark.parametrize(
    ("first", "last"), [("0.0", "2.0"), ("0", "2."), (" 0.00 ", "2"), ("nan", ""), ("NULL", "<NA>")]
)
def test_whole_numbers_of_csv_may_be_written_as_pandas_writes_them(
    first: str, last: str, tmp_path: Path
) -> None:
    text = f"data_path,frame_range_from,frame_range_to\na.png,{first},{last}\n".encode()
    (item,) = said(tmp_path, "items.csv", text)
    wanted = {"frame_range_from": 0, "frame_range_to": 2} if first.strip()[0] == "0" else {}
    assert {name: item[name] for name in item if name.startswith("frame")} == wanted


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ('"conf_thresh": NaN, "frame_range_from": NaN', {"conf_thresh": 0.5}),
        (
            '"conf_thresh": null, "frame_range_from": 3.0',
            {"conf_thresh": 0.5, "frame_range_from": 3},
        ),
        ('"conf_thresh": ""', {"conf_thresh": 0.5}),
        ('"allocation_enabled": 1.0', {"conf_thresh": 0.5, "allocation_enabled": True}),
    ],
)
def test_numbers_of_json_may_be_written_as_pandas_writes_them(
    values: str, wanted: dict[str, Any], tmp_path: Path
) -> None:
    (item,) = said(tmp_path, "items.jsonl", f'{{"data_path": "a.png", {values}}}'.encode())
    assert item == {"data_path": str(tmp_path / "a.png")} | wanted


@pytest.mark.parametrize(
    ("column", "value", "wanted"),
    [
        ("conf_thresh", pa.array([Decimal("0.10")]), 0.1),
        ("frame_range_from", pa.array([Decimal("3.00")]), 3),
        ("frame_range_from", pa.array([3.0]), 3),
        ("frame_range_from", pa.array([3], pa.uint8()), 3),
        ("conf_thresh", pa.array([float("nan")]), 0.5),
        ("allocation_enabled", pa.array([1.0]), True),
    ],
)
def test_what_parquet_says_in_types_that_json_lacks_is_taken_as_meant(
    column: str, value: Any, wanted: object, tmp_path: Path
) -> None:
    (item,) = read_all(table(tmp_path, {"data_path": ["a.png"], column: value}))
    assert own(item)[column] == wanted


@pytest.mark.parametrize(
    ("column", "text", "problem"),
    [
        ("frame_range_from", "1.5", "must be a whole number, not '1.5'"),
        ("frame_range_to", "1e3", "must be a whole number, not '1e3'"),
        ("frame_range_to", "two", "must be a whole number, not 'two'"),
        ("conf_thresh", "inf", "must be a finite number, not 'inf'"),
        ("conf_thresh", "0_1", "must be a number, not '0_1'"),
        ("allocation_enabled", "2", "must be true or false, not '2'"),
    ],
)
def test_text_of_csv_that_can_t_be_meant_fails_its_own_item(
    column: str, text: str, problem: str, tmp_path: Path
) -> None:
    """Half of a frame is none: what was cut off it would be sent as another one."""
    path = tmp_path / "items.csv"
    path.write_text(f"data_path,{column}\na.png,{text}\nb.png,\n")
    bad, good = read_all(str(path))
    assert problem_of(bad) == f"line 2: {column} {problem}"
    assert data_of(good)["data_path"] == str(tmp_path / "b.png")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("frame_range_from", pa.array([Decimal("1.50")])),
        ("frame_range_from", pa.array([Decimal("9" * 70)])),
        ("frame_range_from", pa.array([1.5])),
        ("conf_thresh", pa.array([float("inf")])),
        ("allocation_enabled", pa.array([2])),
    ],
)
def test_a_number_of_parquet_that_can_t_be_meant_fails_its_own_item(
    column: str, value: Any, tmp_path: Path
) -> None:
    (bad,) = read_all(table(tmp_path, {"data_path": ["a.png"], column: value}))
    assert problem_of(bad).startswith(f"row 1: {column} must be ")


def test_a_frame_range_that_pandas_left_empty_is_none(tmp_path: Path) -> None:
    """Whole numbers with gaps become floats with NaN: a range of a video, none of a picture."""
    columns = {
        "data_path": ["a.mp4", "b.png"],
        "frame_range_from": pa.array([0.0, float("nan")]),
        "frame_range_to": pa.array([0.0, float("nan")]),
    }
    video, picture = (own(item) for item in read_all(table(tmp_path, columns)))
    assert (video["frame_range_from"], video["frame_range_to"]) == (0, 0)
    assert type(video["frame_range_from"]) is int
    assert not picture.keys() & {"frame_range_from", "frame_range_to"}


@pytest.mark.parametrize(
    ("column", "value", "wanted"),
    [
        ("data_path", pa.array([b"/data/a.png"]), "/data/a.png"),
        ("data_path", pa.array([b"/a.png\0\0"], pa.binary(8)), "/a.png"),
        ("data_uuid", pa.array([UUID(int=7).bytes], pa.binary(16)), uuid(7)),
        ("data_uuid", pa.array([uuid(7).encode()]), uuid(7)),
        ("data_base64", pa.array([b"\x89PNG\r\n"]), "iVBORw0K"),
        ("data_base64", pa.array([b"iVBORw0K"]), "iVBORw0K"),
        ("data_path", pa.array(["/a.png"]).dictionary_encode(), "/a.png"),
    ],
)
def test_bytes_of_parquet_are_taken_where_they_can_be_meant(
    column: str, value: Any, wanted: str, tmp_path: Path
) -> None:
    (item,) = read_all(table(tmp_path, {column: value}))
    assert own(item)[column] == wanted


@pytest.mark.parametrize("path", ["/b.png", "file:///b.png", "file:/b.png", "s3://bucket/b.png"])
def test_a_whole_path_and_a_url_stay_as_they_are_in_any_manifest(path: str) -> None:
    for manifest in ("/data/items.csv", "https://host/items.csv"):
        assert beside(manifest, path) == path


def test_a_path_beside_a_signed_manifest_is_beside_it_and_has_no_signature() -> None:
    plan_location = "https://host/lists/items.csv?X-Credential=AKIA/2026/eu&signature=a/b"
    assert beside(plan_location, "pictures/a.png") == "https://host/lists/pictures/a.png"


@pytest.mark.parametrize("mark", ["\u200b", "\ufeff", "\u00ad", "\t"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_column_that_only_looks_like_the_right_one_is_told_with_what_nobody_sees(
    kind: str, mark: str, tmp_path: Path
) -> None:
    row = {f"{mark}data_path": "a.png", "größe": "1"}
    path = str(tmp_path / "items.jsonl")
    (tmp_path / "items.jsonl").write_text(json.dumps(row))
    if kind == "parquet":
        path = table(tmp_path, {name: [value] for name, value in row.items()})
    with pytest.raises(SourceError) as told:
        read_all(path)
    assert f"{f'{mark}data_path'!r}, größe" in str(told.value)


# One row harms no other

DEEP = b"[" * 5_000 + b"]" * 5_000


@pytest.mark.parametrize(
    "row",
    [
        b'{"data_path": "a.png", "frame_range_from": 99999999999999999999999}',
        b'{"data_path": 99999999999999999999999}',
        b'{"picture": 99999999999999999999999}',
        b'{"picture": ' + b"9" * 5_000 + b"}",
        b'{"data_path": "a.png", "conf_thresh": 1e999}',
        b'{"data_path": "a.png", "conf_thresh": -Infinity}',
        b'{"data_path": "a.png", "conf_thresh": [1, {"a": 2}]}',
        b'{"data_path": {"bytes": "x"}}',
        b'{"data_path": "\\ud800"}',
        b'{"\\ud800": "a.png"}',
        b'{"data_path": "a\xff.png"}',
        b'{"data_path": "a\x00.png"}',
        b'{"data_path": ' + DEEP + b"}",
        b"\xff" * 900,
        b'"a.png"',
        b"[]",
        b"null",
        b'{"data_path": "' + b"x" * (MAX_ROW_BYTES + 5) + b'"}',
    ],
)
@pytest.mark.parametrize("name", ["items.jsonl", "items.json"])
def test_a_bad_row_of_json_fails_alone_with_its_place(
    name: str, row: bytes, tmp_path: Path
) -> None:
    path = tmp_path / name
    good = json.dumps(GOOD).encode()
    if name.endswith("l"):
        path.write_bytes(good + b"\n" + row + b"\n" + good + b"\n")
    else:
        path.write_bytes(b"[" + good + b",\n" + row + b",\n" + good + b"]")
    first, bad, last = read_all(str(path))
    assert data_of(first) == data_of(last)
    place = "line 2" if name.endswith("l") else "element 2"
    assert problem_of(bad).startswith(f"{place}: ")
    assert len(bad.problem) < 5_000


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([{"bytes": b"x", "path": "a.png"}] * 3, None),
        ([["a.png"]] * 3, None),
        ([b"a.png", b"\xff\xd8", b"a.png"], None),
        ([datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)] * 3, None),
        ([1, 2, 3], None),
        (["x" * 2_000_000] * 3, None),
    ],
)
def test_a_value_of_parquet_that_is_no_path_fails_its_own_item(
    values: list[Any], kind: Any, tmp_path: Path
) -> None:
    path = table(
        tmp_path, {"data_path": pa.array(values, kind), "data_uuid": [None, None, uuid(1)]}
    )
    pq.write_table(
        pa.table({
            "data_path": pa.array([values[0], values[1], None]),
            "data_uuid": pa.array([None, None, uuid(1)]),
        }),
        path,
    )
    items = read_all(path)
    assert problem_of(items[1]).startswith("row 2: ")
    assert data_of(items[2])["data_uuid"] == uuid(1)


def test_text_of_parquet_that_is_not_utf_8_fails_its_own_item(tmp_path: Path) -> None:
    """Pyarrow refuses the whole batch that such a value lies in."""
    raw = pa.array([b"/a.png", b"/\xff.png", b"/c.png"])
    broken = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"data_path": broken}), path)
    first, bad, last = read_all(str(path))
    assert (own(first)["data_path"], own(last)["data_path"]) == ("/a.png", "/c.png")
    assert problem_of(bad).startswith("row 2: data_path can't be read")


def test_a_bad_row_fails_alone_below_a_head_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes("data_path,conf_thresh,Größe\na.png,much,1\nb.png,0.5,2\n".encode("latin-1"))
    bad, good = read_all(str(path))
    assert problem_of(bad) == "line 2: conf_thresh must be a number, not 'much'"
    assert data_of(good)["conf_thresh"] == 0.5
    path.write_bytes("Größe\n1\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"its columns are Gr\?\?e\. Name"):
        read_all(str(path))


def test_an_enormous_value_of_csv_fails_its_own_item(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(b"data_path\n/a.png\n" + b"x" * 3_000_000 + b"\n/b.png\n")
    first, bad, last = read_all(str(path))
    assert (own(first)["data_path"], own(last)["data_path"]) == ("/a.png", "/b.png")
    assert problem_of(bad).startswith("line 3: ")


def test_a_defect_of_ours_fails_the_item_that_shows_it_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made by hand: whatever an item makes our code raise, the others go on."""
    whole = ItemParser._command

    def broken(self: ItemParser, data: Mapping[str, Any], place: str) -> bytes:
        if place == "line 2":
            raise RecursionError
        return whole(self, data, place)

    monkeypatch.setattr(ItemParser, "_command", broken)
    path = tmp_path / "items.jsonl"
    path.write_bytes((json.dumps(GOOD).encode() + b"\n") * 3)
    first, bad, last = read_all(str(path))
    assert data_of(first) == data_of(last)
    assert problem_of(bad) == "line 2: can't be made an item: RecursionError"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("items.jsonl", '{"data_path": "a.png", "data_uuid": ""}'),
        ("items.jsonl", '{"data_path": "a.png", "data_uuid": "NaN"}'),
        ("items.csv", "data_uuid,data_path\nnan,a.png"),
        ("items.csv", "data_uuid,data_path\n<NA>,a.png"),
    ],
)
def test_a_uuid_that_is_none_leaves_the_item_to_its_path(
    name: str, text: str, tmp_path: Path
) -> None:
    (item,) = said(tmp_path, name, text.encode())
    assert item["data_path"] == str(tmp_path / "a.png")
    assert "data_uuid" not in item


def test_a_path_that_is_empty_names_nothing(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(f'{{"data_path": ""}}\n{json.dumps(GOOD)}')
    bad, _ = read_all(str(path))
    assert problem_of(bad) == "line 1: names no data_uuid and no data_path; it has data_path"


def test_a_value_of_another_type_is_told_by_its_columns_name(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"data_path": ["a.png"]}')
    (bad,) = read_all(str(path))
    assert problem_of(bad) == "line 1: data_path must be text, and is a list"


def test_rows_that_can_not_be_read_are_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"data_path": ["a.png"], "conf_thresh": pa.array([1], pa.timestamp("ns"))}
    (bad,) = read_all(table(tmp_path, values))
    assert problem_of(bad).startswith("row 1: conf_thresh can't be read: Nanosecond")
    assert "Traceback" not in "".join(capsys.readouterr())


# What is told


GIT_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def tar_of(text: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("items.csv")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return made.getvalue()


@pytest.mark.parametrize("form", [lzma.FORMAT_XZ, lzma.FORMAT_ALONE])
def test_both_forms_of_lzma_are_unpacked(form: int, tmp_path: Path) -> None:
    (item,) = said(tmp_path, "items.csv.xz", lzma.compress(b"data_path\na.png\n", format=form))
    assert item["data_path"] == str(tmp_path / "a.png")


def test_a_time_in_a_zone_that_is_none_fails_its_items_by_the_column(tmp_path: Path) -> None:
    """A value that is no number is no reason to log an error of ours."""
    taken = pa.array([5], pa.timestamp("us", tz="Mars/Olympus"))
    (bad,) = read_all(table(tmp_path, {"data_path": ["a.png"], "frame_range_from": taken}))
    assert problem_of(bad) == (
        "row 1: frame_range_from can't be read: 'Mars/Olympus' (timestamp[us, tz=Mars/Olympus])"
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("items.jsonl", b"", "holds no items"),
        ("items.jsonl", b"\n \n", "holds no items"),
        ("items.csv", b"\n\n", "is empty; its first line names the columns"),
        ("items.csv", b"data_path\n\n", "holds no items"),
        ("items.json", b"[]", "holds no items"),
        ("items.json", b'[{"data_path": "a"}', "is no whole array of JSON: it ends within element"),
        ("items.json", b'[{"data_path": "a"}] x', "more stands behind its end"),
        ("items.json", b'{\n  "data_path": "a"\n}\n', "is JSON over many lines"),
        ("items.json", b'{"images": [{"id": 1}]}', "its first row names neither of data_uuid"),
        ("items.jsonl", '{"data_path": "a"}'.encode("utf-16"), "is text in UTF-16"),
        ("items.csv", "data_path\na".encode("utf-16-be"), "holds zero bytes, as text in UTF-16"),
        ("items.jsonl", '{"data_path": "a"}'.encode("utf-16-le"), "holds zero bytes"),
        ("items.jsonl", '{"data_path": "a"}'.encode("utf-32-be"), "holds zero bytes"),
        ("items.csv", b"data_path;conf_thresh\na;1\n", "separated by semicolons"),
        ("items.csv", b"PK\x03\x04rest", "is a ZIP archive or a spreadsheet"),
        ("items.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a spreadsheet: save it as CSV"),
        ("items.csv", b"7z\xbc\xaf\x27\x1c", "is a 7z archive"),
        ("items.csv", b"\x04\x22\x4d\x18rest", "is packed with LZ4"),
        ("items.csv", zlib.compress(b"data_path\na\n"), "is packed with zlib"),
        ("items.csv.gz", gzip.compress(tar_of(b"data_path\na\n"), mtime=0), "is a tar archive"),
        ("items.jsonl", b"ARROW1\0\0", "is an Arrow file: save it as Parquet"),
        ("items.csv", b"ORC\x13\0\0\nrest", "is an ORC file: save it as Parquet"),
        ("items.csv", b"LZIP\x01rest", "is packed with lzip"),
        ("items.csv", b"<!DOCTYPE html><html>", "is a web page or XML"),
        ("items.jsonl", b"\n<?xml version='1.0'?><Error/>", "is a web page or XML"),
        ("items.csv", GIT_LFS, "is a pointer of Git LFS, not the file: run git lfs pull"),
        ("items.parquet", GIT_LFS, "is a pointer of Git LFS, not the file: run git lfs pull"),
        ("items.csv", b"data_path\ra\nb\r\n", "a carriage return stands alone in it"),
        ("items.jsonl", b"PAR1rest", "is a Parquet file: say so with --format parquet"),
        (
            "items.jsonl.gz",
            gzip.compress(b'{"data_path": "a"}\n' * 900, mtime=0)[:-9],
            "can't be read",
        ),
    ],
)
def test_a_source_that_is_something_else_or_nothing_is_told_by_name(
    name: str, text: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(text)
    with pytest.raises(SourceError, match=message) as raised:
        read_all(str(path), most=200)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize("column", ["ORC", "ORCID", "LZIP", "ARROW1", "Object", "BZhang", "x"])
def test_a_column_may_begin_as_a_file_of_another_kind_does(column: str, tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text(f"{column},data_path\n1,/a.png\n", "utf-8")
    assert len(read_all(str(path), most=200)) == 1


ROW = b'{"data_path": "/a.png"}'
LONG = b"[" + b",".join([ROW] * 4_000) + b"]"


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        # By its name it holds lines, wherever it was cut.
        ("cut.jsonl", b"[" + ROW + b"]", ["-line 1"]),
        ("cut.jsonl", b"[" + ROW + b"]\n", ["-line 1"]),
        ("cut.ndjson.gz", gzip.compress(b"[1]\n", mtime=0), ["-line 1"]),
        ("long.jsonl", LONG + b"\n" + ROW, ["-line 1", "line 2"]),
        # By what follows.
        ("items.json", b"[" + ROW + b"]\n", ["element 1"]),
        ("items.json", b"[" + ROW + b"]\n\n" + ROW + b"\n", ["-line 1", "line 3"]),
        ("items.json", b"[1]\nwhat\n" + ROW, ["-line 1", "-line 2", "line 3"]),
        ("items.json", b"[1,]\n" + ROW, ["-line 1", "line 2"]),
        ("items.json", b"\n" * 70_000 + ROW, ["line 70001"]),
    ],
)
def test_whether_a_file_is_one_array_or_lines_is_told_by_its_name_and_what_follows(
    name: str, text: bytes, places: list[str], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(text)
    rows = list(JsonLines(str(path)).rows(""))
    assert [f"{'-' * (row.fields is None)}{row.place}" for row in rows] == places
    if rows[0].place == "line 1":
        assert "file named .json" in rows[0].problem or rows[0].problem.startswith("not JSON"), rows


def test_a_pipe_that_pauses_behind_an_array_holds_lines_if_more_comes(tmp_path: Path) -> None:
    fifo = tmp_path / "items"
    os.mkfifo(fifo)

    def write() -> None:
        with fifo.open("wb", buffering=0) as file:
            file.write(b"[1]\n")
            # All that was written has been taken: a look at what is there sees no further.
            last = time.monotonic() + 60
            while (
                time.monotonic() < last
                and fcntl.ioctl(file, termios.FIONREAD, b"\0" * 4) != b"\0" * 4
            ):
                time.sleep(0.001)
            file.write(ROW + b"\n")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(write)
        rows = list(JsonLines(str(fifo)).rows(""))
    assert [row.place for row in rows] == ["line 1", "line 2"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64 * 1024])
def test_elements_of_an_array_are_found_however_the_bytes_come(size: int) -> None:
    elements = [{"a": '],"\\" [{'}, {"b": [1, [2, {}]]}, {}, {"c": "\\"}]

    class Slow:
        def __init__(self, text: bytes) -> None:
            self.text = text

        def read(self, most: int) -> bytes:
            most = min(most, size)
            part, self.text = self.text[:most], self.text[most:]
            return part

        read1 = read

    for indent in (None, 2):
        text = b" " + json.dumps(elements, indent=indent).encode() + b"\n"
        found: list[Any] = [json.loads(each) for each in Elements(Slow(text))]  # type: ignore[arg-type]
        assert found == elements


def test_an_element_that_is_not_there_is_bad_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "items.json"
    path.write_bytes(b'[{"data_path": "a"}, , {"data_path": "c"}]')
    rows = list(JsonLines(str(path)).rows(""))
    assert [(row.place, row.fields is not None) for row in rows] == [
        ("element 1", True),
        ("element 2", False),
        ("element 3", True),
    ]


def test_of_an_element_that_is_too_long_no_more_is_held_than_shows_it() -> None:
    text = b'["' + b"x" * (4 * MAX_ROW_BYTES) + b'", {}]'
    found = [len(each) for each in Elements(io.BufferedReader(io.BytesIO(text)))]
    assert found == [MAX_ROW_BYTES + 1, 2]


def test_a_table_without_columns_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"which item it is; it has no columns\. Name one"):
        read_all(table(tmp_path, {}))
