"""One record of a Parquet part is found without the others, and within bounds."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest
from pyarrow import parquet

from schemas.enums import PartFormat
from worker.backfill.results.part_search import PartTooLargeError, find_in_parquet
from worker.backfill.results.parts import part_writer

MOST = 1_000_000
# Of each group the items that ended in it, in the order in which they did.
GROUPS = ((3, 0, 2), (7, 5), (9, 6, 8))


def record(item: int) -> dict[str, Any]:
    told = {"item": item, "state": "succeeded", "data_path": f"images/{item}.png", "frames": {}}
    return told | ({"input": {"data_path": item}} if item == 5 else {})


@pytest.fixture
def part() -> io.BytesIO:
    """A part of three groups of rows."""
    file = io.BytesIO()
    with part_writer(file, PartFormat.PARQUET) as writer:
        for group in GROUPS:
            writer.write([orjson.dumps(record(item)) for item in group])
    return io.BytesIO(file.getvalue())


@pytest.mark.parametrize("item", [item for group in GROUPS for item in group])
def test_what_an_item_was_about_is_found_in_whichever_group_it_stands(
    part: io.BytesIO, item: int
) -> None:
    told = {"input": {"data_path": 5}} if item == 5 else {}
    assert find_in_parquet(part, item, MOST) == {
        "item": item,
        "data_path": f"images/{item}.png",
        **told,
    }


# Before all, within a group and in none of its rows, between two groups, and behind all.
@pytest.mark.parametrize("item", [-1, 1, 4, 10])
def test_an_item_that_has_no_row_is_found_in_none(part: io.BytesIO, item: int) -> None:
    assert find_in_parquet(part, item, MOST) is None


def test_no_more_is_unpacked_than_may_be_and_groups_that_can_t_hold_it_cost_nothing(
    part: io.BytesIO,
) -> None:
    found = parquet.ParquetFile(io.BytesIO(part.getvalue()))
    columns = {name: at for at, name in enumerate(found.schema_arrow.names)}
    footer = int.from_bytes(part.getvalue()[-8:-4], "little")

    def cost(number: int, *names: str) -> int:
        group = found.metadata.row_group(number)
        return sum(group.column(columns[name]).total_uncompressed_size for name in names)

    needed = footer + cost(2, "item", "data_path", "data_uuid", "input")
    assert find_in_parquet(part, 8, needed) is not None
    for least in (needed - 1, footer + cost(2, "item") - 1, footer - 1, 0):
        with pytest.raises(PartTooLargeError):
            find_in_parquet(part, 8, least)
    # Item 1 may stand in the first group by what is told of that, and does not.
    assert find_in_parquet(part, 1, footer + cost(0, "item")) is None
    assert find_in_parquet(part, 10, footer) is None


@pytest.mark.parametrize("content", [b"", b"PAR", b"no part of ours"])
def test_what_is_no_parquet_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(ValueError, match="no Parquet"):
        find_in_parquet(io.BytesIO(content), 1, MOST)
