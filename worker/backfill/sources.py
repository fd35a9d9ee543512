"""Sources of items: JSON lines, CSV, Parquet, a folder of images, standard input.

Each yields its rows one after the other, whatever its size, and can go on behind a position.
Files are read through fsspec, so that they may lie on a disk or behind any URL that it knows;
`.gz` and the like are unpacked on the way.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, cast, get_args

import fsspec
import jiter

from schemas.commands import ItemField
from schemas.enums import SourceFormat
from worker.backfill.errors import SourceError
from worker.backfill.plan import STDIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from worker.backfill.plan import SourcePlan

# A longer line is no item: it holds a picture that belongs into a file.
MAX_ROW_BYTES: Final = 768 * 1024
PICTURE_SUFFIXES: Final = frozenset({
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".png",
    ".tif",
    ".tiff",
    ".webp",
})
ITEM_FIELDS: Final[tuple[str, ...]] = get_args(ItemField)
NAMING_FIELDS: Final = ("data_uuid", "data_path", "data_base64")
_PARQUET_ROWS: Final = 512
_SUFFIXES: Final = {
    ".jsonl": SourceFormat.JSONL,
    ".ndjson": SourceFormat.JSONL,
    ".json": SourceFormat.JSONL,
    ".csv": SourceFormat.CSV,
    ".parquet": SourceFormat.PARQUET,
    ".pq": SourceFormat.PARQUET,
}
_PACKED: Final = frozenset({".gz", ".bz2", ".xz", ".zst"})


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row of a source.

    Attributes:
        position: the source goes on behind it from here.
        place: where it stands, for people, like `line 3`.
        fields: what it says, by column; None where it can't be read at all.
        problem: why not.
        texts: whether all values are text, as in CSV.
    """

    position: str
    place: str
    fields: Mapping[str, Any] | None
    problem: str = ""
    texts: bool = False


class Source(Protocol):
    """What items are read from."""

    def rows(self, after: str) -> Iterator[SourceRow]:
        """Yields the rows behind a position, all of them for an empty one.

        Raises:
            SourceError: the source can't be read.
        """
        ...


def guess_format(location: str) -> SourceFormat:
    """Returns what a source is by its name.

    Raises:
        SourceError: its name does not tell.
    """
    if "://" not in location:
        if not Path(location).exists():
            raise SourceError(f"{location}: there is no such file or folder")
        if Path(location).is_dir():
            return SourceFormat.FOLDER
    suffixes = [suffix.lower() for suffix in Path(location.partition("?")[0]).suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    found = _SUFFIXES.get(suffixes[-1] if suffixes else "")
    if found is None:
        raise SourceError(
            f"{location}: its name does not tell whether it is JSON lines, CSV or Parquet; say so "
            "with the format"
        )
    return found


def open_source(plan: SourcePlan) -> Source:
    """Returns the source of a plan; nothing is opened before its rows are asked for."""
    match plan.format:
        case SourceFormat.JSONL:
            return JsonLines(plan.location)
        case SourceFormat.CSV:
            return Csv(plan.location, plan.columns)
        case SourceFormat.PARQUET:
            return Parquet(plan.location, plan.columns)
        case SourceFormat.FOLDER:
            return Folder(Path(plan.location))


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A JSON object on each line; blank lines are passed over. The position is a line's number."""

    location: str

    def rows(self, after: str) -> Iterator[SourceRow]:
        skipped = int(after or 0)
        with _opened(self.location) as file:
            for number, line in enumerate(_lines(file), 1):
                if number <= skipped or not line.strip():
                    continue
                yield self._row(number, line)

    def _row(self, number: int, line: bytes) -> SourceRow:
        position, place = str(number), f"line {number}"
        if len(line) > MAX_ROW_BYTES:
            return SourceRow(position, place, None, f"is longer than {MAX_ROW_BYTES} bytes")
        try:
            fields = jiter.from_json(line.strip(), catch_duplicate_keys=True, allow_inf_nan=False)
        except ValueError as exc:
            return SourceRow(position, place, None, f"is no JSON: {exc}")
        if not isinstance(fields, dict):
            return SourceRow(position, place, None, "is no JSON object")
        return SourceRow(position, place, fields)


@dataclass(frozen=True, slots=True)
class Csv:
    """Comma-separated values with a head. The position is the number of a row below the head."""

    location: str
    columns: Mapping[str, str]

    def rows(self, after: str) -> Iterator[SourceRow]:
        skipped = int(after or 0)
        with _opened(self.location) as file:
            # What is not UTF-8 spoils its own row only.
            text = io.TextIOWrapper(
                cast("IO[bytes]", file), "utf-8-sig", "surrogateescape", newline=""
            )
            reader = csv.reader(text)
            head = self._head(reader)
            number = 0
            while True:
                number += 1
                try:
                    values = next(reader)
                except StopIteration:
                    return
                except csv.Error as exc:
                    if number > skipped:
                        problem = f"is no row of CSV: {exc}"
                        yield SourceRow(str(number), f"line {reader.line_num}", None, problem)
                    continue
                if values and number > skipped:
                    yield self._row(number, f"line {reader.line_num}", head, values)

    def _head(self, reader: Iterator[list[str]]) -> list[str]:
        try:
            head = next(reader)
        except StopIteration:
            raise SourceError(f"{self.location}: is empty; its first line names the columns") from (
                None
            )
        except csv.Error as exc:
            raise SourceError(f"{self.location}: its first line is no CSV: {exc}") from exc
        _check_columns(self.location, head, self.columns)
        return head

    def _row(self, number: int, place: str, head: list[str], values: list[str]) -> SourceRow:
        position = str(number)
        if len(values) != len(head):
            problem = f"has {len(values)} values, and there are {len(head)} columns"
            return SourceRow(position, place, None, problem)
        if any("\udc80" <= character <= "\udcff" for value in values for character in value):
            return SourceRow(position, place, None, "is not UTF-8")
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
        with _opened(self.location) as file:
            try:
                table = parquet.ParquetFile(file)
            except (ValueError, OSError) as exc:
                raise SourceError(f"{self.location}: is no Parquet file: {exc}") from exc
            names = list(table.schema_arrow.names)
            _check_columns(self.location, names, self.columns)
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


@dataclass(frozen=True, slots=True)
class Folder:
    """The images below a folder, in the order of their names. The position is a relative path."""

    folder: Path

    def rows(self, after: str) -> Iterator[SourceRow]:
        if not self.folder.is_dir():
            raise SourceError(f"{self.folder}: there is no such folder")
        behind = tuple(after.split("/")) if after else ()
        for parts in self._walk((), behind):
            relative = "/".join(parts)
            path = self.folder.joinpath(*parts)
            yield SourceRow(relative, relative, {"data_path": str(path)})

    def _walk(self, within: tuple[str, ...], behind: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """Yields the parts of paths; the names of one folder at a time are in memory."""
        path = self.folder.joinpath(*within)
        try:
            with os.scandir(path) as entries:
                found = sorted(
                    (entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries
                )
        except OSError as exc:
            raise SourceError(f"{path}: can't be listed: {exc.strerror}") from exc
        for name, is_folder in found:
            parts = (*within, name)
            if is_folder and parts >= behind[: len(parts)]:
                yield from self._walk(parts, behind)
            elif not is_folder and parts > behind and Path(name).suffix.lower() in PICTURE_SUFFIXES:
                yield parts


def expected_items(plan: SourcePlan) -> int | None:
    """Returns about how many items a source has; None where that can't be told, or not quickly."""
    try:
        return _counted(plan)
    except (SourceError, OSError, ValueError, ModuleNotFoundError):
        # Whoever reads it is told what is wrong with it.
        return None


def _counted(plan: SourcePlan) -> int | None:
    if plan.format is SourceFormat.FOLDER:
        return sum(1 for _ in Folder(Path(plan.location)).rows(""))
    if plan.location == STDIN or "://" in plan.location or _is_packed(plan.location):
        return None
    if plan.format is SourceFormat.PARQUET:
        parquet = import_module("pyarrow.parquet")
        return int(parquet.ParquetFile(plan.location).metadata.num_rows)
    with Path(plan.location).open("rb") as file:
        lines = sum(1 for line in _lines(file) if line.strip())
    return max(0, lines - 1) if plan.format is SourceFormat.CSV else lines


def _is_packed(location: str) -> bool:
    return Path(location).suffix.lower() in _PACKED


def _check_columns(location: str, head: Sequence[str], columns: Mapping[str, str]) -> None:
    missing = [column for column in columns.values() if column not in head]
    has = f"its columns are {', '.join(head)}"
    if missing:
        raise SourceError(f"{location}: has no column {', '.join(missing)}; {has}")
    if not any(columns.get(field, field) in head for field in NAMING_FIELDS):
        raise SourceError(
            f"{location}: no column says which item it is; {has}. Name one data_uuid or "
            "data_path, or say which it is, like --map data_path=COLUMN"
        )


def _groups_behind(table: Any, skipped: int) -> tuple[list[int], int]:
    """Returns the row groups that are not wholly skipped, and how many rows stand before them."""
    before = 0
    for group in range(table.num_row_groups):
        rows = table.metadata.row_group(group).num_rows
        if before + rows > skipped:
            return list(range(group, table.num_row_groups)), before
        before += rows
    return [], before


def _lines(file: Iterable[bytes]) -> Iterator[bytes]:
    """Yields lines; of one that is too long no more than shows that it is."""
    read = cast("IO[bytes]", file).readline
    while line := read(MAX_ROW_BYTES + 1):
        rest = line
        while len(rest) > MAX_ROW_BYTES and not rest.endswith(b"\n"):
            rest = read(MAX_ROW_BYTES + 1)
        yield line


@contextmanager
def _opened(location: str) -> Iterator[Any]:
    """Opens a file to read bytes; whatever goes wrong on the way is the source's error."""
    try:
        if location == STDIN:
            yield sys.stdin.buffer
        else:
            with fsspec.open(location, "rb", compression="infer") as file:
                yield file
    except FileNotFoundError as exc:
        raise SourceError(f"{location}: there is no such file") from exc
    except (OSError, ValueError, ImportError, EOFError) as exc:
        said = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise SourceError(f"{location}: can't be read: {said or type(exc).__name__}") from exc
