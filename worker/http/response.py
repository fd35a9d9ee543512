"""What a server answers, read as it comes, and never more of it than may be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import httptools
import httpx

from worker.http.decoding import Inflater

# A head, and whatever else comes between two pieces of a body: chunks' extensions and trailers.
MAX_HEAD_BYTES: Final = 65_536

_BODILESS: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much of a body is kept, in bytes, decompressed.

    Attributes:
        success: Of a status of 200 to 299.
        failure: Of any other; whoever says no is not listened to for long.
        keeps_start: Whether the beginning of a body that says itself that it is longer is waited
            for.
    """

    success: int
    failure: int
    keeps_start: bool = False


class KeptConnection(Protocol):
    """What waits until somebody has read the reply that came over it."""

    def give_back(self) -> None:
        """Says that it may serve another request, or that it is closed."""
        ...

    def close(self) -> None:
        """Closes it at once."""
        ...

    def refuse_soon(self) -> None:
        """Closes it on its loop and gives it back, called from any thread."""
        ...


class Response:
    """A reply with its whole body.

    Attributes:
        status: 101, or 200 and above.
        raw_headers: Names in small letters, and values, in order.
        body: Decompressed; only its beginning where it was cut or broke off.
        is_cut: Whether the body is longer than may be kept.
        failure: Why the body broke off, if it did; the head is whole all the same.
    """

    __slots__ = ("_connection", "body", "failure", "is_cut", "raw_headers", "status")

    def __init__(
        self, status: int, raw_headers: list[tuple[bytes, bytes]], body: bytes = b""
    ) -> None:
        self.status = status
        self.raw_headers = raw_headers
        self.body = body
        self.is_cut = False
        self.failure: httpx.HTTPError | None = None
        self._connection: KeptConnection | None = None

    @property
    def headers(self) -> httpx.Headers:
        """All headers, found by name in any case; made anew at each look."""
        return httpx.Headers(self.raw_headers)

    def keep(self, connection: KeptConnection) -> None:
        """Has a connection wait until it is known whether this is the answer that was meant."""
        self._connection = connection

    def accept(self) -> None:
        """Says that it is the answer: other requests may use its connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.give_back()

    def distrust(self) -> None:
        """Says that it answers another request: no further one is sent on its connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            connection.give_back()

    def __del__(self) -> None:
        # Whoever had it was cancelled before it could tell. This may be any thread.
        if self._connection is not None:
            self._connection.refuse_soon()


class ResponseReader:
    """Reads the reply to one request.

    Args:
        limits: What is kept of the body.
        has_body: False where none follows whatever the head says: after HEAD and CONNECT.
        unpacks: Whether a packed body is unpacked.
        is_lenient: Whether a head is read that is nearly HTTP: lines that end without CR, folded
            ones, control characters in a value.

    Attributes:
        response: As far as it has come; None until its head is whole.
        has_begun: Whether a byte of it has come.
        keeps_alive: Whether the connection may serve another request after it.
    """

    __slots__ = (
        "_ended_by_close",
        "_failure",
        "_has_body",
        "_headers",
        "_inflater",
        "_is_complete",
        "_limits",
        "_most_bytes",
        "_parser",
        "_parts",
        "_silent_bytes",
        "_size",
        "_unpacks",
        "has_begun",
        "keeps_alive",
        "response",
    )

    def __init__(
        self,
        limits: BodyLimits,
        *,
        has_body: bool = True,
        unpacks: bool = True,
        is_lenient: bool = False,
    ) -> None:
        self._parser = httptools.HttpResponseParser(self)
        if is_lenient:
            self._parser.set_dangerous_leniencies(
                lenient_headers=True,
                lenient_optional_cr_before_lf=True,
                lenient_spaces_after_chunk_size=True,
            )
        self._limits = limits
        self._has_body = has_body
        self._unpacks = unpacks
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._most_bytes = 0
        self._silent_bytes = 0
        self._inflater: Inflater | None = None
        self._ended_by_close = False
        self._is_complete = False
        self._failure: httpx.HTTPError | None = None
        self.response: Response | None = None
        self.has_begun = False
        self.keeps_alive = False

    def feed(self, data: bytes) -> Response | None:
        """Reads what has come; returns the response once it is whole, or cut.

        Raises:
            httpx.RemoteProtocolError: it is not HTTP, or its head has no end.
            httpx.DecodingError: its body can't be decompressed.
        """
        self.has_begun = True
        self._silent_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.keeps_alive = False
        except httptools.HttpParserError as exc:
            if not self._is_complete:
                raise httpx.RemoteProtocolError(str(exc)) from exc
            # What follows a whole reply is nobody's.
            self.keeps_alive = False
        if self._failure is not None:
            raise self._failure
        if not self._is_complete and self._silent_bytes > MAX_HEAD_BYTES:
            raise httpx.RemoteProtocolError(f"no body after {MAX_HEAD_BYTES} bytes of headers")
        return self.response if self._is_complete else None

    def finish(self) -> Response | None:
        """Notes that nothing more comes; returns the response if it is whole by that.

        Raises:
            httpx.DecodingError: its body can't be decompressed.
        """
        if self.response is None or not self._ended_by_close:
            return None
        self._end(self.response, keeps_alive=False)
        if self._failure is not None:
            raise self._failure
        return self.response

    def close(self) -> None:
        """Lets go of the parser, which knows this reader: the two would be garbage."""
        del self._parser
        if self.response is not None and not self._is_complete:
            self.response.body = b"".join(self._parts)

    # What follows is called by httptools, for what it finds in the bytes.

    def on_message_begin(self) -> None:
        """A second reply to one request is nobody's."""
        if self._is_complete:
            self.keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Headers, and trailers after the body, which are left out."""
        if self.response is None:
            # llhttp leaves the blanks behind a value to us.
            self._headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        """The head is whole; one of a status below 200 is followed by another."""
        status = self._parser.get_status_code()
        if self._silent_bytes > MAX_HEAD_BYTES and _size_of(self._headers) > MAX_HEAD_BYTES:
            self._failure = httpx.RemoteProtocolError("the head is too large")
            return
        if self._is_complete or (100 <= status < 200 and status != 101):
            return
        if status < 100:
            self._failure = httpx.RemoteProtocolError("a status below 100")
            return
        response = self.response = Response(status, self._headers)
        limits = self._limits
        self._most_bytes = limits.success if 200 <= status < 300 else limits.failure
        self._silent_bytes = 0
        if not self._has_body:
            self._end(response, keeps_alive=True)
            return
        self._plan_body(status, response)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._silent_bytes = 0
        if self._is_complete:
            self.keeps_alive = False
        if self._is_complete or self._failure is not None:
            return
        if self._inflater is not None:
            try:
                data = self._inflater.feed(data, self._most_bytes + 1 - self._size)
            except httpx.DecodingError as exc:
                self._failure = exc
                return
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._most_bytes and self.response is not None:
            self._cut(self.response)

    def on_message_complete(self) -> None:
        """The reply is whole, or a head of a status below 200."""
        if self.response is None:
            self._headers = []
        elif not self._is_complete:
            keeps_alive = self._parser.should_keep_alive() and self.response.status != 101
            self._end(self.response, keeps_alive=keeps_alive)

    def _plan_body(self, status: int, response: Response) -> None:
        is_sized = status in _BODILESS
        packing: list[str] = []
        told_bytes = 0
        for name, value in response.raw_headers:
            if name == b"content-length":
                is_sized = True
                # llhttp has taken it for a number.
                told_bytes = int(value)
            elif name == b"transfer-encoding":
                is_sized = value.rpartition(b",")[2].strip().lower() == b"chunked"
            elif name == b"content-encoding" and self._unpacks:
                packing.append(value.decode("latin-1"))
        self._ended_by_close = not is_sized
        if not packing:
            is_long = told_bytes > self._most_bytes and status not in _BODILESS
            if is_long and not self._limits.keeps_start:
                # It is not waited for.
                self._cut(response)
            return
        try:
            self._inflater = Inflater(", ".join(packing))
        except httpx.DecodingError as exc:
            self._failure = exc

    def _cut(self, response: Response) -> None:
        response.is_cut = True
        self._end(response, keeps_alive=False)

    def _end(self, response: Response, *, keeps_alive: bool) -> None:
        inflater = self._inflater
        if inflater is not None and self._parts and not (response.is_cut or inflater.is_complete):
            self._failure = httpx.DecodingError("the compressed body breaks off")
            return
        self._is_complete = True
        self.keeps_alive = keeps_alive
        parts = self._parts
        response.body = parts[0] if len(parts) == 1 else b"".join(parts)


def _size_of(headers: list[tuple[bytes, bytes]]) -> int:
    # Each has a colon, a blank and a line break, too.
    return sum(len(name) + len(value) + 4 for name, value in headers)
