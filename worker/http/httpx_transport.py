"""The face of this layer: what `httpx.AsyncClient(transport=…)` takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import httpx

from worker.http.opening import Route
from worker.http.pool import ConnectionPool, Terms
from worker.http.request_head import check_target, write_head
from worker.http.response import BodyLimits
from worker.http.timeouts import Timeouts

if TYPE_CHECKING:
    import ssl

# Written by us: the body goes out in one piece, whatever it was given as.
_OURS: Final = frozenset({b"host", b"transfer-encoding", b"content-length"})
# What httpx calls None; a loop takes no infinite time.
_NO_LIMIT: Final = 1e7
_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class PooledTransport(httpx.AsyncBaseTransport):
    """Sends httpx's requests over pools of our own, one for each server.

    A request is sent once, but for one that changes nothing on a connection that ended at rest.
    Its body is read before it is sent, and a reply's before it is returned, as it came: httpx
    unpacks it.

    Args:
        tls: How servers are verified.
        proxy: Of all requests.
        connections: To each server.
        timeouts: For a request that says nothing else.
        request_limit_bytes: Of a body; larger ones are not sent.
        reply_limit_bytes: Of a body; larger ones are an error.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        proxy: httpx.URL | None = None,
        connections: int = 100,
        timeouts: Timeouts | None = None,
        request_limit_bytes: int = 64 * 1_048_576,
        reply_limit_bytes: int = 64 * 1_048_576,
    ) -> None:
        self._tls = tls
        self._proxy = proxy
        self._connections = connections
        self._timeouts = timeouts or Timeouts()
        self._request_limit_bytes = request_limit_bytes
        self._limits = BodyLimits(reply_limit_bytes, reply_limit_bytes)
        self._pools: dict[httpx.URL, ConnectionPool] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request and returns its reply.

        Raises:
            httpx.TransportError: With the request; one of `NOT_SENT` if nothing was written.
        """
        try:
            body = await self._read_body(request)
            pool = self._pool_of(request.url)
            head = _head_of(request, pool.route, len(body))
            response = await pool.send(head, body, self._terms_of(request))
        except httpx.TransportError as exc:
            exc.request = request
            raise
        failure = response.failure
        if response.is_cut:
            told = f"the reply is larger than {self._limits.success} bytes"
            failure = httpx.RemoteProtocolError(told)
        if failure is not None:
            response.distrust()
            failure.request = request
            raise failure
        response.accept()
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=httpx.ByteStream(response.body),
            extensions={"http_version": b"HTTP/1.1"},
            request=request,
        )

    async def aclose(self) -> None:
        """Closes every connection; a later request would open new ones."""
        pools = list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            await pool.aclose()

    async def _read_body(self, request: httpx.Request) -> bytes:
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise httpx.LocalProtocolError("the body is not for an asynchronous client")
        parts: list[bytes] = []
        size = 0
        async for part in request.stream:
            size += len(part)
            if size > self._request_limit_bytes:
                raise httpx.LocalProtocolError(
                    f"the body is larger than {self._request_limit_bytes} bytes"
                )
            parts.append(part)
        return b"".join(parts)

    def _pool_of(self, url: httpx.URL) -> ConnectionPool:
        if url.scheme not in {"http", "https"} or not url.host:
            raise httpx.UnsupportedProtocol(f"no http:// or https:// URL: {url.scheme!r}")
        origin = httpx.URL(f"{url.scheme}://{url.netloc.decode('ascii')}")
        pool = self._pools.get(origin)
        if pool is None:
            route = Route(origin, self._tls, self._proxy)
            pool = self._pools[origin] = ConnectionPool(route, limit=self._connections)
        return pool

    def _terms_of(self, request: httpx.Request) -> Terms:
        told = request.extensions.get("timeout", {})
        given = {name: _NO_LIMIT if value is None else value for name, value in told.items()}
        return Terms(
            replace(self._timeouts, **given),
            self._limits,
            is_repeatable=request.method in _REPEATABLE,
            has_body=request.method != "HEAD",
            unpacks=False,
        )


def _head_of(request: httpx.Request, route: Route, size: int) -> bytes:
    target = request.url.raw_path.decode("ascii")
    check_target(target)
    lines = route.request_lines(request.method, target)
    lines[1] = f"Host: {request.headers['host']}"
    lines += [
        f"{name.decode('latin-1')}: {value.decode('latin-1')}"
        for name, value in request.headers.raw
        if name.lower() not in _OURS
    ]
    if size or "content-length" in request.headers or "transfer-encoding" in request.headers:
        lines.append(f"Content-Length: {size}")
    return write_head(lines)
