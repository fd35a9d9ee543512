"""Rows of sources, and how their bytes are opened."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, cast, get_args

import fsspec

from schemas.predictions import ItemField
from worker.backfill.errors import SourceError
from worker.backfill.plan import STDIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# What a record of a bad row repeats of it.
SHOWN_CHARACTERS: Final = 500
# A longer line is no item: it holds a picture that belongs into a file.
MAX_ROW_BYTES: Final = 768 * 1024
ITEM_FIELDS: Final[tuple[str, ...]] = get_args(ItemField)
NAMING_FIELDS: Final = ("data_uuid", "data_path", "data_base64")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row of a source.

    Attributes:
        position: the source goes on behind it from here.
        place: where it stands, for people, like `line 3`.
        fields: what it says, by column; None where it can't be read at all.
        problem: why not, in words that follow `place: `.
        raw: what stands there instead, cut.
        texts: whether all values are text, as in CSV.
    """

    position: str
    place: str
    fields: Mapping[str, Any] | None
    problem: str = ""
    raw: str = ""
    texts: bool = False


def check_columns(location: str, head: Sequence[str], columns: Mapping[str, str]) -> None:
    """Does nothing if a table has the columns that are mapped, and one that names its items.

    Raises:
        SourceError: it has not; the message lists those that it has.
    """
    missing = [column for column in columns.values() if column not in head]
    has = f"its columns are {', '.join(head)}"
    if missing:
        raise SourceError(f"{location}: has no column {', '.join(missing)}; {has}")
    if not any(columns.get(field, field) in head for field in NAMING_FIELDS):
        raise SourceError(
            f"{location}: no column says which item it is; {has}. Name one data_uuid or "
            "data_path, or say which it is, like --map data_path=COLUMN"
        )


def lines(file: Iterable[bytes]) -> Iterator[bytes]:
    """Yields lines; of one that is too long no more than shows that it is."""
    read = cast("IO[bytes]", file).readline
    while line := read(MAX_ROW_BYTES + 1):
        rest = line
        while len(rest) > MAX_ROW_BYTES and not rest.endswith(b"\n"):
            rest = read(MAX_ROW_BYTES + 1)
        yield line


@contextmanager
def opened(location: str) -> Iterator[Any]:
    """Opens a file to read bytes; whatever goes wrong on the way is the source's error."""
    with readable(location):
        if location == STDIN:
            yield sys.stdin.buffer
        else:
            with fsspec.open(location, "rb", compression="infer") as file:
                yield file


@contextmanager
def readable(location: str) -> Iterator[None]:
    """Turns what goes wrong with a source while it is entered into its error.

    Raises:
        SourceError: it can't be read.
    """
    try:
        yield
    except FileNotFoundError as exc:
        raise SourceError(f"{location}: there is no such file") from exc
    except (OSError, ValueError, ImportError, EOFError) as exc:
        said = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise SourceError(f"{location}: can't be read: {said or type(exc).__name__}") from exc
