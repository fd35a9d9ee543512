"""Reads of a model's file, in threads; its connections are kept from one to the next."""

from __future__ import annotations

import sqlite3
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import structlog

from worker.errors import BusyThreadsError
from worker.gateway.read_model.database import current_file, forget_file, is_damage, open_reader
from worker.thread_pools import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = structlog.get_logger(__name__)

T = TypeVar("T")

_READERS: Final = 4
_QUERY_SECONDS: Final = 5.0


class ModelUnavailableError(Exception):
    """Lists can't be answered now; the ledger is not touched by it. Try again."""


class Readers:
    """Those who read the valid file of a folder, whichever that is.

    Args:
        folder: of the model.
        trouble: returns what keeps the model from being written, if anything does.
    """

    def __init__(self, folder: Path, trouble: Callable[[], str | None]) -> None:
        self._folder = folder
        self._trouble = trouble
        self._threads = ThreadPool("model-reader", _READERS)
        self._connections: SimpleQueue[tuple[Path, sqlite3.Connection]] = SimpleQueue()

    async def read(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Returns what `act` finds; it runs in a thread.

        Raises:
            ModelUnavailableError: there is no model yet, or its disk is in trouble.
        """
        try:
            return await self._threads.run(_QUERY_SECONDS, self._with_connection, act)
        except BusyThreadsError as exc:
            raise ModelUnavailableError("too many lists are asked for at a time") from exc
        except TimeoutError as exc:
            raise ModelUnavailableError("the disk of the read model does not answer") from exc

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        while True:
            try:
                _, connection = self._connections.get_nowait()
            except Empty:
                return
            connection.close()

    def _with_connection(self, act: Callable[[sqlite3.Connection], T]) -> T:
        file = current_file(self._folder)
        if file is None:
            raise ModelUnavailableError(self._trouble() or "the read model is being made")
        try:
            connection = self._connection(file)
        except sqlite3.Error as exc:
            self._give_up(file, exc)
        try:
            found = act(connection)
        except sqlite3.Error as exc:
            connection.close()
            self._give_up(file, exc)
        except BaseException:
            connection.close()
            raise
        self._connections.put((file, connection))
        return found

    def _connection(self, file: Path) -> sqlite3.Connection:
        """Returns a connection to the valid file; those to others are closed."""
        while True:
            try:
                opened, connection = self._connections.get_nowait()
            except Empty:
                return open_reader(file)
            if opened == file:
                return connection
            connection.close()

    def _give_up(self, file: Path, error: sqlite3.Error) -> NoReturn:
        if is_damage(error):
            forget_file(self._folder, file)
            log.warning("read_model.damaged", file=file.name, error=str(error)[:200])
            raise ModelUnavailableError("the read model was damaged and is made anew") from error
        raise ModelUnavailableError("the disk of the read model is in trouble") from error
