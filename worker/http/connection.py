"""One connection, and one exchange at a time on it.

What comes while nobody waits for a reply closes it: a second copy of the last reply, or the 408 by
which some proxies end an idle connection, would be read as the answer to the next request. So
nothing is written, either, before what lies in the socket has been read.
"""

from __future__ import annotations

import asyncio
import math
import select
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import httpx

from worker.http.failures import ExchangeTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.http.response import Response, ResponseReader
    from worker.http.timeouts import Timeouts

# Larger bodies are written piece by piece, so that other requests have their turn in between.
MAX_PIECE_BYTES: Final = 65_536

# TLS brings records of its own (session tickets), which the loop reads at its next turn; what is
# still unread after so many turns is not TLS being busy.
_MOST_TURNS: Final = 16


class Connection(asyncio.Protocol):
    """A connection to a server, or to it through a proxy.

    Args:
        loop: The one that it lives on.
        gives_back: Is called with it when it may serve another request, or never will.
        ends: Is called with it once it is closed.

    Attributes:
        acts_at: The time of the loop at which `expire` is to be called.
        is_reused: Whether it has served a request.
        is_closed: Whether it serves no further one.
        lost_by: Why it ended, if that is an error.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        gives_back: Callable[[Connection], None],
        ends: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._gives_back = gives_back
        self._ends = ends
        self._transport: asyncio.Transport  # once it stands
        self._stands = False
        self._poll: select.poll | None = None
        self._reader: ResponseReader | None = None
        self._future: asyncio.Future[Response] | None = None
        # While a large body is written and the server does not take it.
        self._blocked: asyncio.Event | None = None
        self._is_writing = False
        self._read_seconds = self._body_seconds = math.inf
        self._ends_at = math.inf
        self.acts_at = math.inf
        self.is_reused = False
        self.is_closed = False
        self.lost_by: Exception | None = None

    def is_silent(self) -> bool:
        """Tells whether it stands, and nothing has come that nobody has read."""
        if self.is_closed or self._transport.is_closing():
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not self._poll.poll(0)

    async def grows_silent(self) -> bool:
        """Tells the same once the loop has read what the socket held; if not, it is closed."""
        is_silent = False
        try:
            for _ in range(_MOST_TURNS):
                # While it is closing, why is not known yet.
                if self.is_closed:
                    break
                await asyncio.sleep(0)
                is_silent = self.is_silent()
                if is_silent:
                    break
        finally:
            if not is_silent:
                self.close()
        return is_silent

    async def exchange(
        self,
        head: bytes,
        body: bytes,
        reader: ResponseReader,
        timeouts: Timeouts,
        *,
        ends_at: float,
    ) -> Response:
        """Writes a request and returns the response; the connection must be silent.

        Args:
            head: Of the request.
            body: Of the request.
            reader: Of the response.
            timeouts: Of reading, of writing, and of the reply's body.
            ends_at: The time of the loop at which all of it must have ended.

        Raises:
            httpx.HTTPError: There is no response; whether the request was carried out is unknown.
        """
        loop = self._loop
        transport = self._transport
        future: asyncio.Future[Response] = loop.create_future()
        self._future = future
        self._reader = reader
        self._read_seconds, self._body_seconds = timeouts.read, timeouts.body
        self._ends_at = ends_at
        try:
            if len(body) <= MAX_PIECE_BYTES:
                self.acts_at = min(loop.time() + timeouts.read, ends_at)
                transport.write(head + body if body else head)
            else:
                await self._upload(transport, head, body, timeouts.write)
            return await future
        except BaseException:
            if future.done() and not future.cancelled():
                future.exception()  # Or asyncio logs that nobody has asked for it.
            # The error keeps this frame: without its future, the two are no garbage.
            del future
            self._reader = self._future = None
            self.close()
            raise

    def give_back(self) -> None:
        """Says that it may serve another request, or that it is closed."""
        self._gives_back(self)

    def close(self) -> None:
        """Closes it at once, whoever waits for a reply on it."""
        if not self.is_closed:
            self.is_closed = True
            self._fail(httpx.ReadError("we closed the connection"))
            if self._stands:
                self._transport.abort()
            self._ends(self)

    def refuse_soon(self) -> None:
        """Closes it on the loop and gives it back, called from any thread."""

        def refuse() -> None:
            self.close()
            self._gives_back(self)

        with suppress(RuntimeError):  # The loop is closed, and its connections with it.
            self._loop.call_soon_threadsafe(refuse)

    def expire(self) -> None:
        """Ends what has taken too long: the exchange, or the rest between two."""
        if self._reader is None:
            self.close()
        elif self._ends_at <= self._loop.time():
            self._fail(ExchangeTimeout("the exchange took longer than all its timeouts"))
        elif self._is_writing:
            self._fail(httpx.WriteTimeout("the server does not take the request"))
        else:
            self._fail(httpx.ReadTimeout("no answer in time"))

    async def start_tls(self, tls: ssl.SSLContext, server_name: str) -> None:
        """Goes on over TLS: a proxy has opened a tunnel.

        Raises:
            OSError: The handshake failed.
        """
        try:
            transport = await self._loop.start_tls(
                self._transport, self, tls, server_hostname=server_name
            )
        except TypeError as exc:
            # So asyncio of 3.11 ends a handshake beneath TLS that the server leaves: it passes the
            # cause on to a method that takes none.
            raise ConnectionResetError("the connection ended in the handshake") from exc
        if transport is None:
            raise ConnectionResetError("the connection ended in the handshake")
        self._transport = transport
        self._poll = None

    # What follows is called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = transport  # type: ignore[assignment] # of a stream, always
        self._stands = True
        if self.is_closed:
            self._transport.abort()

    def eof_received(self) -> None:
        """The server says no more; what it would still take is of no use."""
        self._end_reply(None)
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self.is_closed = True
        # Its frames would keep this connection.
        self.lost_by = None if exc is None else exc.with_traceback(None)
        self._end_reply(exc)
        self._ends(self)

    def data_received(self, data: bytes) -> None:
        """Something has come: the reply that is waited for, or nobody's."""
        reader = self._reader
        if reader is None:
            self.close()
            return
        if not self._is_writing:
            self.acts_at = min(self._loop.time() + self._read_seconds, self._ends_at)
        try:
            response = reader.feed(data)
            if response is not None:
                self._complete(reader, response)
            elif reader.response is not None:
                # The first time its head is there, and no later one counts.
                self._ends_at = min(self._ends_at, self._loop.time() + self._body_seconds)
                self._body_seconds = math.inf
                self.acts_at = min(self.acts_at, self._ends_at)
        except httpx.HTTPError as broken:
            self._fail(broken)

    def pause_writing(self) -> None:
        """The server does not take what is written."""
        self._blocked = asyncio.Event()

    def resume_writing(self) -> None:
        """It takes more."""
        blocked, self._blocked = self._blocked, None
        if blocked is not None:
            blocked.set()

    async def _upload(
        self, transport: asyncio.Transport, head: bytes, body: bytes, write_seconds: float
    ) -> None:
        """Writes a large body as fast as the server takes it, until that answers."""
        self._is_writing = True
        pieces = memoryview(body)
        transport.write(head)
        for start in range(0, len(body), MAX_PIECE_BYTES):
            if self._reader is None:
                return
            self.acts_at = min(self._loop.time() + write_seconds, self._ends_at)
            transport.write(pieces[start : start + MAX_PIECE_BYTES])
            await (asyncio.sleep(0) if self._blocked is None else self._blocked.wait())
        self._is_writing = False
        self.acts_at = min(self._loop.time() + self._read_seconds, self._ends_at)

    def _end_reply(self, exc: Exception | None) -> None:
        reader = self._reader
        if reader is not None:
            try:
                response = reader.finish() if exc is None else None
                if response is not None:
                    self._complete(reader, response)
                else:
                    self._fail(_loss(exc))
            except httpx.HTTPError as broken:
                self._fail(broken)

    def _complete(self, reader: ResponseReader, response: Response) -> None:
        future, self._future = self._future, None
        self._reader = None
        self.acts_at = math.inf
        # Of a request that is half written the server would read the rest as the next one.
        if self._is_writing or not reader.keeps_alive:
            self.close()
            self.resume_writing()
        reader.close()
        if future is not None and not future.done():
            future.set_result(response)

    def _fail(self, failure: httpx.HTTPError) -> None:
        """Ends the exchange, if there is one; of a response the head counts, once it is there."""
        reader = self._reader
        if reader is None:
            return
        future, self._future = self._future, None
        self._reader = None
        self.acts_at = math.inf
        reader.close()
        self.close()
        self.resume_writing()
        if future is None or future.done():
            return
        response = reader.response
        if response is None:
            future.set_exception(failure)
        else:
            response.failure = failure
            future.set_result(response)


def _loss(exc: Exception | None) -> httpx.ReadError:
    if exc is None:
        return httpx.ReadError("it ended before the reply did")
    # TLS' own say what the server minds, such as the want of a certificate.
    lost = httpx.ReadError(str(exc) if isinstance(exc, ssl.SSLError) else type(exc).__name__)
    lost.__cause__ = exc
    return lost
