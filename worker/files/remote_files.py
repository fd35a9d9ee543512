"""Remote files read to their end: every way to the bytes behind a URL that fsspec knows.

A streaming file of fsspec gives what has arrived, not what was asked for, and some kinds say
nothing of a connection that broke. What is opened here reads as a file on a disk does: `read(n)`
gives n bytes unless the end has come, `readline` works, and an end before the length that the
server told is an error.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final

import aiohttp
import fsspec
from aiohttp.http_exceptions import HttpProcessingError
from fsspec.implementations.http import HTTPStreamFile
from yarl import URL

from schemas.wording import counted
from worker.http.aiohttp_connections import Connector, Request, send_until_written
from worker.http.authorities import environment_tls_context
from worker.http.timeouts import KEEP_ALIVE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from fsspec import AbstractFileSystem

    class Readable(Protocol):
        """What bytes are read from."""

        def read(self, size: int, /) -> bytes:
            """Returns at most so many bytes, none at the end."""
            ...


HTTP: Final = ("http://", "https://")
PIECE_BYTES: Final = 1_048_576
# The API refuses larger bodies; base64 adds a third.
MAX_IMAGE_BYTES: Final = 64 * 1024 * 1024
# Another request may find what this one did not: the server is busy, or it is starting.
PASSING_STATUSES: Final = frozenset({202, 408, 409, 423, 425, 429})
# As AWS' libraries upload in pieces, and people say what text or bytes an object holds.
_NO_PACKINGS: Final = frozenset({
    *("", "identity", "none"),
    *("aws-chunked", "binary", "utf-8", "utf8"),
})
_FORBIDDEN_STATUSES: Final = frozenset({401, 403, 407})
_MISSING_STATUSES: Final = frozenset({404, 410})


class RemoteFileError(OSError):
    """A remote file can't be read at the moment; the text names neither URL nor secret."""


class ShortReadError(RemoteFileError):
    """A remote file ended before the length that its server had told."""


class RefusedFileError(RemoteFileError):
    """The server won't give the file, and asking again changes nothing."""


class RedirectedError(aiohttp.ClientError):
    """A web server names an address at another server, which is not asked."""


class TooLargeError(ValueError):
    """A file holds more than may be read; what came until then is dropped."""


def read_whole(file: Readable, most_bytes: int, size_bytes: int | None = None) -> bytes:
    """Returns all that a file holds, however little each read of it gives.

    Args:
        file: stands at its beginning.
        most_bytes: more ends the reading at once.
        size_bytes: what the file should hold, where that was told.

    Raises:
        TooLargeError: it holds more than may be read.
        ShortReadError: it ended before its length.
    """
    if size_bytes is not None and size_bytes > most_bytes:
        raise TooLargeError
    pieces: list[bytes] = []
    size = 0
    # In one piece where its length is known: joining many would hold all of it twice.
    wanted = max(PIECE_BYTES, (size_bytes or 0) + 1)
    while piece := file.read(min(wanted, most_bytes + 1 - size)):
        pieces.append(piece)
        size += len(piece)
        if size > most_bytes:
            raise TooLargeError
    _check_length(size, size_bytes)
    return b"".join(pieces)


@contextmanager
def open_remote(
    url: str, *, idle_seconds: float = 60.0, total_seconds: float | None = None
) -> Iterator[IO[bytes]]:
    """Opens what lies at a path or URL, to be read from its beginning to its end.

    One request is made of a web server, and its answer read as it comes, so no `seek`: what needs
    one is copied to a file first. Files of other stores can be sought in.

    Args:
        url: what fsspec knows; a compressed file is given as it is.
        idle_seconds: how long a web server may be silent, and a connection take.
        total_seconds: how long a web server may take for all of it.

    Raises:
        FileNotFoundError: there is nothing.
        PermissionError: it may not be read.
        ImportError: nothing that is installed reads such URLs.
        RemoteFileError: it can't be read at the moment, or it ended too early; also in reading it.
        RefusedFileError: the server won't give it.
    """
    with translated():
        file = _opened(url, idle_seconds, total_seconds)
    with io.BufferedReader(_Raw(file), PIECE_BYTES) as reader:
        yield reader


def read_remote(url: str, most_bytes: int) -> bytes:
    """Returns what lies at a path or URL; raises as `open_remote` does.

    Raises:
        TooLargeError: it holds more than may be read.
    """
    with open_remote(url) as file:
        return read_whole(file, most_bytes)


@contextmanager
def translated() -> Iterator[None]:
    """Lets errors of the system through, and makes those of a store's own kind ours."""
    try:
        yield
    except aiohttp.ClientResponseError as exc:
        raise _response_error(exc) from exc
    except FileNotFoundError as exc:
        if isinstance(exc.__cause__, aiohttp.ClientResponseError):
            # fsspec says of any server that did not answer well that it has no such file.
            raise _response_error(exc.__cause__) from exc
        if isinstance(exc.__cause__, aiohttp.ClientError | TimeoutError):
            raise RemoteFileError("the server can't be asked at the moment") from exc
        raise
    except aiohttp.ClientPayloadError as exc:
        raise ShortReadError("the connection ended before the file did") from exc
    except TimeoutError as exc:
        raise RemoteFileError("did not answer in time") from exc
    except aiohttp.ClientError as exc:
        raise RemoteFileError(f"can't be read at the moment: {type(exc).__name__}") from exc
    except (OSError, ImportError, ValueError, MemoryError):
        raise
    except Exception as exc:
        # Every kind of store has errors of its own, and each means that nothing was read.
        raise RemoteFileError(f"can't be read at the moment: {type(exc).__name__}") from exc


def _response_error(exc: aiohttp.ClientResponseError) -> OSError:
    if isinstance(exc.__cause__, HttpProcessingError):
        # aiohttp calls it a status of 400, and no server has answered that.
        return RemoteFileError("the server answered with something that is not HTTP")
    return status_error(exc.status)


def status_error(status: int) -> OSError:
    """Returns what a web server's answer means that is no success."""
    if status in _MISSING_STATUSES:
        return FileNotFoundError("there is nothing at this URL")
    if status in _FORBIDDEN_STATUSES:
        return PermissionError("the URL may not be read with this worker's rights")
    if status >= 500 or status in PASSING_STATUSES:
        return RemoteFileError(f"the server answered {status}")
    if 300 <= status < 400:
        return RefusedFileError(f"the server answered {status}; redirects are not followed")
    return RefusedFileError(f"the server answered {status}")


def packing_of(header: str) -> str:
    """Returns how a body is packed by its Content-Encoding, in lower case; empty if it is not.

    Stores give back what an object was once uploaded with, which is often no packing at all.
    """
    said = (each.strip().lower() for each in header.split(","))
    return ", ".join(each for each in said if each not in _NO_PACKINGS)


def told_size(file: Any) -> int | None:
    """Returns how many bytes a file of fsspec should hold; None where its store does not tell."""
    size = getattr(file, "size", None)
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def open_file(filesystem: AbstractFileSystem, path: str) -> Any:
    """Opens a file of a store to read its bytes; one of a web server in a single request."""
    if "http" not in _protocols(filesystem):
        return filesystem.open(path, "rb")
    # With a size, fsspec does not ask for one first, and believes what HEAD is answered; without
    # blocks it reads the one answer as it comes instead of ranges that may be of two versions.
    return filesystem.open(path, "rb", block_size=0, size=1)


def http_options(
    *, idle_seconds: float, total_seconds: float | None = None, **options: Any
) -> dict[str, Any]:
    """Returns what fsspec's web client is made with, besides what its own configuration says.

    Args:
        idle_seconds: how long a server may be silent, and a connection take.
        total_seconds: how long a request may take, its answer included.
        options: of requests and of the session.
    """
    said: dict[str, Any] = {}
    for protocol in ("http", "https"):
        said |= fsspec.config.conf.get(protocol, {}).get("client_kwargs", {})
    timeout = aiohttp.ClientTimeout(
        total=total_seconds, sock_connect=idle_seconds, sock_read=idle_seconds
    )
    # Nothing on the way may pack a file again: its length would be another's.
    headers = {**said.get("headers", {}), "Accept-Encoding": "identity"}
    client = {**said, "timeout": timeout, "headers": headers}
    return {**options, "client_kwargs": client, "get_client": open_session}


async def open_session(
    loop: Any,  # noqa: ARG001 - fsspec hands it in
    *,
    stays_at: str = "",
    **options: Any,
) -> aiohttp.ClientSession:
    """Returns a session in which no answer is taken for another's; fsspec calls it on the loop.

    Args:
        loop: that it is used on.
        stays_at: a URL; where it is given, no server but its own is asked.
        options: of the session.
    """
    middlewares: tuple[aiohttp.ClientMiddlewareType, ...] = (send_until_written,)
    if stays_at:
        middlewares = (partial(_ask_only, server_of(URL(stays_at))), *middlewares)
    ours = {
        "connector": Connector(
            limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=environment_tls_context() or True
        ),
        "request_class": Request,
        "middlewares": middlewares,
    }
    return aiohttp.ClientSession(**{**ours, **options})


def server_of(url: URL) -> tuple[str, str | None, int | None]:
    """Returns what tells a server from others; a port that goes without saying may be said."""
    return url.scheme, url.host, url.port


async def _ask_only(
    server: tuple[str, str | None, int | None],
    request: aiohttp.ClientRequest,
    handler: aiohttp.ClientHandlerType,
) -> aiohttp.ClientResponse:
    # Each step of a redirection comes by here.
    if server_of(request.url) != server:
        raise RedirectedError
    return await handler(request)


def _opened(url: str, idle_seconds: float, total_seconds: float | None) -> Any:
    options: dict[str, Any] = {}
    if is_http(url):
        options = http_options(idle_seconds=idle_seconds, total_seconds=total_seconds)
    filesystem, path = filesystem_of(url, **options)
    return open_file(filesystem, path)


def is_http(url: str) -> bool:
    """Tells whether a URL is one of a web server."""
    return url.lower().startswith(HTTP)


def filesystem_of(url: str, **options: Any) -> tuple[AbstractFileSystem, str]:
    """Returns what reads a path or URL, made with these options, and how it calls it.

    fsspec would take the :: of an address like [::1], or of a file's name, for a chain of URLs.
    """
    if is_http(url):
        # And it knows no HTTP://.
        scheme, _, rest = url.partition("://")
        return fsspec.filesystem(scheme.lower(), **options), f"{scheme.lower()}://{rest}"
    if url.startswith("/"):
        return fsspec.filesystem("file", **options), url
    filesystem, path = fsspec.url_to_fs(url, **options)
    return filesystem, str(path)


def _protocols(filesystem: AbstractFileSystem) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


class _Raw(io.RawIOBase):
    """A file of fsspec as Python's buffered reader wants it; it owns the file."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._size = told_size(file)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return not isinstance(self._file, HTTPStreamFile) and bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if not self.seekable():
            raise io.UnsupportedOperation("seek")
        self._at = int(self._file.seek(offset, whence))
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        with translated():
            piece = self._file.read(len(buffer))
        if not piece:
            _check_length(self._at, self._size)
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            try:
                self._file.close()
            finally:
                super().close()


def _check_length(size: int, told: int | None) -> None:
    if told is not None and size < told:
        raise ShortReadError(f"ended after {size} of {counted(told, 'byte')}")
