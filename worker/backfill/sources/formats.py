"""Sources of items: JSON lines, CSV, Parquet, a folder of images or of such files, standard input.

Each yields its rows one after the other, whatever its size, and can go on behind a position.
They may lie on a disk or behind any URL that fsspec knows; what is packed is unpacked on the way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.enums import SourceFormat
from worker.backfill.errors import SourceError
from worker.backfill.locations import STDIN, is_packed, shown_place, suffix_of
from worker.backfill.sources.folders import TABLE_FORMATS, Folder, Parts, folder_format
from worker.backfill.sources.json_rows import JsonLines, holds_array
from worker.backfill.sources.opening import readable
from worker.backfill.sources.rows import lines
from worker.backfill.sources.tables import Csv, Parquet
from worker.paths import is_folder

if TYPE_CHECKING:
    from worker.backfill.plan import SourcePlan
    from worker.backfill.sources.rows import Source


def guess_format(location: str, *, follows: bool = True) -> SourceFormat:
    """Returns what a source is by its name, or a folder by what it holds.

    Args:
        location: a path or a URL.
        follows: whether a server may send us on to another one.

    Raises:
        SourceError: it does not tell, or can't be looked at.
    """
    if "://" not in location:
        _look_at(location)
    if _is_folder(location):
        return folder_format(location, follows=follows)
    found = TABLE_FORMATS.get(suffix_of(location))
    if found is None:
        raise SourceError(
            f"{shown_place(location)}: its name does not tell whether it is JSON lines, CSV or "
            "Parquet: say so with --format (in a command: format), or end a folder's URL in /"
        )
    return found


def open_source(
    plan: SourcePlan, *, follows: bool = True, passed: Counter[str] | None = None
) -> Source:
    """Returns the source of a plan; nothing is opened before its rows are asked for.

    Args:
        plan: of the source.
        follows: whether a server may send us on to another one.
        passed: counts what a folder holds besides items, by its kind, as far as it was read.
    """
    passed = Counter() if passed is None else passed
    if plan.format is SourceFormat.FOLDER:
        return Folder(plan.location, passed, follows)
    if plan.location != STDIN and _is_folder(plan.location):
        open_part = partial(_open_part, plan, follows=follows)
        return Parts(plan.location, plan.format, open_part, plan.columns, passed, follows)
    return _open_file(plan, follows=follows)


def _look_at(path: str) -> None:
    """Does nothing if something lies at a path that this process can see.

    Raises:
        SourceError: it does not, or may not be looked at.
    """
    with readable(path):
        try:
            Path(path).stat()
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise SourceError(f"{path}: there is no such file or folder") from exc


def _is_folder(location: str) -> bool:
    # Object stores have no folders that could be told from files by looking.
    return location.endswith("/") if "://" in location else is_folder(location)


def _open_part(plan: SourcePlan, location: str, *, follows: bool) -> Source:
    return _open_file(replace(plan, location=location), follows=follows)


def _open_file(plan: SourcePlan, *, follows: bool) -> Source:
    if plan.format is SourceFormat.CSV:
        return Csv(plan.location, plan.columns, follows)
    if plan.format is SourceFormat.PARQUET:
        return Parquet(plan.location, plan.columns, follows)
    return JsonLines(plan.location, follows)


def expected_items(plan: SourcePlan) -> int | None:
    """Returns about how many items a source has; None where that can't be told, or not quickly."""
    try:
        return _counted(plan)
    except (SourceError, OSError, ValueError, ModuleNotFoundError):
        # Whoever reads it is told what is wrong with it.
        return None


def _counted(plan: SourcePlan) -> int | None:
    if plan.location == STDIN or "://" in plan.location or is_packed(plan.location):
        return None
    source = open_source(plan)
    if isinstance(source, Folder):
        return sum(1 for _ in source.rows(""))
    if isinstance(source, Parts):
        counts = [_counted(replace(plan, location=part)) for part in source.part_locations()]
        return None if None in counts else sum(count or 0 for count in counts)
    if plan.format is SourceFormat.PARQUET:
        parquet = import_module("pyarrow.parquet")
        return int(parquet.ParquetFile(plan.location).metadata.num_rows)
    with Path(plan.location).open("rb") as file:
        whole = file
        if plan.format is SourceFormat.JSONL:
            is_array, whole = holds_array(plan.location, file)
            if is_array:
                return None
        count = sum(1 for line in lines(whole) if line.strip())
    return max(0, count - 1) if plan.format is SourceFormat.CSV else count
