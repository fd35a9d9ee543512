"""Connections that take bytes only as the reply to a request.

aiohttp's parser stays attached to a connection in its pool: a reply that nobody asked for, such as
a second copy of the last one or the 408 by which some proxies end an idle connection, would be
read as the answer to the next request. Here whatever comes outside of an exchange closes the
connection, and nothing is written before what lies in the socket has been read.

A reply that comes just after the next request was written is taken for its answer all the same, and
the true answer for that of the request after it. Only who reads a reply can tell. So a connection
goes to no other request before that: see `Exchange`.
"""

from __future__ import annotations

import asyncio
import functools
import select
import weakref
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from enum import Enum, auto
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader

# TLS brings records of its own (session tickets), which the loop reads at its next turn; what is
# still unread after so many turns is not TLS being busy.
_MOST_TURNS = 16


class NotWrittenError(aiohttp.ClientConnectionError):
    """The connection ended, or brought bytes nobody asked for, before a request was written."""


class _Phase(Enum):
    NEW = auto()  # aiohttp may send a request of its own: CONNECT, to a proxy
    IDLE = auto()
    READY = auto()  # a request has this connection, and not one byte of it is written
    ASKED = auto()


class Exchange:
    """A request and its reply: the connection goes to no other request before it has ended."""

    __slots__ = ("__weakref__", "_give_back", "_handler", "_over")

    def __init__(self) -> None:
        self._handler: ReplyHandler | None = None
        self._give_back: Callable[[], None] | None = None
        self._over = False

    @contextmanager
    def requesting(self) -> Iterator[None]:
        """What is requested meanwhile, by the same task, is this exchange's request."""
        # Weak, for aiohttp's timers keep the context in which they were made.
        token = _CURRENT.set(weakref.ref(self))
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def __del__(self) -> None:
        # Whoever had the reply was cancelled before it could tell. This may be any thread.
        if not self._over and self._handler is not None:
            self._handler.refuse_soon(self._give_back)

    def end(self) -> None:
        """Says that the reply was read and is the answer, or that none came."""
        self._over = True
        # By now the connection may be another request's.
        self._handler = None
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()

    def refuse(self) -> None:
        """Ends the connection: the reply answers another request, and the true one is to come."""
        if self._handler is not None:
            self._handler.refuse()
        self.end()

    def begin(self, handler: ReplyHandler) -> None:
        """Takes the connection on which the request goes out."""
        self._handler = handler
        handler.exchange = self

    def keeps(self, give_back: Callable[[], None]) -> bool:
        """Tells whether the connection is given back later, by `end`."""
        if not self._over:
            self._give_back = give_back
        return not self._over


_CURRENT: ContextVar[weakref.ref[Exchange] | None] = ContextVar("exchange", default=None)


class ReplyHandler(ResponseHandler):
    """aiohttp's end of a connection, closed by any byte that nobody asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._phase = _Phase.NEW
        self._answered = False
        self._surplus = False
        self._poll: select.poll | None = None
        self.exchange: Exchange | None = None

    def reserve(self) -> None:
        """Takes nothing until the request is written; it may be a turn of the loop until then.

        Raises:
            NotWrittenError: the connection has ended, or something came already.
        """
        if self._should_close:
            raise NotWrittenError
        self._phase = _Phase.READY

    def begin(self) -> bool:
        """Tells whether a request may be written now; if so, its reply is taken from here on."""
        transport = self.transport
        if transport is None or transport.is_closing() or self._should_close:
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        if self._poll.poll(0):
            # The socket holds bytes, or an end, that the loop has not read yet.
            return False
        self._phase = _Phase.ASKED
        return True

    async def begin_later(self) -> bool:
        """Tells the same once the loop has read what the socket held."""
        for _ in range(_MOST_TURNS):
            if self._should_close or not self.is_connected():
                break
            await asyncio.sleep(0)
            if self.begin():
                return True
        self.abort()
        self.set_exception(NotWrittenError())
        return False

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Says so where nothing of the request was written."""
        if self._phase is _Phase.READY and not isinstance(exc, NotWrittenError):
            super().set_exception(NotWrittenError(), exc)
        else:
            super().set_exception(exc, *cause)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Takes one head of a reply, with the body that follows it."""
        if self._answered:
            self._surplus = True
        elif data[0].code >= 200 or data[0].code == 101:
            self._answered = True
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Takes bytes of the reply that is asked for; any others end the connection."""
        if self._phase is not _Phase.ASKED:
            if not data:
                return
            if self._phase is not _Phase.NEW or self._parser is None:
                self.refuse()
                return
            # aiohttp has asked: it has made a parser for the reply.
            self._phase = _Phase.ASKED
        super().data_received(data)
        if not self._answered:
            return
        payload = self._payload
        if self._surplus or payload is None or payload.is_eof():
            self._phase = _Phase.IDLE
            self._answered = False
            # A second message is there, or the parser is inside of one.
            if self._surplus or self._holds_part():
                self.refuse()

    def refuse(self) -> None:
        """Ends the connection, whoever waits for a reply on it."""
        self.force_close()
        self.abort()

    def refuse_soon(self, then: Callable[[], None] | None) -> None:
        """Does so on the loop, called from any thread; then gives the connection back."""

        def refuse() -> None:
            self.refuse()
            if then is not None:
                then()

        with suppress(RuntimeError):  # The loop is closed, and its connections with it.
            self._loop.call_soon_threadsafe(refuse)

    def _holds_part(self) -> bool:
        if self._parser is None:
            return False
        try:
            return self._parser.feed_eof() is not None
        except Exception:  # noqa: BLE001 - whatever it can't make sense of is no part of a reply
            return True


class Request(aiohttp.ClientRequest):
    """A request that is written only to a connection on which nothing came before it."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Writes the request, or begins to.

        Raises:
            NotWrittenError: not one byte was written.
        """
        handler: ReplyHandler = conn.protocol  # type: ignore[assignment] # as `Connector` makes them
        handler.reserve()
        current = _CURRENT.get()
        exchange = None if current is None else current()
        if exchange is not None:
            exchange.begin(handler)
        if not self._body and not (handler.begin() or await handler.begin_later()):
            raise NotWrittenError
        return await super().send(conn)

    async def write_bytes(
        self,
        writer: AbstractStreamWriter,
        conn: Connection,
        content_length: int | None = None,
    ) -> None:
        """Writes head and body; before Python 3.12 a turn of the loop after `send`."""
        handler: ReplyHandler | None = conn.protocol  # type: ignore[assignment] # likewise
        if handler is None:
            return
        if not self._body or handler.begin() or await handler.begin_later():
            await super().write_bytes(writer, conn, content_length)


class Connector(aiohttp.TCPConnector):
    """aiohttp's pool, of connections that take no bytes but replies."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._factory = functools.partial(ReplyHandler, loop=self._loop)  # type: ignore[assignment]

    def _release(
        self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        """Gives a connection back to the pool, once nobody can distrust it any more."""
        handler: ReplyHandler = protocol  # type: ignore[assignment] # as we make them
        # From here on only who has the reply holds the exchange.
        exchange, handler.exchange = handler.exchange, None
        release = functools.partial(super()._release, key, protocol)
        if should_close or exchange is None or not exchange.keeps(release):
            release(should_close=should_close)
