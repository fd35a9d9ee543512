"""How the command line prints: JSON for machines, tables and lines for people.

Whoever pipes a table into another program needs every id in full. On a terminal a line that is
too long would break ids in two, so ids are shortened in the middle, the columns that matter least
are left out, and each row's message stands on a line of its own.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict, dataclass, is_dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import click
from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.json_text import encode_json
from worker.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What a failed command ends with, and what ends a wrong call or setting.
FAILED: Final = 1
WRONG_USAGE: Final = 2

# Without a terminal nobody's window is too narrow for a whole line.
_WIDE_COLUMNS: Final = 240

_GAP: Final = 2
_INDENT: Final = "    "
_MESSAGE_LINES: Final = 2
# A UUID, whole.
_LEAST_ID: Final = 36
# Narrower than this a text tells nothing.
_LEAST_CELLS: Final = 6
_MORE: Final = "…"

_STATE_STYLES: Final = {
    "succeeded": "green",
    "failed": "red",
    "rejected": "red",
    "cancelled": "yellow",
    "retrying": "yellow",
    "in_doubt": "magenta",
    "polling": "cyan",
    "started": "cyan",
    "progressed": "cyan",
    "paused": "yellow",
    "cancelling": "yellow",
    "running": "cyan",
}


def print_json(value: object) -> None:
    """Prints one JSON object on a line of its own; it is out when this returns."""
    click.echo(_safe_json(encode_json(_plain(value))))


def print_pretty_json(value: object) -> None:
    """Prints JSON for people."""
    click.echo(_safe_json(encode_json(_plain(value), pretty=True)))


def open_console(*, stderr: bool = False) -> Console:
    """Returns a console that prints texts as they are: none of their brackets is markup."""
    stream = sys.stderr if stderr else sys.stdout
    unbounded = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        width=_WIDE_COLUMNS if unbounded else None,
    )


def print_fields(console: Console, fields: Iterable[tuple[str, str]]) -> None:
    """Prints names and values in two columns; fields without a value are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in fields:
        if value:
            table.add_row(name, safe_text(value))
    console.print(table)


def state_style(state: str) -> str:
    """Returns the style in which a state is shown."""
    return _STATE_STYLES.get(state, "")


def safe_text(text: object) -> str:
    """Returns text that can't move a terminal's cursor: others wrote it."""
    return printable(str(text), keep="\n")


def _safe_json(text: bytes) -> str:
    """Returns the same JSON, with escapes for what could move a terminal's cursor."""
    shown = text.decode()
    if shown.isprintable():
        return shown
    return "".join(
        character if character.isprintable() or character == "\n" else _escaped(character)
        for character in shown
    )


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


def shell_word(text: object) -> str:
    """Returns text as a word of a command line that people copy: others wrote it."""
    return shlex.quote(safe_text(text))


def _plain(value: object) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        drop: where it is too narrow, the column with the largest goes first; 0 never goes.
        shorten: whether its texts may be shortened in the middle.
        least: the cells that it keeps before other columns are left out for it.
    """

    name: str
    drop: int = 0
    shorten: bool = False
    least: int = _LEAST_ID


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        state: names the style of the cell that holds this very text.
        message: stands below the row on a terminal, else in the last column.
    """

    cells: Sequence[str]
    state: str = ""
    message: str = ""


def print_table(columns: Sequence[Column], rows: Sequence[Row], message: str = "message") -> None:
    """Prints a table on standard output.

    Args:
        columns: in their order.
        rows: as many cells each as there are columns.
        message: the name of the messages' column where the output is no terminal.
    """
    console = open_console()
    rows = [Row([_cell(cell) for cell in row.cells], row.state, row.message) for row in rows]
    if sys.stdout.isatty():
        _print_fitted(console, columns, rows)
        return
    columns = (*columns, Column(message))
    whole = [Row([*row.cells, _cell(row.message)], row.state) for row in rows]
    _print_lines(console, columns, whole, _natural_widths(columns, whole))


def _print_fitted(console: Console, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    widths = fit(columns, _natural_widths(columns, rows), console.width)
    kept = [number for number, width in enumerate(widths) if width]
    _print_lines(console, columns, rows, widths)
    dropped = ", ".join(
        column.name for column, width in zip(columns, widths, strict=True) if not width
    )
    shortened = any(cell_len(row.cells[number]) > widths[number] for row in rows for number in kept)
    hints = [f"left out: {dropped}" if dropped else "", "shortened: …" if shortened else ""]
    if said := "; ".join(hint for hint in hints if hint):
        console.print(f"({said}; all of it with --json, or through a pipe)", style="dim")


def _print_lines(
    console: Console, columns: Sequence[Column], rows: Sequence[Row], widths: Sequence[int]
) -> None:
    head = Row([column.name for column in columns])
    console.print(_line(head, widths, "bold"), soft_wrap=True)
    for row in rows:
        console.print(_line(row, widths), soft_wrap=True)
        if row.message and len(row.cells) == len(columns):
            for line in _message_lines(console, row.message):
                console.print(line, soft_wrap=True, style="dim")


def _line(row: Row, widths: Sequence[int], style: str = "") -> Text:
    """Returns a row whose columns of no width are left out."""
    line = Text(style=style)
    for cell, width in zip(row.cells, widths, strict=True):
        if width:
            shown = shorten(cell, width)
            line.append(shown, state_style(cell) if row.state and cell == row.state else "")
            line.append(" " * (width - cell_len(shown) + _GAP))
    line.rstrip()
    return line


def _message_lines(console: Console, message: str) -> list[str]:
    lines = Text(_cell(message)).wrap(console, max(console.width - len(_INDENT), _LEAST_CELLS))
    shown = [line.plain.rstrip() for line in lines[:_MESSAGE_LINES]]
    if len(lines) > _MESSAGE_LINES:
        room = max(console.width - len(_INDENT), _LEAST_CELLS) - 1
        shown[-1] = f"{(chop_cells(shown[-1], room) or [''])[0]}{_MORE}"
    return [f"{_INDENT}{line}" for line in shown]


def _natural_widths(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    return [
        max(cell_len(text) for text in (column.name, *(row.cells[number] for row in rows)))
        for number, column in enumerate(columns)
    ]


def fit(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """Returns the width of each column in a terminal's cells, 0 for one that is left out."""
    least = [
        min(cells, column.least) if column.shorten else cells
        for column, cells in zip(columns, natural, strict=True)
    ]
    for drop in sorted({column.drop for column in columns} - {0}, reverse=True):
        if _total(least) <= width:
            break
        least = [
            0 if column.drop == drop else cells
            for column, cells in zip(columns, least, strict=True)
        ]
    # What lacks little gets it first.
    for number in sorted(range(len(columns)), key=lambda each: natural[each]):
        if columns[number].shorten and least[number]:
            spare = width - _total(least)
            least[number] = min(natural[number], max(least[number] + spare, _LEAST_CELLS))
    # As a last resort every column gives way, the widest first.
    while (excess := _total(least) - width) > 0 and max(least) > _LEAST_CELLS:
        widest = least.index(max(least))
        least[widest] = max(least[widest] - excess, _LEAST_CELLS)
    return least


def _total(widths: Sequence[int]) -> int:
    kept = [width for width in widths if width]
    return sum(kept) + _GAP * max(len(kept) - 1, 0)


def shorten(text: str, cells: int) -> str:
    """Returns a text that takes at most so many cells of a terminal, shortened in the middle.

    Ids often begin alike and end in a number: of what is left, a third is the end.
    """
    if cell_len(text) <= cells:
        return text
    room = max(cells - 1, 1)
    tail = _first(text[::-1], room // 3)[::-1]
    return f"{_first(text, room - cell_len(tail))}{_MORE}{tail}"


def _first(text: str, cells: int) -> str:
    """Returns the characters from the beginning that take no more than so many cells."""
    widths = accumulate(cell_len(character) for character in text)
    return text[: sum(width <= cells for width in widths)]


def _cell(text: str) -> str:
    return " ".join(safe_text(text).split("\n"))
