"""One signed request over HTTP.

A ready `httpx.Request` goes straight to the transport over aiohttp: httpx's client layer would
cost more than everything else here together, and its cookies and redirects are not wanted.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from random import getrandbits
from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import urlencode

import aiohttp
import httpx

from schemas.events import ErrorCode
from worker.encord.api.api_clock import ApiClock
from worker.encord.api.base_url import parse_domain
from worker.encord.api.decoding import Inflater
from worker.encord.api.error_responses import LONGEST_RETRY_AFTER_SECONDS, Reply, error_for
from worker.encord.api.exceptions import failure_for, let_go
from worker.errors import BadResponseError
from worker.http.aiohttp_transport import Session, open_session
from worker.http.authorities import create_tls_context
from worker.http.connections import Exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
    from types import TracebackType

    from worker.encord.api.signing import Credentials

BASE_PATH = "/v2/public"

# A larger reply would cost a small worker its memory; a thousand frames of polygons are some ten
# MiB.
REPLY_LIMIT_BYTES = 32 * 1_048_576

# Of what is no success only a message of some hundred characters is kept.
_MAX_FAILURE_BYTES = 262_144

# Larger bodies are written piece by piece, so that other requests have their turn in between.
MAX_PIECE_BYTES = 65_536

_SUCCESSES = frozenset({200, 204})


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each phase of a request may take, in seconds.

    Attributes:
        connect: Until the connection stands, TLS included.
        read: Between two pieces of the reply; a long poll adds its own wait.
        write: For sending the request.
        pool: For a free connection, and for opening it.
    """

    connect: float = 5.0
    read: float = 120.0
    write: float = 60.0
    pool: float = 10.0


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A success of the API.

    Attributes:
        status: 200 or 204.
        headers: Found by name in any case.
        body: All of it, decompressed.
        exchange: That it ends; its connection waits until one of the two methods is called.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    exchange: Exchange | None = None

    def accept(self) -> None:
        """Says that it is the answer: other requests may use its connection."""
        if self.exchange is not None:
            self.exchange.end()

    def distrust(self) -> None:
        """Says that it answers another request: no further one is sent on its connection."""
        if self.exchange is not None:
            self.exchange.refuse()


class Sender(Protocol):
    """Sends requests: the transport itself, or the gate before it."""

    @property
    def timeouts(self) -> Timeouts:
        """How long each phase of a request may take."""
        ...

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        fresh: bool = False,
        read_timeout_seconds: float | None = None,
    ) -> ApiResponse:
        """Returns the API's success, or raises an error of `worker.errors`."""
        ...


class Transport:
    """Sends signed requests to one domain; made anywhere, used on one event loop."""

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        domain: str,
        credentials: Credentials,
        *,
        timeouts: Timeouts | None = None,
        connections: int = 288,
        proxy: str | None = None,
        user_agent: str = "trainmaster",
        longest_wait_seconds: float = LONGEST_RETRY_AFTER_SECONDS,
        reply_limit_bytes: int = REPLY_LIMIT_BYTES,
        clock: ApiClock | None = None,
    ) -> None:
        """Makes a transport; nothing is opened before the first request.

        Args:
            domain: Scheme and host, like `https://api.encord.com`.
            credentials: What signs each request.
            timeouts: Defaults as `Timeouts` says.
            connections: Open at most; requests beyond wait for a free one.
            proxy: URL of a proxy; `environment_proxy` finds the usual one.
            user_agent: Who we say we are.
            longest_wait_seconds: A `Retry-After` that asks for more is cut to this.
            reply_limit_bytes: Of a reply's body, unpacked; a larger one is an error.
            clock: Sees the `Date` of replies; what signs reads it.

        Raises:
            SettingError: The domain is not a URL that can be asked, or a file of authorities
                can't be used.
        """
        origin = parse_domain(domain)
        prefix = origin.raw_path.decode().rstrip("/")
        self._origin = f"{origin.scheme}://{origin.netloc.decode()}"
        self._prefix = prefix + BASE_PATH
        self.domain = self._origin + prefix
        self._credentials = credentials
        self.timeouts = timeouts or Timeouts()
        self._connections = connections
        self._proxy = proxy
        self._longest_wait_seconds = longest_wait_seconds
        self._reply_limit_bytes = reply_limit_bytes
        self._clock = clock or ApiClock()
        self._ssl_context = create_tls_context()
        self._pooled: Session | None = None
        self._fresh: Session | None = None
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": user_agent,
        }

    def __repr__(self) -> str:
        return f"Transport({self.domain!r}, {self._credentials!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def use(self, credentials: Credentials) -> None:
        """Signs with other credentials from now on."""
        self._credentials = credentials

    async def aclose(self) -> None:
        """Closes every connection; a later request would open new ones."""
        opened = (self._pooled, self._fresh)
        self._pooled = self._fresh = None
        for transport in opened:
            if transport is not None:
                await transport.aclose()

    async def send(  # noqa: PLR0913 - what there is to say of a request
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        fresh: bool = False,
        read_timeout_seconds: float | None = None,
        within_seconds: float | None = None,
    ) -> ApiResponse:
        """Returns the API's success.

        Args:
            method: In capitals.
            path: Below `/v2/public`, quoted.
            query: Names and values in order, not quoted.
            body: JSON.
            fresh: For requests that change something: an own connection and never a second
                attempt, so that the request reaches the API at most once.
            read_timeout_seconds: Instead of the usual one.
            within_seconds: More than 0; without a connection by then it is not sent.

        Raises:
            TrainmasterError: Anything but 200 and 204; `worker.errors` has the tree.
        """
        timeouts = self.timeouts
        read = timeouts.read if read_timeout_seconds is None else read_timeout_seconds
        request = self._request(method, path, query, body, read)
        if within_seconds is not None and within_seconds < timeouts.pool + timeouts.connect:
            request.extensions["timeout"]["within"] = within_seconds
        exchange = None if fresh else Exchange()
        try:
            answer, content = await self._exchanged(request, exchange, read)
        except BaseException:
            if exchange is not None:
                exchange.refuse()
            raise
        if answer.status in _SUCCESSES:
            return ApiResponse(answer.status, answer.headers, content, exchange)
        if exchange is not None:
            # It names no request, so that it may answer an earlier one; then ours is to come.
            exchange.refuse()
        raise error_for(self._reply(answer, content, change=fresh))

    async def _exchanged(
        self, request: httpx.Request, exchange: Exchange | None, read_timeout_seconds: float
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """Sends a request; returns its answer and the whole body."""
        timeouts = self.timeouts
        most = timeouts.pool + timeouts.connect + timeouts.write + read_timeout_seconds
        session = self._opened(fresh=exchange is None)
        try:
            # aiohttp has no timeout for writing, and its read timeout starts anew with every
            # byte: this one ends an exchange that stalls or trickles.
            async with asyncio.timeout(most):
                with nullcontext() if exchange is None else exchange.requesting():
                    answer: aiohttp.ClientResponse = await session.send(request)
                content = await _read(answer, self._reply_limit_bytes)
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as exc:
            let_go(exc)
            # It keeps the error, whose traceback keeps this frame: nobody would free the two.
            answer = None  # type: ignore[assignment]
            raise failure_for(exc, self.domain) from exc
        self._clock.see(answer.status, answer.headers)
        return answer, content

    def _request(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        body: bytes | None,
        read_timeout_seconds: float,
    ) -> httpx.Request:
        target = self._prefix + path
        if query:
            target = f"{target}?{urlencode(query)}"
        headers = self._headers | self._credentials.headers(method, target, body or b"")
        headers["X-Cloud-Trace-Context"] = f"{getrandbits(128):032x}/1;o=1"
        if body is not None:
            headers["Content-Type"] = "application/json"
        timeouts = self.timeouts
        extensions = {
            "timeout": {
                "pool": timeouts.pool + timeouts.connect,
                "connect": timeouts.connect,
                "read": read_timeout_seconds,
            }
        }
        url = _parse_url(self._origin + target)
        if body is not None and len(body) > MAX_PIECE_BYTES:
            headers["Content-Length"] = str(len(body))
            pieces = _Pieces(body)
            return httpx.Request(method, url, headers=headers, stream=pieces, extensions=extensions)
        stream = httpx.ByteStream(body or b"")
        return httpx.Request(method, url, headers=headers, stream=stream, extensions=extensions)

    def _opened(self, *, fresh: bool) -> Session:
        if fresh:
            self._fresh = self._fresh or self._open(fresh=True)
            return self._fresh
        self._pooled = self._pooled or self._open(fresh=False)
        return self._pooled

    def _open(self, *, fresh: bool) -> Session:
        return Session(
            open_session(
                connections=self._connections,
                ssl_context=self._ssl_context,
                proxy=self._proxy,
                fresh=fresh,
            )
        )

    def _reply(self, answer: aiohttp.ClientResponse, content: bytes, *, change: bool) -> Reply:
        said = self._credentials.redact(content.decode(errors="replace"))
        return Reply(
            answer.status,
            httpx.Headers(answer.raw_headers),
            said.encode(),
            self.domain,
            self._longest_wait_seconds,
            change=change,
        )


async def _read(answer: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Returns the whole body; what can't be read matters only of a success."""
    succeeded = answer.status in _SUCCESSES
    most_bytes = limit_bytes if succeeded else min(limit_bytes, _MAX_FAILURE_BYTES)
    told_bytes = answer.content_length
    packing = answer.headers.getall("Content-Encoding", ())
    try:
        if not packing and told_bytes is not None and told_bytes <= most_bytes:
            return await answer.read()
        inflater = Inflater(", ".join(packing)) if packing else None
        pieces = answer.content.iter_chunked(MAX_PIECE_BYTES)
        content = await _read_pieces(pieces, inflater, most_bytes)
    except (httpx.HTTPError, aiohttp.ClientError):
        if succeeded:
            raise
        return b""
    finally:
        # The connection goes back; where something is left unread, it is closed.
        answer.release()
        await answer.wait_for_close()
    if len(content) > limit_bytes and succeeded:
        raise BadResponseError(
            f"the API's answer is larger than {limit_bytes} bytes; TRAINMASTER_REPLY_LIMIT_BYTES "
            "allows more",
            code=ErrorCode.BAD_RESPONSE,
        )
    return content


async def _read_pieces(
    pieces: AsyncIterable[bytes], inflater: Inflater | None, most_bytes: int
) -> bytes:
    """Returns what comes; once that is too much, what came until then."""
    parts: list[bytes] = []
    size = 0
    async for piece in pieces:
        part = piece if inflater is None else inflater.feed(piece, most_bytes + 1 - size)
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            break
    return b"".join(parts)


class _Pieces(httpx.AsyncByteStream):
    """A large body, piece by piece."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), MAX_PIECE_BYTES):
            yield self._body[start : start + MAX_PIECE_BYTES]


@lru_cache(maxsize=1024)
def _parse_url(url: str) -> httpx.URL:
    # Predictions ask the same few addresses thousands of times; parsing is dear.
    return httpx.URL(url)
