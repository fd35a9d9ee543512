"""Where the files of a backfill go: a folder or any fsspec URL; a file is there whole or not."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import fsspec
import orjson

from worker.backfill.errors import OutputError
from worker.files.remote_files import open_remote
from worker.redaction import redact_text, redact_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_PARTS: Final = "parts"
_TRIED: Final = "writable"
_SAFE_NAME: Final = re.compile(r"[a-z0-9_-]([a-z0-9._-]{0,98}[a-z0-9_-])?", re.ASCII)
_UNSAFE: Final = re.compile(r"[^a-z0-9._-]+", re.ASCII)
_SHOWN_CHARACTERS: Final = 60


def folder_name(backfill_id: str) -> str:
    """Returns the name of a backfill's folder, which no other id gives.

    Ids may differ in nothing but case, be longer than a file's name may, or hold any printable
    character. Those that are safe to be a name everywhere stay as they are; any other one becomes
    a part that people recognise and a digest, with a character between them that safe ones lack.
    """
    if _SAFE_NAME.fullmatch(backfill_id):
        return backfill_id
    shown = _UNSAFE.sub("-", backfill_id.lower()).strip("-.")[:_SHOWN_CHARACTERS]
    return f"{shown}~{hashlib.sha256(backfill_id.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Output:
    """The folder of one backfill."""

    location: str

    @property
    def folder(self) -> Path | None:
        """The folder, where it is on a disk of this machine."""
        if self.location.startswith("file://"):
            return Path(self.location.removeprefix("file://"))
        return None if "://" in self.location else Path(self.location)

    def path(self, *names: str) -> str:
        """Returns the path or URL of a file."""
        return "/".join((self.location.rstrip("/"), *names))

    @contextmanager
    def write(self, *names: str) -> Iterator[IO[bytes]]:
        """Opens a file to write; it appears under its name once it is whole, or never.

        Raises:
            OutputError: it can't be written.
        """
        try:
            if self.folder is not None:
                with _written(self.folder.joinpath(*names)) as file:
                    yield file
            else:
                with _stored(self.path(*names)) as file:
                    yield file
        except OSError as exc:
            raise self._unwritable(exc, *names) from exc

    def write_json(self, name: str, value: Any) -> None:
        """Writes a file of JSON for people."""
        with self.write(name) as file:
            file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2))

    def read(self, *names: str) -> AbstractContextManager[IO[bytes]]:
        """Opens a file to read its bytes, to its end; a context manager."""
        return open_remote(self.path(*names))

    def check_unused(self) -> None:
        """Does nothing if no other backfill has left parts here, which nobody could tell apart.

        Raises:
            OutputError: one has, or it can't be read.
        """
        try:
            names = self.part_names()
        except Exception as exc:
            # Every kind of store has errors of its own.
            where, why = redact_url(self.location), redact_text(str(exc))
            raise OutputError(f"{where}: can't be read: {why}") from exc
        if names:
            raise OutputError(
                f"{redact_url(self.path(_PARTS))}: holds results of another backfill: move "
                "them, or choose another --output"
            )

    def check_writable(self) -> None:
        """Does nothing if a file can be written here: it is tried, and the file deleted again.

        Raises:
            OutputError: none can; results would wait in Redis, and nobody could name another place.
        """
        try:
            with self.write(_TRIED):
                pass
        except OutputError as exc:
            # The folder is what is wrong, not that file.
            cause = exc.__cause__
            raise (self._unwritable(cause) if isinstance(cause, OSError) else exc) from cause
        if self.folder is not None:
            self.folder.joinpath(_TRIED).unlink(missing_ok=True)
            return
        with suppress(Exception):
            # Some stores let nobody delete; the file is empty.
            filesystem, path = fsspec.url_to_fs(self.path(_TRIED))
            filesystem.rm_file(path)

    def _unwritable(self, error: OSError, *names: str) -> OutputError:
        why = error.strerror or redact_text(str(error))
        return OutputError(f"{redact_url(self.path(*names))}: can't be written: {why}")

    def part_names(self) -> list[str]:
        """Returns the names of the parts, in their order."""
        filesystem, root = fsspec.url_to_fs(self.path(_PARTS))
        if not filesystem.exists(root):
            return []
        names = [str(path).rpartition("/")[2] for path in filesystem.ls(root, detail=False)]
        return sorted(name for name in names if name.startswith("part-") and "." in name)


@contextmanager
def _stored(url: str) -> Iterator[IO[bytes]]:
    """Writes an object; stores show it when it is closed, not before.

    Raises:
        OSError: the store refuses it. Stores raise errors of many libraries for that.
    """
    try:
        opened = fsspec.open(url, "wb", compression=None)
        file = opened.open()
    except Exception as exc:
        raise _store_error(exc) from exc
    try:
        yield file
    except BaseException:
        # To close it would show what is there so far, and no file system can be told not to.
        with suppress(Exception):
            opened.close()
        with suppress(Exception):
            opened.fs.rm(opened.path)
        raise
    try:
        opened.close()
    except Exception as exc:
        raise _store_error(exc) from exc


def _store_error(error: Exception) -> OSError:
    return error if isinstance(error, OSError) else OSError(f"{type(error).__name__}: {error}")


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    growing = path.with_name(f".{path.name}.growing")
    try:
        with growing.open("wb") as file:
            yield file
            file.flush()
            # What a part holds is forgotten in Redis next: it must outlive a loss of power.
            os.fsync(file.fileno())
        growing.replace(path)
    except BaseException:
        # On a full disk the half of a file takes the room of others.
        with suppress(OSError):
            growing.unlink()
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
