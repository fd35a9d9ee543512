"""Sources behind HTTP: fetched in one request, to their end, into a file without a name.

A server need not know ranges, nor tell a length; and no connection has to stand still while the
window of a backfill is full.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, cast

import aiohttp
from fsspec.asyn import sync

from schemas.wording import counted
from worker.backfill.errors import SourceError, SourceUnavailableError
from worker.backfill.sources.spool import spooled
from worker.files.remote_files import PASSING_STATUSES, filesystem_of, open_session, packing_of
from worker.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.backfill.sources.spool import Spool

# A source may be large, so only silence ends the wait for it.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=30)
_CHUNK_BYTES: Final = 256 * 1024
_GONE: Final = frozenset({404, 410})
_REFUSED: Final = frozenset({401, 403, 407})
# Unpacked by whoever reads the file, like what was packed before it was sent.
_ENCODINGS: Final = frozenset({"gzip", "x-gzip"})


@contextmanager
def fetch(location: str, *, follows: bool) -> Iterator[io.BufferedReader]:
    """Opens what a server has at a URL, once all of it is here, or all that it sends.

    Args:
        location: the URL.
        follows: whether the server may send us on to another one.

    Raises:
        SourceUnavailableError: the server can't be asked at the moment. Where it ended in the
            middle, reading raises it behind what came.
        SourceError: there is nothing, or it may not be read.
    """
    # Through fsspec, for its settings may hold headers that a server asks for.
    filesystem, url = filesystem_of(location, get_client=open_session)
    with spooled(redact_url(location)) as spool:
        file = spool.file
        broken: SourceUnavailableError | None = None
        try:
            sync(filesystem.loop, _download, filesystem, url, spool, follows)
        except (
            aiohttp.InvalidURL,
            aiohttp.NonHttpUrlClientError,
            aiohttp.TooManyRedirects,
        ) as exc:
            raise SourceError(f"{redact_url(location)}: {_problem_of(exc)}") from exc
        except (TimeoutError, aiohttp.ClientError) as exc:
            broken = _unavailable(location, _said(exc, file.tell()))
            if not file.tell():
                raise broken from exc
        file.seek(0)
        if broken is None:
            yield cast("io.BufferedReader", file)
        else:
            with io.BufferedReader(_Broken(file, broken)) as rest:
                yield cast("io.BufferedReader", rest)


class _Broken(io.RawIOBase):
    """What came of a file that a server ended in the middle; behind it stands the error.

    Rows that came whole are read, for what was done once need not be done again.
    """

    def __init__(self, file: IO[bytes], error: SourceUnavailableError) -> None:
        self._file = file
        self._error = error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        content = self._file.read(len(buffer))
        if not content:
            raise self._error
        buffer[: len(content)] = content
        return len(content)


def _said(exc: TimeoutError | aiohttp.ClientError, got: int) -> str:
    # Never by what an error says, which holds the URL.
    if isinstance(exc, TimeoutError):
        return "the server does not answer in time"
    if isinstance(exc, aiohttp.ClientPayloadError):
        return f"the server ended it in the middle, after {counted(got, 'byte')}"
    if isinstance(exc, aiohttp.ClientResponseError):
        # Its statuses are judged elsewhere: aiohttp has not understood what came.
        return "the server answered with something that is not HTTP"
    if isinstance(exc, aiohttp.ClientConnectorError):
        return f"the server can't be reached: {exc.strerror or exc.os_error}"
    return f"the server can't be asked: {type(exc).__name__}"


async def _download(filesystem: Any, url: str, spool: Spool, follows: bool) -> None:
    session: aiohttp.ClientSession = await filesystem.set_session()
    options = {**filesystem.kwargs, "timeout": _TIMEOUT, "allow_redirects": follows}
    # As it is, byte for byte: what a server packs on the way is not checked to its end.
    options["headers"] = {**options.get("headers", {}), "Accept-Encoding": "identity"}
    async with session.get(filesystem.encode_url(url), auto_decompress=False, **options) as answer:
        _check(answer, url)
        told = answer.headers.get("Content-Length")
        if answer.headers.get("Transfer-Encoding"):
            told = None
        if told is not None:
            spool.expect(int(told))
        async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
            spool.write(chunk)
        if told is not None:
            got = spool.file.tell()
            if got != int(told):
                raise _unavailable(url, f"the server sent {got} of {counted(int(told), 'byte')}")


def _check(answer: aiohttp.ClientResponse, url: str) -> None:
    status = answer.status
    where = redact_url(url)
    if status in _GONE:
        raise SourceError(
            f"{where}: there is no such file: the server answers {status}; look at the address"
        )
    if status in _REFUSED:
        raise SourceError(
            f"{where}: may not be read: the server answers {status}; a signed address may have "
            "expired"
        )
    if status >= 500 or status in PASSING_STATUSES:
        raise _unavailable(url, f"the server answers {status}")
    if 300 <= status < 400 and "Location" in answer.headers:
        raise SourceError(
            f"{where}: the server answers {status} and names another address, which a worker does "
            "not follow: name that one"
        )
    if status not in {200, 203}:
        raise SourceError(f"{where}: can't be read: the server answers {status}")
    encoding = packing_of(answer.headers.get("Content-Encoding", ""))
    if encoding and encoding not in _ENCODINGS:
        raise SourceError(
            f"{where}: can't be read: the server packs it as {encoding[:40]!r}, unasked; have it "
            "sent as it is, or with gzip"
        )


def _unavailable(location: str, message: str) -> SourceUnavailableError:
    return SourceUnavailableError(f"{redact_url(location)}: can't be read at the moment: {message}")


def _problem_of(exc: Exception) -> str:
    if isinstance(exc, aiohttp.TooManyRedirects):
        return "can't be read: the server sends us round in circles"
    if isinstance(exc, aiohttp.RedirectClientError):
        return "can't be read: the server sends us to an address that can't be asked"
    return "is no usable address"
