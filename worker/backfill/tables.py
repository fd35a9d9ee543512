"""Sources that are one file: JSON lines, CSV, Parquet."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Final, cast

import jiter

from worker.backfill.errors import SourceError
from worker.backfill.rows import (
    ITEM_FIELDS,
    MAX_ROW_BYTES,
    SHOWN_CHARACTERS,
    SourceRow,
    check_columns,
    lines,
    opened,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PARQUET_ROWS: Final = 512


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A JSON object on each line; blank lines are passed over. The position is a line's number."""

    location: str

    def rows(self, after: str) -> Iterator[SourceRow]:
        skipped = int(after or 0)
        with opened(self.location) as file:
            for number, line in enumerate(lines(file), 1):
                if number <= skipped or not line.strip():
                    continue
                yield self._row(number, line)

    def _row(self, number: int, line: bytes) -> SourceRow:
        if len(line) > MAX_ROW_BYTES:
            return self._bad(number, line, f"longer than {MAX_ROW_BYTES} bytes")
        try:
            fields = jiter.from_json(line.strip(), catch_duplicate_keys=True, allow_inf_nan=False)
        except ValueError as exc:
            # Each line is a text of its own: which of its lines it is says nothing.
            problem = f"not JSON: {str(exc).replace(' at line 1 column', ' at column')}"
            return self._bad(number, line, problem)
        if not isinstance(fields, dict):
            return self._bad(number, line, "no JSON object")
        return SourceRow(str(number), f"line {number}", fields)

    def _bad(self, number: int, line: bytes, problem: str) -> SourceRow:
        raw = line[:SHOWN_CHARACTERS].decode("utf-8", "replace").strip()
        return SourceRow(str(number), f"line {number}", None, problem, raw)


@dataclass(frozen=True, slots=True)
class Csv:
    """Comma-separated values with a head. The position is the number of a row below the head."""

    location: str
    columns: Mapping[str, str]

    def rows(self, after: str) -> Iterator[SourceRow]:
        skipped = int(after or 0)
        with opened(self.location) as file:
            # What is not UTF-8 spoils its own row only.
            text = io.TextIOWrapper(
                cast("IO[bytes]", file), "utf-8-sig", "surrogateescape", newline=""
            )
            reader = csv.reader(text)
            head = self._head(reader)
            number = 0
            while True:
                number += 1
                line = reader.line_num + 1
                try:
                    values = next(reader)
                except StopIteration:
                    return
                except csv.Error as exc:
                    if number > skipped:
                        problem = f"no row of CSV: {exc}"
                        yield SourceRow(str(number), _lines_from(line, reader), None, problem)
                    continue
                if values and number > skipped:
                    yield self._row(number, _lines_from(line, reader), head, values)

    def _head(self, reader: Iterator[list[str]]) -> list[str]:
        try:
            head = next(reader)
        except StopIteration:
            raise SourceError(f"{self.location}: is empty; its first line names the columns") from (
                None
            )
        except csv.Error as exc:
            raise SourceError(f"{self.location}: its first line is no CSV: {exc}") from exc
        check_columns(self.location, head, self.columns)
        return head

    def _row(self, number: int, place: str, head: list[str], values: list[str]) -> SourceRow:
        position = str(number)
        if len(values) != len(head):
            found = "1 value" if len(values) == 1 else f"{len(values)} values"
            problem = f"{found} where the head names {len(head)} columns"
            if "to" in place:
                problem += "; a quotation mark that is not closed?"
            return SourceRow(position, place, None, problem, _cut(",".join(values)))
        if any("\udc80" <= character <= "\udcff" for value in values for character in value):
            return SourceRow(position, place, None, "not UTF-8", _cut(",".join(values)))
        fields = {name: value for name, value in zip(head, values, strict=True) if value}
        return SourceRow(position, place, fields, texts=True)


@dataclass(frozen=True, slots=True)
class Parquet:
    """A Parquet file. The position is the number of a row."""

    location: str
    columns: Mapping[str, str]

    def rows(self, after: str) -> Iterator[SourceRow]:
        try:
            parquet = import_module("pyarrow.parquet")
        except ModuleNotFoundError as exc:
            raise SourceError(
                f"{self.location}: Parquet needs the package pyarrow: install trainmaster[parquet]"
            ) from exc
        skipped = int(after or 0)
        with opened(self.location) as file:
            try:
                table = parquet.ParquetFile(file)
            except (ValueError, OSError) as exc:
                raise SourceError(f"{self.location}: is no Parquet file: {exc}") from exc
            names = list(table.schema_arrow.names)
            check_columns(self.location, names, self.columns)
            wanted = {self.columns.get(field, field) for field in ITEM_FIELDS}
            # Whole groups of rows that were read before are passed over unread.
            groups, number = _groups_behind(table, skipped)
            for batch in table.iter_batches(
                _PARQUET_ROWS, row_groups=groups, columns=[name for name in names if name in wanted]
            ):
                for fields in batch.to_pylist():
                    number += 1
                    if number > skipped:
                        said = {name: value for name, value in fields.items() if value is not None}
                        yield SourceRow(str(number), f"row {number}", said)


def _lines_from(line: int, reader: Any) -> str:
    """Returns which lines a row of CSV is: a quoted value may go over many."""
    last = reader.line_num
    return f"line {line}" if last <= line else f"lines {line} to {last}"


def _cut(text: str) -> str:
    return text[:SHOWN_CHARACTERS].encode("utf-8", "replace").decode()


def _groups_behind(table: Any, skipped: int) -> tuple[list[int], int]:
    """Returns the row groups that are not wholly skipped, and how many rows stand before them."""
    before = 0
    for group in range(table.num_row_groups):
        rows = table.metadata.row_group(group).num_rows
        if before + rows > skipped:
            return list(range(group, table.num_row_groups)), before
        before += rows
    return [], before
