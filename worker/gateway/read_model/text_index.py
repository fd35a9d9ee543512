"""The index of texts: it finds commands by any three characters of their ids and messages."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# Without the places of characters it has half the size; what is found is compared with the text.
_TABLE: Final = """
CREATE VIRTUAL TABLE commands_text USING fts5 (
    id, error_message, content='commands', content_rowid='seq', tokenize='trigram', detail='none'
)
"""
_ADD: Final = "INSERT INTO commands_text (rowid, id, error_message) VALUES (?, ?, ?)"
_REMOVE: Final = (
    "INSERT INTO commands_text (commands_text, rowid, id, error_message) VALUES ('delete', ?, ?, ?)"
)

Texts = tuple[int, str, str | None]
"""`seq`, `id` and `error_message` of a command."""


def has_trigrams() -> bool:
    """Returns whether this machine's SQLite can index parts of words."""
    trial = sqlite3.connect(":memory:")
    try:
        trial.execute("CREATE VIRTUAL TABLE trial USING fts5 (part, tokenize='trigram')")
    except sqlite3.OperationalError:
        return False
    finally:
        trial.close()
    return True


def make_text_index(connection: sqlite3.Connection) -> None:
    """Makes the index of a model that has no commands yet, where this SQLite can have one."""
    if has_trigrams():
        connection.execute(_TABLE)


def has_text_index(connection: sqlite3.Connection) -> bool:
    """Returns whether a model has the index."""
    known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'commands_text'")
    return known.fetchone() is not None


def change_texts(
    connection: sqlite3.Connection, gone: Iterable[Texts], new: Iterable[Texts]
) -> None:
    """Has the index follow what was done to commands in the same transaction.

    Not by triggers: before each row that a trigger writes FTS5 puts down what it has gathered,
    which takes five times as long as all else that is done for a command.

    Args:
        connection: of the writer.
        gone: as they stood in the index.
        new: as they stand in the commands.
    """
    if has_text_index(connection):
        connection.executemany(_REMOVE, gone)
        connection.executemany(_ADD, new)
