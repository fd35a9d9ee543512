"""One record of a part, without the others: what an item was about.

Of a Parquet part only the columns that tell this are unpacked, and of these only the group of rows
in which the item stands.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Final

from schemas.json_text import decode_json
from worker.backfill.results.parts import INPUT

if TYPE_CHECKING:
    from worker.backfill.results.parts import Record

_ITEM: Final = "item"
_TOLD: Final = ("data_path", "data_uuid", INPUT)
# A file ends with the length of its footer, 4 bytes, and 4 bytes that say what it is.
_TAIL_BYTES: Final = 8
_MAGIC: Final = b"PAR1"


class PartTooLargeError(Exception):
    """More would have to be read for the record than may be."""


def find_in_parquet(file: IO[bytes], item: int, most_bytes: int) -> Record | None:
    """Returns what an item was about; None where it stands in no row.

    Args:
        file: the part, in which can be sought.
        item: its number.
        most_bytes: of the footer, and of what is unpacked of the columns.

    Raises:
        PartTooLargeError: that is not enough.
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: the file is no part in Parquet.
    """
    parquet = import_module("pyarrow.parquet")
    left = most_bytes - _footer_bytes(file)
    if left < 0:
        raise PartTooLargeError
    table = parquet.ParquetFile(file)
    columns = {name: at for at, name in enumerate(table.schema_arrow.names)}
    told = [name for name in _TOLD if name in columns]
    for number in range(table.num_row_groups):
        group = table.metadata.row_group(number)
        if not _may_hold(group.column(columns[_ITEM]).statistics, item):
            continue
        left -= group.column(columns[_ITEM]).total_uncompressed_size
        if left < 0:
            raise PartTooLargeError
        items = _read(table, number, [_ITEM])[_ITEM].to_pylist()
        if item not in items:
            continue
        left -= sum(group.column(columns[name]).total_uncompressed_size for name in told)
        if left < 0:
            raise PartTooLargeError
        (row,) = _read(table, number, told).slice(items.index(item), 1).to_pylist()
        return _record(item, row)
    return None


def _footer_bytes(file: IO[bytes]) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    file.seek(0)
    if not tail.endswith(_MAGIC):
        raise ValueError("no Parquet file")
    return int.from_bytes(tail[:4], "little")


def _may_hold(statistics: Any, item: int) -> bool:
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= item <= statistics.max)


def _read(table: Any, group: int, columns: list[str]) -> Any:
    # In this thread alone: pyarrow's own would be as many as there are cores.
    return table.read_row_group(group, columns=columns, use_threads=False)


def _record(item: int, row: Record) -> Record:
    record = {_ITEM: item} | {name: value for name, value in row.items() if value is not None}
    if INPUT in record:
        record[INPUT] = decode_json(record[INPUT].encode())
    return record
