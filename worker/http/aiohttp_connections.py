"""Connections that take bytes only as the reply to a request.

aiohttp's parser stays attached to a connection in its pool: a reply that nobody asked for, such as
a second copy of the last one or the 408 by which some proxies end an idle connection, would be
read as the answer to the next request. Here whatever comes outside of an exchange closes the
connection, and nothing is written before what lies in the socket has been read.

This is for files, whose library stands on aiohttp; the API's requests and webhooks go out by
`worker.http.pool`.
"""

from __future__ import annotations

import asyncio
import functools
import select
from enum import Enum, auto
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader

# TLS brings records of its own (session tickets), which the loop reads at its next turn; what is
# still unread after so many turns is not TLS being busy.
_MOST_TURNS = 16

# Each try takes another connection; one that is new and yet broken is the server's doing.
_TRIES = 3


class NotWrittenError(aiohttp.ClientConnectionError):
    """The connection ended, or brought bytes nobody asked for, before a request was written."""


class _Phase(Enum):
    NEW = auto()  # aiohttp may send a request of its own: CONNECT, to a proxy
    IDLE = auto()
    READY = auto()  # a request has this connection, and not one byte of it is written
    ASKED = auto()


class ReplyHandler(ResponseHandler):
    """aiohttp's end of a connection, closed by any byte that nobody asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._phase = _Phase.NEW
        self._answered = False
        self._surplus = False
        self._poll: select.poll | None = None

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


async def send_until_written(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Sends a request without a body over another connection while not one byte is written."""
    for _ in range(_TRIES - 1):
        try:
            return await handler(request)
        except NotWrittenError:
            continue
    return await handler(request)
