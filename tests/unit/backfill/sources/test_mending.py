"""Bad rows as `failures.jsonl` keeps them: put right there, each is a row of a source again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.backfill.sources.reading import data_of, problem_of, read_all

if TYPE_CHECKING:
    from pathlib import Path

    from worker.backfill.store import FeedItem

COLUMNS = {"data_path": "file", "conf_thresh": "score", "frame_range_from": "first"}


def kept(item: FeedItem) -> dict[str, Any]:
    said: dict[str, Any] = orjson.loads(item.problem)["input"]
    return said


def write_rows(folder: Path, kind: str, rows: list[dict[str, Any]]) -> str:
    path = folder / f"items.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_bad_row_of_mapped_columns_is_a_good_one_elsewhere_once_it_is_put_right(
    kind: str, tmp_path: Path
) -> None:
    """It says its parameters by their own names, with whole paths, and numbers as numbers."""
    path = "pictures/" + "x" * 200 + ".png"
    rows = [{"file": path, "score": 0.25, "first": -1, "note": "n", "data_path": "other.png"}]
    (item,) = read_all(write_rows(tmp_path, kind, rows), COLUMNS)
    found = kept(item)
    whole = str(tmp_path / path)
    # Of Parquet only the columns that say something are read.
    found.pop("note", None)
    assert found == {"data_path": whole, "conf_thresh": 0.25, "frame_range_from": -1}

    elsewhere = tmp_path / "results"
    elsewhere.mkdir()
    mended = write_rows(elsewhere, "jsonl", [found | {"frame_range_from": 1}])
    data = data_of(read_all(mended)[0])
    assert (data["data_path"], data["conf_thresh"], data["frame_range_from"]) == (whole, 0.25, 1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("1e400", "conf_thresh must be a number"),
        ("[0.5]", "conf_thresh must be a number"),
        ('"high"', "conf_thresh must be a number"),
    ],
)
def test_what_is_wrong_with_a_row_is_still_wrong_if_it_runs_again_as_it_is(
    wrong: str, said: str, tmp_path: Path
) -> None:
    """JSON has no word for infinity, and null would mean that the row says nothing."""
    source = tmp_path / "items.jsonl"
    source.write_text('{"data_path": "a.png", "conf_thresh": ' + wrong + "}")
    again = write_rows(tmp_path, "again.jsonl", [kept(read_all(str(source))[0])])
    assert said in problem_of(read_all(again)[0])


def test_null_in_a_bad_row_stays_null_and_a_cut_value_is_none_of_its_kind(tmp_path: Path) -> None:
    picture = "A" * 8000
    rows = [{"data_base64": picture, "data_path": None, "conf_thresh": 7, "more": [1]}]
    (item,) = read_all(write_rows(tmp_path, "jsonl", rows))
    found = kept(item)
    assert (found["data_path"], found["conf_thresh"]) == (None, 7)
    again = write_rows(tmp_path, "again.jsonl", [found | {"conf_thresh": 0.5}])
    assert "data_base64 must be padded base64" in problem_of(read_all(again)[0])


@pytest.mark.parametrize("value", [[], {}, [1]])
def test_a_list_where_true_or_false_is_meant_is_told_as_one(value: object, tmp_path: Path) -> None:
    row = {"data_path": "a.png", "allocation_enabled": value}
    (item,) = read_all(write_rows(tmp_path, "jsonl", [row]))
    assert "allocation_enabled must be true or false, and is a " in problem_of(item)
