"""How aiohttp is made to send exactly what was signed, and at most once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    import ssl
    from contextlib import AbstractAsyncContextManager

# Shorter than the idle timeouts of usual servers and load balancers, so that it is we who close.
KEEP_ALIVE_SECONDS = 15.0

NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)
"""Failures that come before the first byte of a request is written."""


class LostOnceError(aiohttp.ClientError):
    """Wraps a lost connection so that aiohttp does not send the request again."""


class ExactSession:
    """Stands before aiohttp's session so that a target leaves exactly as it was signed.

    Given a string, yarl quotes it anew: `%2F` in a page token becomes `/`, and the signature is
    wrong.
    """

    __slots__ = ("_session",)

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def __call__(self) -> Self:
        """Returns itself."""
        return self

    def request(
        self,
        *,
        url: str,
        **options: Any,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Sends a request to `url` as it stands; `options` are those of aiohttp."""
        return self._session.request(url=URL(url, encoded=True), **options)


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
        connector = aiohttp.TCPConnector(limit=connections, ssl=ssl_context, force_close=True)
    else:
        connector = aiohttp.TCPConnector(
            limit=connections, ssl=ssl_context, keepalive_timeout=KEEP_ALIVE_SECONDS
        )
    return aiohttp.ClientSession(
        connector=connector,
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
