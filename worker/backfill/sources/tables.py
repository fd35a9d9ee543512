"""Sources that are one table: CSV, Parquet."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Final, cast

import structlog

from schemas.wording import counted
from worker.backfill.errors import EmptySourceError, ShortSourceError, SourceError
from worker.backfill.locations import shown_place
from worker.backfill.sources.opening import (
    KIND_BYTES,
    PARQUET,
    check_text,
    opened,
    problem_of_kind,
)
from worker.backfill.sources.rows import (
    BYTE_ORDER_MARK,
    ITEM_FIELDS,
    MAX_ROW_BYTES,
    SHOWN_CHARACTERS,
    SourceRow,
    check_columns,
    lines,
    read_row,
)

log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PARQUET_ROWS: Final = 512
# Of rows that may hold their pictures, fewer are in memory.
_PICTURE_ROWS: Final = 16
_NOT_CLOSED: Final = "a quotation mark that is not closed"
_TOO_LONG: Final = f"longer than {MAX_ROW_BYTES} bytes"
# Most that a character takes.
_UTF8_BYTES: Final = 4
_BLANK_END: Final = re.compile(r'"[ \t]+(?=,|\r?\n|$)')
_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, slots=True)
class Csv:
    """Comma-separated values with a head. The position is the number of a row below the head.

    Blanks around values and rows without any are none of its content.
    """

    location: str
    columns: Mapping[str, str]
    follows: bool = True

    def rows(self, after: str) -> Iterator[SourceRow]:
        skipped = int(after or 0)
        # A picture in base64 has more than the 131,072 that Python takes unless told.
        csv.field_size_limit(MAX_ROW_BYTES)
        with opened(self.location, follows=self.follows) as file:
            check_text(self.location, file)
            text = _Lines(_text_lines(file))
            reader = csv.reader(text)
            head = self._head(reader)
            number = 0
            while True:
                number += 1
                line = reader.line_num + 1
                text.row.clear()
                try:
                    values = next(reader)
                except StopIteration:
                    if number <= skipped:
                        raise ShortSourceError(self.location, "row", number - 1, skipped) from None
                    return
                except csv.Error as exc:
                    if number > skipped:
                        place = _lines_from(line, reader)
                        yield SourceRow(str(number), place, None, _problem_of(exc), text.shown)
                    continue
                if number > skipped and any(map(str.strip, values)):
                    place = _lines_from(line, reader)
                    if text.is_long:
                        # Its end was not read: the last value would be a part of what it says.
                        yield SourceRow(str(number), place, None, _TOO_LONG, text.shown)
                    elif text.ended or (len(text.row) > 1 and not _is_closed(text.row)):
                        # Or the rows that it swallows would be missing without a word.
                        problem = f"no row of CSV: {_NOT_CLOSED}"
                        yield SourceRow(str(number), place, None, problem, text.shown)
                    else:
                        yield _csv_row(number, place, head, values)

    def _head(self, reader: Iterator[list[str]]) -> list[str]:
        where = shown_place(self.location)
        try:
            names = next((each for each in reader if any(map(str.strip, each))), None)
        except csv.Error as exc:
            raise SourceError(f"{where}: its first line is {_problem_of(exc)}") from exc
        if names is None:
            raise EmptySourceError(f"{where}: is empty; its first line names the columns")
        head = [name.strip() for name in names]
        if len(head) == 1:
            for separator, called in _SEPARATORS.items():
                if separator in head[0]:
                    raise SourceError(
                        f"{where}: its columns are separated by {called}: save it with commas"
                    )
        check_columns(self.location, head, self.columns)
        return head


def _text_lines(file: IO[bytes]) -> Iterator[str]:
    """Yields lines of text; what is not UTF-8 spoils its own row only."""
    head = bytes(cast("io.BufferedReader", file).peek(io.DEFAULT_BUFFER_SIZE))
    if b"\r" in head and b"\n" not in head:
        # As some old programs end their lines.
        text_file = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape")
        try:
            yield from text_file
        finally:
            # Who opened the file closes it.
            text_file.detach()
        return
    first = True
    for line in lines(file):
        text = line.removeprefix(BYTE_ORDER_MARK) if first else line
        first = False
        yield text.decode("utf-8", "surrogateescape")


class _Lines:
    """Lines of text for `csv.reader`, which tells neither where its row began nor how it ended.

    Attributes:
        row: the lines since it was cleared.
        ended: whether the reader asked for one behind the last: within a row, only a quotation mark
            that is not closed has it do so.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.row: list[str] = []
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        self.row.append(line)
        return line

    @property
    def shown(self) -> str:
        """The beginning of the row, for people."""
        return _cut("".join(line[:SHOWN_CHARACTERS] for line in self.row[:SHOWN_CHARACTERS]))

    @property
    def is_long(self) -> bool:
        """Whether a line of the row is longer than what is read of one."""
        return any(
            len(line) > MAX_ROW_BYTES // _UTF8_BYTES
            and len(line.encode("utf-8", "surrogateescape")) > MAX_ROW_BYTES
            for line in self.row
        )


def _problem_of(error: csv.Error) -> str:
    """Returns what is wrong with a row, in words for who wrote it and not for who reads it."""
    said = str(error)
    if "field larger than" in said:
        return _TOO_LONG
    if "new-line character" in said:
        return "no row of CSV: a carriage return stands alone in it; end all lines alike"
    return f"no row of CSV: {said}"


def _is_closed(row: list[str]) -> bool:
    """Tells whether each value of a row that goes over several lines ends in its quotation mark.

    Where one is not closed, the next value's opening mark closes it, and more stands behind that.
    """
    # Blanks behind a value are none of its content.
    strict = [_BLANK_END.sub('"', line) for line in row]
    try:
        return len(list(csv.reader(strict, strict=True))) == 1
    except csv.Error:
        return False


def _csv_row(number: int, place: str, head: list[str], values: list[str]) -> SourceRow:
    position = str(number)
    if len(values) != len(head):
        wanted = counted(len(head), "column")
        problem = f"{counted(len(values), 'value')} where the head names {wanted}"
        if "to" in place:
            problem += f"; {_NOT_CLOSED}?"
        return SourceRow(position, place, None, problem, _cut(",".join(values)))
    if any("\udc80" <= character <= "\udcff" for value in values for character in value):
        return SourceRow(position, place, None, "not UTF-8", _cut(",".join(values)))
    fields = {
        name: value for name, value in zip(head, values, strict=True) if name and value.strip()
    }
    return SourceRow(position, place, fields, texts=True)


@dataclass(frozen=True, slots=True)
class Parquet:
    """A Parquet file. The position is the number of a row."""

    location: str
    columns: Mapping[str, str]
    follows: bool = True

    def rows(self, after: str) -> Iterator[SourceRow]:
        where = shown_place(self.location)
        try:
            parquet = import_module("pyarrow.parquet")
        except ModuleNotFoundError as exc:
            raise SourceError(
                f"{where}: Parquet needs the package pyarrow: install trainmaster[parquet]"
            ) from exc
        skipped = int(after or 0)
        with opened(self.location, follows=self.follows, seeks=True) as file:
            try:
                table = parquet.ParquetFile(file)
            except (ValueError, OSError) as exc:
                file.seek(0)
                head = file.read(KIND_BYTES)
                # One that begins as Parquet does was cut off, or is broken.
                problem = None if head.startswith(PARQUET) else problem_of_kind(head)
                raise SourceError(f"{where}: {problem or f'is no Parquet file: {exc}'}") from exc
            names = list(table.schema_arrow.names)
            check_columns(self.location, names, self.columns)
            wanted = {self.columns.get(field, field) for field in ITEM_FIELDS}
            has_pictures = self.columns.get("data_base64", "data_base64") in names
            # Whole groups of rows that were read before are passed over unread.
            groups, number = _groups_behind(table, skipped)
            batches = table.iter_batches(
                _PICTURE_ROWS if has_pictures else _PARQUET_ROWS,
                row_groups=groups,
                columns=[name for name in names if name in wanted],
            )
            for batch in self._whole(batches):
                for row in _parquet_rows(batch, number):
                    number += 1
                    if number > skipped:
                        yield row
            if number < skipped:
                raise ShortSourceError(self.location, "row", number, skipped)

    def _whole(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from batches
        except OSError as exc:
            if exc.errno is not None or "://" in self.location:
                # The disk or the server says so, and may not do so in a moment.
                raise
            said = " ".join(str(exc).split())[:200]
            where = shown_place(self.location)
            raise SourceError(f"{where}: a part of it is broken: {said}") from exc


def _parquet_rows(batch: Any, before: int) -> Iterator[SourceRow]:
    try:
        found = batch.to_pylist()
    except Exception:  # noqa: BLE001 - each row tells what is wrong with it
        # One value that Python has no word for spoils its own row only.
        for index in range(batch.num_rows):
            position, place = str(before + index + 1), f"row {before + index + 1}"
            yield read_row(position, place, _ParquetRow(batch, index, position, place))
        return
    for number, fields in enumerate(found, before + 1):
        said = {name: value for name, value in fields.items() if value is not None}
        yield SourceRow(str(number), f"row {number}", said)


@dataclass(frozen=True, slots=True)
class _ParquetRow:
    batch: Any
    index: int
    position: str
    place: str

    def __call__(self) -> SourceRow:
        said: dict[str, Any] = {}
        for name in self.batch.schema.names:
            try:
                value = self.batch.column(name)[self.index].as_py()
            except Exception as exc:  # noqa: BLE001 - a zone that is none is a KeyError, and so on
                kind = self.batch.schema.field(name).type
                # What pyarrow says behind it is advice to who programs.
                told = str(exc).partition(". ")[0][:200]
                problem = f"{name} can't be read: {told} ({kind})"
                return SourceRow(self.position, self.place, None, problem)
            if value is not None:
                said[name] = value
        return SourceRow(self.position, self.place, said)


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
