"""Files behind URLs that commands name; where their errors become ours.

Web servers are asked on the event loop, so that however many of them never answer, no thread
waits for one. Other stores are read in threads of their own.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from schemas.events import ErrorCode, Problem
from worker.errors import InputError, RetryableError
from worker.files.remote_files import (
    RefusedFileError,
    RemoteFileError,
    ShortReadError,
    TooLargeError,
    http_options,
    is_http,
    open_session,
    packing_of,
    read_remote,
    status_error,
    translated,
)
from worker.files.server_slots import ServerSlots
from worker.shortages import shortage_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from worker.thread_pools import ThreadPool

    MakeRoom: TypeAlias = Callable[[int], Awaitable[None]]

# One server that never answers takes no more connections than these from the others.
CONNECTIONS_PER_SERVER: Final = 64
# The same for stores, each of whose files takes a thread; half of the threads that there are.
THREADS_PER_STORE: Final = 16
_SUCCESSES: Final = frozenset({200, 203})
# Reserved for what no length is told of: of a web server's answer at first, of a store's file.
_FIRST_BYTES: Final = 512 * 1024
_UNTOLD_BYTES: Final = 8 * 1024 * 1024
# Pieces, each packed by itself: each costs a copy of what follows, and may unfold to nothing. Tools
# that pack block by block make one of 64 KiB each.
_MOST_PIECES: Final = 1_000
_PIECE_BYTES: Final = 32 * 1024
_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})


class Downloads:
    """Reads what lies behind URLs; made anywhere, used on one event loop.

    Args:
        threads: where stores are read that are no web servers.
        total_seconds: how long a download may take.
        idle_seconds: how long its server may be silent meanwhile.
        per_server: downloads from one server at the same time.
    """

    def __init__(
        self,
        threads: ThreadPool,
        *,
        total_seconds: float,
        idle_seconds: float,
        per_server: int = CONNECTIONS_PER_SERVER,
    ) -> None:
        self._threads = threads
        self._total_seconds = total_seconds
        self._idle_seconds = idle_seconds
        self._web: HTTPFileSystem | None = None
        self._per_server = min(per_server, CONNECTIONS_PER_SERVER)
        self._slots: dict[str, ServerSlots] = {}

    async def read(
        self,
        url: str,
        most_bytes: int,
        field: str,
        make_room: Callable[[int], Awaitable[None]] | None = None,
    ) -> bytes:
        """Returns what lies at a URL that may be read, all of it.

        Args:
            url: what fsspec knows.
            most_bytes: more is refused.
            field: of the command that names it.
            make_room: waits until so many bytes may be held; its time is not the download's.

        Raises:
            InputError: there is nothing, too much, or it may not be read.
            RetryableError: it can't be read at the moment, or only a part of it came.
            SilentServerError: too many downloads from its server are under way, and it is silent.
        """
        slots = self._slots_of(url)
        try:
            async with slots.hold(self._total_seconds):
                if is_http(url):
                    return await self._ask(url, most_bytes, make_room or _no_bound, slots)
                return await self._read(url, most_bytes, make_room or _no_bound, slots)
        except TooLargeError as exc:
            raise _refusal(field, f"holds more than {most_bytes} bytes") from exc
        except ImportError as exc:
            raise _refusal(field, f"this worker can't read such URLs: {exc}") from exc
        except TimeoutError as exc:
            message = f"did not come within {self._total_seconds:g} s"
            raise _unavailable(field, message) from exc
        except (OSError, MemoryError, RuntimeError) as exc:
            raise _failure(field, exc) from exc

    async def aclose(self) -> None:
        """Closes every connection."""
        web, self._web = self._web, None
        if web is not None and web._session is not None:  # noqa: SLF001 - fsspec has no other way
            await web._session.close()  # noqa: SLF001

    async def _read(
        self, url: str, most_bytes: int, make_room: MakeRoom, slots: ServerSlots
    ) -> bytes:
        """Returns what a store holds that is no web server."""
        with slots.pause():
            await make_room(min(most_bytes, _UNTOLD_BYTES))
        content = await self._threads.run(self._total_seconds, read_remote, url, most_bytes)
        slots.hear()
        return content

    async def _ask(
        self, url: str, most_bytes: int, make_room: MakeRoom, slots: ServerSlots
    ) -> bytes:
        """Returns what a web server answers to one request."""
        # Idle or not: who sends a byte a minute keeps a slot, and that is what is scarce.
        async with asyncio.timeout(self._total_seconds) as limit:

            async def wait_for_room(size: int) -> None:
                end, begun = limit.when(), time.monotonic()
                limit.reschedule(None)
                with slots.pause():
                    await make_room(size)
                if end is not None:
                    limit.reschedule(end + time.monotonic() - begun)

            with translated():
                return await self._answer(url, most_bytes, wait_for_room, slots)

    async def _answer(
        self, url: str, most_bytes: int, make_room: MakeRoom, slots: ServerSlots
    ) -> bytes:
        web = self._web = self._web or self._open()
        session = await web.set_session()
        # A server that was named must not send us on to one that was not.
        options = {**web.kwargs, "allow_redirects": False}
        async with session.get(web.encode_url(url), **options) as response:
            slots.hear()
            if response.status not in _SUCCESSES:
                raise status_error(response.status)
            return await _body(response, most_bytes, make_room, slots)

    def _slots_of(self, url: str) -> ServerSlots:
        server = _server(url)
        if server not in self._slots:
            most = self._per_server
            if not is_http(url):
                most = min(most, THREADS_PER_STORE)
            self._slots[server] = ServerSlots(most)
        return self._slots[server]

    def _open(self) -> HTTPFileSystem:
        # fsspec's own, for the sake of what its configuration says of headers and credentials.
        options = http_options(idle_seconds=self._idle_seconds)
        return HTTPFileSystem(
            asynchronous=True, skip_instance_cache=True, **{**options, "get_client": _open_session}
        )


async def _open_session(**options: Any) -> aiohttp.ClientSession:
    """Returns a session that gives bodies as they come and keeps no cookies."""
    ours = {"cookie_jar": aiohttp.DummyCookieJar(), "auto_decompress": False}
    return await open_session(**{**ours, **options})


async def _no_bound(_: int) -> None:
    pass


async def _body(
    response: aiohttp.ClientResponse, most_bytes: int, make_room: MakeRoom, slots: ServerSlots
) -> bytes:
    """Returns the whole body; aiohttp says where it ended before its length or its last chunk."""
    packing = packing_of(response.headers.get("Content-Encoding", ""))
    if packing and packing not in _PACKED:
        raise RefusedFileError(
            f"the server packed it as {packing[:40]!r}, unasked; have it sent as it is, or "
            "with gzip"
        )
    told = response.content_length
    if packing not in _PACKED and told is not None and told > most_bytes:
        raise TooLargeError
    unpacker = _Unpacker(most_bytes) if packing in _PACKED else None
    pieces: list[bytes] = []
    size = 0
    room = told if told is not None and unpacker is None else _FIRST_BYTES
    await make_room(room)
    async for came in response.content.iter_any():
        slots.hear()
        piece = unpacker.unpack(came) if unpacker is not None else came
        pieces.append(piece)
        size += len(piece)
        if size > most_bytes:
            raise TooLargeError
        if size > room:
            room = min(2 * size, most_bytes)
            await make_room(room)
    if unpacker is not None:
        unpacker.check_end()
    return b"".join(pieces)


class _Unpacker:
    """Unpacks a body that was packed on the way, no further than one byte past a limit."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes + 1
        self._pieces_left = _MOST_PIECES + most_bytes // _PIECE_BYTES
        self._stream = _unpacking()

    def unpack(self, piece: bytes) -> bytes:
        plain = b""
        while piece:
            if self._stream.eof:
                # Packed in several pieces, each with an end of its own.
                if not self._pieces_left:
                    raise RefusedFileError("the server packed it in too many pieces")
                self._pieces_left -= 1
                self._stream = _unpacking()
            try:
                more = self._stream.decompress(piece, self._left)
            except zlib.error as exc:
                raise RemoteFileError("what came can't be unpacked") from exc
            self._left -= len(more)
            if self._left <= 0:
                raise TooLargeError
            plain = plain + more if plain else more
            piece = self._stream.unused_data
        return plain

    def check_end(self) -> None:
        if not self._stream.eof:
            raise ShortReadError("what came is only a part of it")


def _unpacking() -> zlib._Decompress:
    # 32 finds out by itself whether it is gzip or zlib.
    return zlib.decompressobj(zlib.MAX_WBITS | 32)


def _server(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def _failure(field: str, exc: OSError | MemoryError | RuntimeError) -> Exception:
    short = shortage_error(exc)
    if short is not None:
        return short
    match exc:
        case FileNotFoundError():
            return _refusal(field, "there is nothing at this URL")
        case PermissionError():
            return _refusal(field, "the URL may not be read with this worker's rights")
        case RefusedFileError():
            return _refusal(field, str(exc))
        case OSError():
            told = str(exc) if isinstance(exc, RemoteFileError) else exc.strerror
            return _unavailable(field, told or type(exc).__name__)
    return exc


def _refusal(field: str, message: str) -> InputError:
    return InputError(
        message, code=ErrorCode.INVALID_INPUT, problems=[Problem(path=field, message=message)]
    )


def _unavailable(field: str, message: str) -> RetryableError:
    return RetryableError(f"{field}: {message}", code=ErrorCode.DATA_UNAVAILABLE)
