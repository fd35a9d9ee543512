"""The SQLite file of the read model: its tables, who may write it, and which file is the valid one.

::

    <folder>/writer.lock          locked by the one process that writes
    <folder>/current              the name of the valid file
    <folder>/commands-….sqlite3   the model; and -wal, -shm

A model that is made anew gets a file of a new name, so that nobody reads the old one's log for the
new one's; readers look at `current` before each query.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from worker.gateway.read_model.minutes import MINUTE_TABLES
from worker.gateway.read_model.state_counts import STATE_COUNTS_TABLE
from worker.gateway.read_model.text_index import make_text_index
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from pathlib import Path

    from worker.gateway_settings import GatewaySettings

# Another number makes every model anew: raise it with every change of tables or of their meaning.
VERSION: Final = 4

COLUMNS: Final = (
    "seq, id, type, state, correlation_id, attempts, accepted_at_ms, changed_at_ms, error_code, "
    "error_message, entry_id, first_ms, first_number, origin"
)

# `seq` rises with the entry of a command's first event, and stands at the end of each index: so
# each gives its rows newest first, and a page goes on where the last one ended.
_COMMANDS: Final = """
CREATE TABLE commands (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    state TEXT NOT NULL,
    correlation_id TEXT,
    attempts INTEGER NOT NULL,
    accepted_at_ms INTEGER,
    changed_at_ms INTEGER NOT NULL,
    error_code TEXT,
    error_message TEXT,
    entry_id TEXT NOT NULL,
    first_ms INTEGER NOT NULL,
    first_number INTEGER NOT NULL,
    origin TEXT NOT NULL,
    later TEXT NOT NULL
);
CREATE UNIQUE INDEX by_id ON commands (id);
CREATE INDEX by_state ON commands (state);
CREATE INDEX by_type ON commands (type);
CREATE INDEX by_type_and_state ON commands (type, state);
CREATE INDEX by_correlation ON commands (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX by_change ON commands (changed_at_ms);
CREATE TABLE progress (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    epoch TEXT NOT NULL,
    cursor TEXT NOT NULL,
    added INTEGER NOT NULL
);
"""
_TABLES: Final = f"{_COMMANDS}{STATE_COUNTS_TABLE}{MINUTE_TABLES}"

# What says that the file itself is at fault, and not the disk or who else uses it.
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY_SECONDS: Final = 10.0


def model_folder(settings: GatewaySettings) -> Path:
    """Returns the folder of the model of one namespace in one Redis."""
    address = RedisAddress.parse(settings.redis_url.get_secret_value())
    told = repr((address.scheme, address.hosts, address.db, address.options.get("service")))
    digest = hashlib.sha256(told.encode()).hexdigest()[:12]
    return settings.gateway_folder / f"{settings.namespace}-{digest}"


def is_damage(error: sqlite3.Error) -> bool:
    """Tells whether a file has to be made anew."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    missing = code == sqlite3.SQLITE_ERROR and "no such" in str(error)
    return missing or code in _DAMAGE


def current_file(folder: Path) -> Path | None:
    """Returns the valid file; None where there is none."""
    try:
        name = (folder / "current").read_text("utf-8").strip()
    except (OSError, ValueError):
        return None
    file = folder / os.path.basename(name)  # noqa: PTH119 - whatever someone wrote into it
    return file if name and file.is_file() else None


def forget_file(folder: Path, file: Path) -> None:
    """Has the writer make the model anew, if this file is still the valid one."""
    if current_file(folder) == file:
        (folder / "current").unlink(missing_ok=True)


def open_reader(file: Path) -> sqlite3.Connection:
    """Returns a connection that can't write.

    Raises:
        sqlite3.Error: the file can't be used.
    """
    connection = sqlite3.connect(
        f"{file.as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    return connection


def open_writer(file: Path) -> sqlite3.Connection:
    """Returns the writer's connection to a model that is there.

    Raises:
        sqlite3.Error: the file can't be used.
        OutdatedError: it is of another version.
    """
    connection = _connect(file)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except BaseException:
        connection.close()
        raise
    if version != VERSION:
        connection.close()
        raise OutdatedError
    return connection


def make_file(folder: Path) -> tuple[Path, sqlite3.Connection]:
    """Makes an empty model and says that it is the valid one; removes those that were.

    Raises:
        sqlite3.Error, OSError: the disk is full, or the folder can't be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in folder.glob("commands-*.sqlite3*"):
        with suppress(OSError):
            old.unlink()
    file = folder / f"commands-{secrets.token_hex(8)}.sqlite3"
    connection = _connect(file)
    try:
        connection.executescript(_TABLES)
        make_text_index(connection)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        written = folder / "current.new"
        written.write_text(file.name, "utf-8")
        written.replace(folder / "current")
    except BaseException:
        connection.close()
        raise
    return file, connection


def _connect(file: Path) -> sqlite3.Connection:
    # Begun and committed by hand: one transaction is one batch of events.
    connection = sqlite3.connect(
        file, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None
    )
    connection.execute("PRAGMA journal_mode = WAL")
    # A crash of the machine may cost the last batches, which are read again; never the file.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


class OutdatedError(Exception):
    """The file was written by another version."""


class WriterLock:
    """The right to write a model: of one process, and gone with it."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self._file = folder / "writer.lock"
        self._descriptor = descriptor

    @classmethod
    def take(cls, folder: Path) -> Self | None:
        """Returns the lock; None where another process has it.

        Raises:
            OSError: the folder can't be made or written.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(folder, descriptor)

    def is_held(self) -> bool:
        """Whether others who want it still meet it; not where someone removed the folder."""
        try:
            return os.path.samestat(self._file.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def release(self) -> None:
        """Lets another process write."""
        os.close(self._descriptor)
