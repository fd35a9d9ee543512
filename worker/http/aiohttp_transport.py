"""How aiohttp is made to send exactly what was signed, and at most once."""

from __future__ import annotations

import asyncio
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import aiohttp
import httpx
from multidict import CIMultiDict
from yarl import URL

from worker.http.connections import Connector, NotWrittenError, Request

if TYPE_CHECKING:
    import ssl

# Shorter than the idle timeouts of usual servers and load balancers, so that it is we who close.
KEEP_ALIVE_SECONDS = 15.0

NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
    NotWrittenError,
)
"""Failures that come before the first byte of a request is written."""

# Each try takes another connection; one that is new and yet broken is the server's doing.
_TRIES = 3


class LostOnceError(aiohttp.ClientError):
    """Wraps a lost connection so that aiohttp does not send the request again."""


class Session:
    """Sends httpx's requests through a session of aiohttp; raises aiohttp's errors as they are.

    Not httpx-aiohttp's transport: that one quotes a target anew, so that `%2F` in a page token
    becomes `/` and the signature is wrong; calls every lost connection a `ConnectTimeout`, also one
    that is lost after the request was sent; and makes timeouts and URL anew for every request.
    The answer is aiohttp's own, for a response of httpx would decode and copy each header again.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def send(self, request: httpx.Request) -> aiohttp.ClientResponse:
        """Sends a request with the timeouts of its extension; whoever has the answer closes it.

        Raises:
            aiohttp.ClientError: nothing was sent, as `NOT_SENT` tells, or no answer came.
        """
        url = _exact(str(request.url))
        headers = CIMultiDict([
            (name.decode("ascii"), value.decode("ascii")) for name, value in request.headers.raw
        ])
        stream = request.stream
        body = b"".join(stream) if isinstance(stream, httpx.ByteStream) else stream
        times = request.extensions["timeout"]
        timeout = (
            _timeout(times["pool"], times["connect"], times["read"])
            if "within" not in times
            else _timeout_within(times["within"], times["connect"], times["read"])
        )
        tries = 0
        while True:
            tries += 1
            try:
                return await self._session.request(
                    request.method,
                    url,
                    headers=headers,
                    data=body or None,
                    allow_redirects=False,
                    timeout=timeout,
                )
            except NotWrittenError:
                # Not one byte was written, so that even a change may go out anew.
                if tries == _TRIES:
                    raise

    async def aclose(self) -> None:
        """Closes the session and its connections."""
        await self._session.close()
        # A connection that was given up just now is closed in the loop's next turn, and the loop
        # may end before that.
        await asyncio.sleep(0)


@lru_cache(maxsize=1024)
def _exact(url: str) -> URL:
    return URL(url, encoded=True)


@lru_cache(maxsize=256)
def _timeout(pool: float, connect: float, read: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=pool, sock_connect=connect, sock_read=read)


def _timeout_within(within: float, connect: float, read: float) -> aiohttp.ClientTimeout:
    """Returns the timeouts of a request that must have a connection within so many seconds."""
    # Not kept, for no two are the same; and not rounded up to a whole second, as aiohttp does
    # with what is longer than its threshold.
    return aiohttp.ClientTimeout(
        connect=within, sock_connect=connect, sock_read=read, ceil_threshold=math.inf
    )


def open_session(
    *, connections: int, ssl_context: ssl.SSLContext, proxy: str | None, fresh: bool
) -> aiohttp.ClientSession:
    """Returns a session without cookies.

    Args:
        connections: Open at most at a time.
        ssl_context: How servers are verified.
        proxy: URL of a proxy.
        fresh: Whether each request has its own connection and is sent at most once.
    """
    if fresh:
        connector = Connector(limit=connections, ssl=ssl_context, force_close=True)
    else:
        connector = Connector(
            limit=connections, ssl=ssl_context, keepalive_timeout=KEEP_ALIVE_SECONDS
        )
    return aiohttp.ClientSession(
        connector=connector,
        request_class=Request,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        proxy=proxy,
        middlewares=(_send_once,) if fresh else (),
    )


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keeps aiohttp from sending a DELETE again after a lost connection, as it does by itself.

    It repeats idempotent methods after just these two errors, and after no other.
    """
    try:
        return await handler(request)
    except NOT_SENT:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        raise LostOnceError from exc


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
