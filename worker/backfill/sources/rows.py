"""Sources and their rows: what each says, or what is wrong with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, cast, get_args

import structlog

from schemas.backfills import ItemField
from worker.backfill.errors import SourceError
from worker.backfill.locations import shown_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

log = structlog.get_logger(__name__)

# What a record of a bad row repeats of it.
SHOWN_CHARACTERS: Final = 500
# A longer line is no item: it holds a picture that belongs into a file.
MAX_ROW_BYTES: Final = 768 * 1024
ITEM_FIELDS: Final[tuple[str, ...]] = get_args(ItemField)
NAMING_FIELDS: Final = ("data_uuid", "data_path", "data_base64")
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_MOST_COLUMNS: Final = 40


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
        manifest: the file that it stands in, where that is one of many; else empty.
    """

    position: str
    place: str
    fields: Mapping[str, Any] | None
    problem: str = ""
    raw: str = ""
    texts: bool = False
    manifest: str = ""


class Source(Protocol):
    """What items are read from."""

    def rows(self, after: str) -> Iterator[SourceRow]:
        """Yields the rows behind a position, all of them for an empty one.

        Raises:
            SourceError: the source can't be read.
        """
        ...


def check_columns(location: str, head: Sequence[str], columns: Mapping[str, str]) -> None:
    """Does nothing if a table has the columns that are mapped, each once, and names its items.

    Raises:
        SourceError: it has not; the message lists those that it has.
    """
    where = shown_place(location)
    doubled = [name for name, count in Counter(head).items() if count > 1 and name]
    if doubled:
        raise SourceError(
            f"{where}: has more than one column {named(doubled)}: which of them is meant can't be "
            "told. Rename or remove the others"
        )
    missing = [column for column in columns.values() if column not in head]
    has = f"its columns are {named(head)}" if head else "it has no columns"
    if missing:
        raise SourceError(f"{where}: has no column {named(missing)}; {has}")
    if not any(columns.get(field, field) in head for field in NAMING_FIELDS):
        raise SourceError(
            f"{where}: no column says which item it is; {has}. Name one data_uuid or "
            "data_path, or say which it is, like --map data_path=COLUMN"
        )


def named(columns: Iterable[object]) -> str:
    """Returns names of columns for people, the first of very many, in UTF-8."""
    names = [_shown_name(str(column)[:80]) for column in columns]
    more = f" and {len(names) - _MOST_COLUMNS} more" if len(names) > _MOST_COLUMNS else ""
    return ", ".join(names[:_MOST_COLUMNS]) + more


def _shown_name(column: str) -> str:
    name = column.encode("utf-8", "replace").decode()
    # In quotes where it only looks like another, as behind a mark that nobody sees.
    return name if name.isprintable() and name == name.strip() else repr(name)


def read_row(position: str, place: str, read: Callable[[], SourceRow]) -> SourceRow:
    """Returns what `read` returns; whatever it stumbles over spoils this row and no other."""
    try:
        return read()
    except Exception as exc:
        log.exception("source.row_failed", place=place)
        return SourceRow(position, place, None, f"can't be read: {type(exc).__name__}")


def lines(file: Iterable[bytes]) -> Iterator[bytes]:
    """Yields lines; of one that is too long no more than shows that it is."""
    read = cast("IO[bytes]", file).readline
    while line := read(MAX_ROW_BYTES + 1):
        rest = line
        while len(rest) > MAX_ROW_BYTES and not rest.endswith(b"\n"):
            rest = read(MAX_ROW_BYTES + 1)
        yield line
