"""Opens sources to read their bytes, whole or not at all; where their errors become ours.

Files of this machine and standard input are read as they are, what lies behind HTTP is fetched in
one request into a file without a name, all else is read through fsspec. What is packed is told by
its first bytes, for names and servers say otherwise.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import shutil
import sys
import zlib
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, cast

import aiohttp
import fsspec
from fsspec.compression import compr

from schemas.wording import counted
from worker.backfill.errors import SourceError, SourceUnavailableError
from worker.backfill.locations import STDIN, is_packed, is_web, shown_place
from worker.backfill.sources.spool import spooled
from worker.backfill.sources.web import fetch
from worker.files.remote_files import RedirectedError
from worker.redaction import redact_url
from worker.shortages import may_pass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BUFFER_BYTES: Final = 1024 * 1024
# A file that was packed before a server packed it once more; deeper is a trap.
_MOST_LAYERS: Final = 3
PARQUET: Final = b"PAR1"
# What holds no text, by its first bytes, and what to do with it.
_NO_TEXTS: Final = {
    b"\xff\xfe": "is text in UTF-16 or UTF-32: save it as UTF-8",
    b"\xfe\xff": "is text in UTF-16: save it as UTF-8",
    b"\x00\x00\xfe\xff": "is text in UTF-32: save it as UTF-8",
    PARQUET: "is a Parquet file: say so with --format parquet (in a command: format)",
    b"PK\x03\x04": "is a ZIP archive or a spreadsheet: unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "is a spreadsheet: save it as CSV",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive: unpack it",
    b"Rar!\x1a\x07": "is a RAR archive: unpack it",
    b"\x04\x22\x4d\x18": "is packed with LZ4: unpack it, or pack it with gzip",
    b"\x50\x2a\x4d\x18": "is packed with Zstandard in several frames: unpack it",
    b"\xff\x06\x00\x00sNaPpY": "is packed with Snappy: unpack it, or pack it with gzip",
    b"\x1f\x9d": "is packed with compress: unpack it, or pack it with gzip",
    b"LZIP\x01": "is packed with lzip: unpack it, or pack it with gzip",
    b"x\x9c": "is packed with zlib: unpack it, or pack it with gzip",
    b"x\xda": "is packed with zlib: unpack it, or pack it with gzip",
    b"ARROW1\x00\x00": "is an Arrow file: save it as Parquet",
    b"Obj\x01": "is an Avro file: save it as Parquet",
    b"SQLite format 3\x00": "is an SQLite database: export its table as CSV",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file: run git lfs pull",
}
# A column may be called so; but no text has a byte of zero.
_ORC: Final = b"ORC"
_PAGES: Final = (b"<!doctype", b"<html", b"<?xml")
_TAR_AT: Final = 257
KIND_BYTES: Final = 512


def _zstd(file: IO[bytes]) -> Any:
    unpack = compr.get("zstd")
    if unpack is None:
        raise ValueError("it is packed with Zstandard: unpack it, or install zstandard")
    return unpack(file, mode="rb")


_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_UNPACKERS: Final[dict[bytes, Callable[[IO[bytes]], Any]]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    # A column may be called BZh; the second is what follows where nothing is packed.
    **{b"BZh%d1AY&" % level: bz2.BZ2File for level in range(1, 10)},
    **{b"BZh%d\x17rE8" % level: bz2.BZ2File for level in range(1, 10)},
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    # The older form, which lzma still writes.
    b"\x5d\x00\x00": lzma.LZMAFile,
    _ZSTD: _zstd,
}
_BROKEN: Final = (
    ImportError,
    ValueError,
    EOFError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
)
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>,)]+", re.IGNORECASE)


@contextmanager
def opened(location: str, *, follows: bool = True, seeks: bool = False) -> Iterator[BinaryIO]:
    """Opens a source to read its bytes, unpacked; whatever goes wrong meanwhile is its error.

    Args:
        location: of the source.
        follows: whether a server may send us on to another one.
        seeks: whether it is read from the middle, too.

    Raises:
        SourceError: it can't be read.
    """
    with readable(location), ExitStack() as stack:
        file = stack.enter_context(_raw(location, follows=follows))
        layers = 0
        while (unpack := _unpacker(file)) is not None and layers < _MOST_LAYERS:
            file = stack.enter_context(io.BufferedReader(unpack(file), _BUFFER_BYTES))
            layers += 1
        if not layers and not is_web(location) and is_packed(location) and _head(file):
            raise SourceError(
                f"{shown_place(location)}: can't be read: it is not packed, as its name says it is"
            )
        if seeks and (layers or not file.seekable()):
            # To seek in what is packed is to unpack it again from its beginning.
            whole = stack.enter_context(spooled(shown_place(location)))
            shutil.copyfileobj(file, whole, _BUFFER_BYTES)
            whole.file.seek(0)
            yield cast("BinaryIO", whole.file)
        else:
            yield cast("BinaryIO", file)


def check_text(location: str, file: BinaryIO) -> None:
    """Does nothing if a file that was just opened may hold text in UTF-8.

    Raises:
        SourceError: it holds something else; the message says what and what to do.
    """
    head = _head(file, KIND_BYTES)
    if (problem := problem_of_kind(head)) is not None:
        raise SourceError(f"{shown_place(location)}: {problem}")
    # A letter of Latin's, with the zeros that its code has in UTF-16 or UTF-32.
    if head[:2].count(0) == 1 or head.startswith(b"\0\0\0"):
        raise SourceError(
            f"{shown_place(location)}: holds zero bytes, as text in UTF-16 does: save it as UTF-8"
        )


def problem_of_kind(head: bytes) -> str | None:
    """Returns what a file is by its first bytes, and what to do with it; None if it may be text."""
    for magic, problem in _NO_TEXTS.items():
        if head.startswith(magic):
            return problem
    if head.startswith(_ORC) and b"\0" in head:
        return "is an ORC file: save it as Parquet"
    if head[_TAR_AT:].startswith(b"ustar"):
        return "is a tar archive: unpack it"
    if head.lstrip().lower().startswith(_PAGES):
        return "is a web page or XML, such as a server's word of an error: look at what it says"
    return None


@contextmanager
def readable(location: str) -> Iterator[None]:
    """Turns what goes wrong with a source while it is entered into its error.

    Raises:
        SourceUnavailableError: it can't be read at the moment.
        SourceError: it can't be read.
    """
    where = shown_place(location)
    try:
        yield
    except SourceError:
        raise
    except FileNotFoundError as exc:
        raise SourceError(f"{where}: there is no such file") from exc
    except PermissionError as exc:
        raise SourceError(f"{where}: may not be read with the rights of this process") from exc
    except IsADirectoryError as exc:
        raise SourceError(f"{where}: is a folder, not a file") from exc
    except RedirectedError as exc:
        raise SourceError(
            f"{where}: the server names an address at another server, which a worker does not "
            "follow: name that one"
        ) from exc
    except _BROKEN as exc:
        raise SourceError(f"{where}: can't be read: {_said(exc)}") from exc
    except Exception as exc:
        if isinstance(exc, OSError) and not may_pass(exc):
            # Asked again, the disk says the same of such a path.
            raise SourceError(f"{where}: can't be read: {_said(exc)}") from exc
        # Every kind of store has errors of its own: most of them pass.
        raise SourceUnavailableError(f"{where}: can't be read: {_said(exc)}") from exc


def _said(exc: Exception) -> str:
    if isinstance(exc, aiohttp.ClientResponseError):
        return f"the server answers {exc.status}"
    said = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
    # What others say of a URL holds all of it, its signature and its password too.
    return _URL.sub(lambda found: redact_url(found[0]), said)[:500] or type(exc).__name__


@contextmanager
def _raw(location: str, *, follows: bool) -> Iterator[io.BufferedReader]:
    if location == STDIN:
        yield cast("io.BufferedReader", sys.stdin.buffer)
    elif is_web(location):
        with fetch(location, follows=follows) as file:
            yield file
    elif "://" not in location:
        with Path(location).open("rb") as file:
            yield file
    else:
        with (
            fsspec.open(location, "rb", compression=None) as remote,
            io.BufferedReader(_Whole(remote), _BUFFER_BYTES) as file,
        ):
            yield cast("io.BufferedReader", file)


class _Whole(io.RawIOBase):
    """A file of fsspec's that tells whether it ended before its end."""

    def __init__(self, file: Any) -> None:
        self._file = file
        size = getattr(file, "size", None)
        self._size = size if isinstance(size, int) else None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any, /) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        if not content and self._size is not None and self._file.tell() < self._size:
            whole = counted(self._size, "byte")
            raise OSError(f"it ended after {self._file.tell()} of {whole}")
        return len(content)


def _head(file: Any, size: int = 8) -> bytes:
    return bytes(file.peek(size)[:size])


def _unpacker(file: io.BufferedReader) -> Callable[[IO[bytes]], Any] | None:
    head = _head(file)
    return next((unpack for magic, unpack in _UNPACKERS.items() if head.startswith(magic)), None)
