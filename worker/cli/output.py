"""How the command line prints: JSON for machines, tables and lines for people."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.table import Table

from schemas.json_text import encode_json

if TYPE_CHECKING:
    from collections.abc import Iterable

# Without a terminal nobody's window is too narrow for a whole line.
_WIDE_COLUMNS: Final = 240

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
    click.echo(encode_json(_plain(value)))


def print_pretty_json(value: object) -> None:
    """Prints JSON for people."""
    click.echo(encode_json(_plain(value), pretty=True))


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
    return "".join(
        character if character.isprintable() or character == "\n" else "�"
        for character in str(text)
    )


def shell_word(text: object) -> str:
    """Returns text as a word of a command line that people copy: others wrote it."""
    return shlex.quote(safe_text(text))


def _plain(value: object) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
