"""Sources of items: JSON lines, CSV, Parquet, a folder of images, standard input.

Each yields its rows one after the other, whatever its size, and can go on behind a position.
They are read through fsspec, so that they may lie on a disk or behind any URL that it knows;
`.gz` and the like are unpacked on the way.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from schemas.enums import SourceFormat
from worker.backfill.errors import SourceError
from worker.backfill.folders import Folder
from worker.backfill.plan import STDIN
from worker.backfill.rows import lines
from worker.backfill.tables import Csv, JsonLines, Parquet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.backfill.plan import SourcePlan
    from worker.backfill.rows import SourceRow

_SUFFIXES: Final = {
    ".jsonl": SourceFormat.JSONL,
    ".ndjson": SourceFormat.JSONL,
    ".json": SourceFormat.JSONL,
    ".csv": SourceFormat.CSV,
    ".parquet": SourceFormat.PARQUET,
    ".pq": SourceFormat.PARQUET,
}
_PACKED: Final = frozenset({".gz", ".bz2", ".xz", ".zst"})


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
    if "://" in location:
        # Object stores have no folders that could be told from files by looking.
        if location.endswith("/"):
            return SourceFormat.FOLDER
    else:
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
            f"{location}: its name does not tell whether it is JSON lines, CSV or Parquet: say so "
            "with --format (in a command: format), or end a folder's URL in /"
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
            return Folder(plan.location)


def expected_items(plan: SourcePlan) -> int | None:
    """Returns about how many items a source has; None where that can't be told, or not quickly."""
    try:
        return _counted(plan)
    except (SourceError, OSError, ValueError, ModuleNotFoundError):
        # Whoever reads it is told what is wrong with it.
        return None


def _counted(plan: SourcePlan) -> int | None:
    if plan.location == STDIN or "://" in plan.location or _is_packed(plan.location):
        return None
    if plan.format is SourceFormat.FOLDER:
        return sum(1 for _ in Folder(plan.location).rows(""))
    if plan.format is SourceFormat.PARQUET:
        parquet = import_module("pyarrow.parquet")
        return int(parquet.ParquetFile(plan.location).metadata.num_rows)
    with Path(plan.location).open("rb") as file:
        count = sum(1 for line in lines(file) if line.strip())
    return max(0, count - 1) if plan.format is SourceFormat.CSV else count


def _is_packed(location: str) -> bool:
    return Path(location).suffix.lower() in _PACKED
