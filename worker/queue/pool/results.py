"""The claim check for large results: they go to a store, the event tells where."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import fsspec

from schemas.events import ErrorCode
from schemas.json_text import encode_json
from worker.errors import SettingError, ShortageError
from worker.thread_pools import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsspec import AbstractFileSystem


class ResultStore:
    """A folder, local or any fsspec URL, with one JSON file per large result.

    Args:
        url: where results lie, for example `/var/lib/trainmaster/results` or `s3://bucket/results`.
        limit_bytes: results up to this size stay in their event.
        threads: where the store is written.
        seconds: how long writing a result may take.

    Raises:
        SettingError: nothing here knows how to write to such a URL.
    """

    def __init__(
        self,
        url: str,
        limit_bytes: int,
        threads: ThreadPool | None = None,
        *,
        seconds: float = 60.0,
    ) -> None:
        _check_protocols(url)
        self._url = url
        self._limit_bytes = limit_bytes
        self._threads = threads or ThreadPool("results", 1)
        self._seconds = seconds

    async def keep(self, entry_id: str, payload: bytes) -> str | None:
        """Stores a result that is too large; returns its URL, or None if it stays in the event.

        Args:
            entry_id: of the command.
            payload: the result as JSON.

        The name follows from the command, so that a second run writes the same file.

        Raises:
            OSError: the store can't be written.
        """
        if len(payload) <= self._limit_bytes:
            return None
        with _translated():
            filesystem, path = await self._threads.run(
                self._seconds, self._write, entry_id, payload
            )
            return str(filesystem.unstrip_protocol(path))

    async def read(self, name: str, seconds: float) -> bytes | None:
        """Returns a small file of the store; None where there is none.

        Raises:
            OSError: the store can't be read.
        """
        with _translated():
            return await self._threads.run(seconds, self._read, name)

    async def write(self, name: str, payload: bytes, seconds: float) -> None:
        """Writes a small file into the store, in place of what it held.

        Raises:
            OSError: the store can't be written.
        """
        with _translated():
            await self._threads.run(seconds, self._put, name, payload)

    async def rehearse(self) -> None:
        """Stores a small result, reads it and deletes it.

        Raises:
            OSError: the store can't be used.
        """
        with _translated():
            await self._threads.run(self._seconds, self._rehearse)

    def _rehearse(self) -> None:
        payload = encode_json({"rehearsal": True})
        filesystem, path = self._write(f"rehearsal-{uuid.uuid4().hex}", payload)
        try:
            found = filesystem.cat_file(path)
        finally:
            filesystem.rm_file(path)
        if found != payload:
            raise OSError(None, "what was read is not what was written")

    def _write(self, entry_id: str, payload: bytes) -> tuple[AbstractFileSystem, str]:
        """Returns where the file lies: its own URL has not the credentials that the store's has."""
        digest = hashlib.sha256(payload).hexdigest()[:16]
        return self._put(f"{entry_id}-{digest}.json", payload)

    def _read(self, name: str) -> bytes | None:
        filesystem, root = fsspec.url_to_fs(self._url)
        try:
            found: bytes = filesystem.cat_file(f"{root.rstrip('/')}/{name}")
        except FileNotFoundError:
            return None
        return found

    def _put(self, name: str, payload: bytes) -> tuple[AbstractFileSystem, str]:
        filesystem, root = fsspec.url_to_fs(self._url)
        path = f"{root.rstrip('/')}/{name}"
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        # Several workers may write the same file at once.
        part = f"{path}.{uuid.uuid4().hex}.part"
        with filesystem.open(part, "wb") as file:
            file.write(payload)
        filesystem.mv(part, path)
        # Some stores take less than they were given and say nothing.
        size = filesystem.info(path).get("size")
        if size is not None and size != len(payload):
            raise OSError(None, f"holds {size} bytes of the {len(payload)} that were written")
        return filesystem, path


@contextmanager
def _translated() -> Iterator[None]:
    """Lets OSError and shortages through: every kind of store has errors of its own."""
    try:
        yield
    except TimeoutError as exc:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from exc
    except (OSError, MemoryError, ShortageError):
        raise
    except Exception as exc:
        raise OSError(None, type(exc).__name__) from exc


def _check_protocols(url: str) -> None:
    for part in url.split("::"):
        protocol, _ = fsspec.core.split_protocol(part)
        if protocol is None and "::" in url:
            protocol = part
        try:
            if protocol is not None:
                fsspec.get_filesystem_class(protocol)
        except ImportError as exc:
            raise _setting_error(str(exc)) from exc
        except ValueError as exc:
            # Not the protocol itself: in a URL that is wrong it may be half of a password.
            raise _setting_error("is a URL whose protocol is not known") from exc


def _setting_error(message: str) -> SettingError:
    return SettingError(f"TRAINMASTER_RESULT_STORE: {message}", code=ErrorCode.INVALID_SETTING)
