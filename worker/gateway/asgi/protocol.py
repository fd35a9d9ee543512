"""The server's side of a connection, with bounds that uvicorn leaves to a proxy in front of it.

A head has so many bytes and so much time; so many connections are open at a time. A client that
sends a byte a second, or a header without end, costs a connection for a while and nothing more.

Where a request is answered before it has come whole, the connection lingers: what still comes is
read and dropped. Closed at once, the kernel would reset it, and the answer would be lost with it.
A client that does not read its answer is cut off, or it would hold the connection for ever.
"""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from schemas.json_text import encode_json
from worker.gateway.problems import MEDIA_TYPE, problem_body

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

MAX_HEAD_BYTES: Final = 65_536
MAX_HEADERS: Final = 100
HEAD_SECONDS: Final = 20.0
# What still comes of a request that was answered is dropped, for so long and while it comes at all.
LINGER_SECONDS: Final = 30.0
LINGER_SILENT_SECONDS: Final = 5.0
# So many connections of a process; others are closed at once.
MOST_LINGERING: Final = 128
# A client that takes nothing of what it asked for, for so long, is gone.
WRITE_SECONDS: Final = 30.0
# In the state that the application's lifespan yields: what ends its streams.
END_STREAMS: Final = "end_streams"


def bounded_protocol(max_connections: int) -> Callable[..., HttpToolsProtocol]:
    """Returns what makes connections, of which one process has at most so many."""
    # A class made here could not be passed on to other processes.
    return partial(_BoundedProtocol, room=_Room(max_connections))


@cache
def _logger_of_errors() -> logging.Logger:
    """Returns what connections log to; uvicorn warns of each request that is none, from anyone."""
    logger = logging.getLogger("uvicorn.error.connections")
    logger.setLevel(logging.ERROR)
    return logger


@dataclass(slots=True)
class _Room:
    """How many connections one process has.

    Attributes:
        most: that are served.
        lingering: of those that are open, these have had their answer.
    """

    most: int
    lingering: int = 0


class _RequestTransport:
    """A connection, as one request sees it: that it is closed is for the connection to do."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class _BoundedProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, room: _Room, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger = _logger_of_errors()
        self._room = room
        self._lingers = False
        self._linger_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True
        self._head_timer: asyncio.TimerHandle | None = None
        # What came since the last part of a body: trailers, and what else is between its parts.
        self._silent_bytes = 0
        # Of one that lingers, by the loop's clock: until when, and when something came last.
        self._linger_until = self._dropped_at = 0.0
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) - self._room.lingering > self._room.most:
            self._refuse(503, "too_many_connections", "The gateway has too many connections.")
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        self._forget_write_timer()
        self._stop_lingering()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingers:
            self._dropped_at = self.loop.time()
        if self._is_over():
            return
        if self._in_head:
            if self._head_timer is None:
                self._await_head()
            self._head_bytes += len(data)
        self._silent_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(memoryview(data))
        except HttpParserError as exc:
            self.send_400_response(str(exc))
        if self._is_over():
            return
        # Parsed first: the rest of what came may be a body.
        if self._in_head:
            self._head_bytes = max(self._head_bytes, 1)
            too_large = self._head_bytes > MAX_HEAD_BYTES or len(self.headers or ()) > MAX_HEADERS
        else:
            too_large = self._silent_bytes > MAX_HEAD_BYTES
        if too_large:
            self._refuse(431, "header_too_large", "The head of the request is too large.")
        elif self._head_timer is None and self._is_idle:
            # What has come ends uvicorn's own timer, be it one byte of a further request.
            self._await_head()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words; ours are told
        if not self._is_over():
            self._refuse(400, "not_http", "This is no HTTP request.")

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are no headers: whoever stands before us may have checked those alone.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_over():
            return
        if self.parser.get_method() == b"CONNECT":
            # What follows would be a tunnel's, and whoever wants one takes us for a proxy.
            self.send_400_response("")
            return
        # Such a head comes once more.
        if self.parser.should_upgrade():
            return
        self._in_head = False
        self._head_bytes = self._silent_bytes = 0
        self._forget_timer()
        if len(self.headers) > MAX_HEADERS:
            self._refuse(431, "header_too_large", "The head of the request is too large.")
            return
        super().on_headers_complete()
        # Weakly, or each request would be a cycle that only Python's collector can free.
        close = partial(self._close_after, weakref.ref(self.cycle))
        self.cycle.transport = cast("Any", _RequestTransport(self.transport, close))

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        if not self._is_over():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_over() and not self.parser.should_upgrade():
            self._forget_linger_timer()
            super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._is_over():
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            # The connection stays in use; the rest of the body is read past, if it ends soon.
            self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        self._forget_write_timer()
        super().resume_writing()

    def shutdown(self) -> None:
        # What streams would be waited for, and broken off in the end.
        end_streams = self.app_state.get(END_STREAMS)
        if end_streams is not None:
            end_streams()
        super().shutdown()

    def _parse(self, data: memoryview) -> None:
        """Parses what came; who asks for another protocol as well is answered in this one.

        So does Java's client with its first request. llhttp takes what follows such a head for that
        other protocol: a body would be lost, or be read as requests that nobody has looked at.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as exc:
                if self._is_over():
                    return
                head = self._head_without_upgrade()
                # As uvicorn makes it, which answers the first of several requests on its own.
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(head)
                data = data[exc.args[0] :]
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        fields = [b"%b: %b\r\n" % each for each in self.headers if each[0] != b"upgrade"]
        first = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)
        return b"".join((first, *fields, b"\r\n"))

    def _is_over(self) -> bool:
        """Whether nothing more is served on this connection."""
        return self._lingers or self.transport.is_closing()

    @property
    def _is_idle(self) -> bool:
        """Whether no request is being answered."""
        # uvicorn's type leaves out that there is none before the first one.
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self._is_over():
            return
        if self._in_head and self._head_bytes:
            self._refuse(408, "head_too_slow", "The head of the request took too long.")
        elif self._in_head or self._is_idle:
            self.transport.close()

    def _refuse(self, status: int, code: str, detail: str) -> None:
        body = encode_json(problem_body(status, code, detail))
        lines = (
            STATUS_LINE[status],
            f"content-type: {MEDIA_TYPE}\r\n".encode(),
            b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body),
            body,
        )
        self.transport.write(b"".join(lines))
        self._forget_timer()
        self._linger()

    # What is closed

    def _close_after(self, request: weakref.ref[RequestResponseCycle]) -> None:
        """Closes the connection after a request, which may not have come whole."""
        if self._lingers:
            return
        cycle = request()
        if cycle is not None and cycle.response_complete and cycle.more_body:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Tells the client that nothing more follows, and drops what it sends for a while."""
        if self.transport.is_closing():
            return
        if self._room.lingering >= MOST_LINGERING:
            self.transport.close()
            return
        self._lingers = True
        self._room.lingering += 1
        if not self._is_idle:
            # As if the connection were lost: nothing more may be written to it.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # Under TLS there is no such half of an end; a client knows by the answer's length.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._forget_linger_timer()
        self._dropped_at = self.loop.time()
        self._linger_until = self._dropped_at + LINGER_SECONDS
        self._go_on_lingering()

    def _go_on_lingering(self) -> None:
        ends_at = min(self._linger_until, self._dropped_at + LINGER_SILENT_SECONDS)
        if ends_at <= self.loop.time():
            self.transport.abort()
        else:
            self._linger_timer = self.loop.call_at(ends_at, self._go_on_lingering)

    def _stop_lingering(self) -> None:
        self._forget_linger_timer()
        if self._lingers:
            self._lingers = False
            self._room.lingering -= 1

    def _forget_linger_timer(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None

    # What is not read

    def _await_reader(self) -> None:
        if self._write_timer is None:
            self._unread_bytes = self.transport.get_write_buffer_size()
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self._look_at_reader)

    def _look_at_reader(self) -> None:
        """Cuts a client off that has taken nothing of what waits for it."""
        self._write_timer = None
        if self.transport.get_write_buffer_size() < self._unread_bytes:
            self._await_reader()
        else:
            self.transport.abort()

    def _forget_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
