"""The server's side of a connection, with bounds that uvicorn leaves to a proxy in front of it.

A head has so many bytes and so much time; so many connections are open at a time. A client that
sends a byte a second, or a header without end, costs a connection for a while and nothing more.
"""

from __future__ import annotations

import logging
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from schemas.json_text import encode_json
from worker.gateway.problems import MEDIA_TYPE, problem_body

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

MAX_HEAD_BYTES: Final = 65_536
MAX_HEADERS: Final = 100
HEAD_SECONDS: Final = 20.0
# In the state that the application's lifespan yields: what ends its streams.
END_STREAMS: Final = "end_streams"


def bounded_protocol(max_connections: int) -> Callable[..., HttpToolsProtocol]:
    """Returns what makes connections, of which one process has at most so many."""
    # A class made here could not be passed on to other processes.
    return partial(_BoundedProtocol, max_connections=max_connections)


@cache
def _logger_of_errors() -> logging.Logger:
    """Returns what connections log to; uvicorn warns of each request that is none, from anyone."""
    logger = logging.getLogger("uvicorn.error.connections")
    logger.setLevel(logging.ERROR)
    return logger


class _BoundedProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, max_connections: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger = _logger_of_errors()
        self._max_connections = max_connections
        self._head_bytes = 0
        self._in_head = True
        self._head_timer: asyncio.TimerHandle | None = None
        # What came since the last part of a body: trailers, and what else is between its parts.
        self._silent_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            self._refuse(503, "too_many_connections", "The gateway has too many connections.")
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            if self._head_timer is None:
                self._await_head()
            self._head_bytes += len(data)
        self._silent_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
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
        if not self.transport.is_closing():
            self._refuse(400, "not_http", "This is no HTTP request.")

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are no headers: whoever stands before us may have checked those alone.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = self._silent_bytes = 0
        self._forget_timer()
        if len(self.headers) > MAX_HEADERS:
            self._refuse(431, "header_too_large", "The head of the request is too large.")
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.transport.is_closing():
            super().on_message_complete()

    def shutdown(self) -> None:
        # What streams would be waited for, and broken off in the end.
        end_streams = self.app_state.get(END_STREAMS)
        if end_streams is not None:
            end_streams()
        super().shutdown()

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
        if self.transport.is_closing():
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
        self.transport.close()
