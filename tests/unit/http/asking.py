"""Requests over the layer alone: no signature, no API, no errors but httpx's."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from worker.http.authorities import create_tls_context
from worker.http.opening import Route
from worker.http.pool import ConnectionPool, Terms
from worker.http.request_head import write_head
from worker.http.response import BodyLimits
from worker.http.timeouts import Timeouts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from worker.http.response import Response

PATIENT = Timeouts(connect=30, read=30, write=30, pool=30)
LIMIT_BYTES = 1_000_000


def route_to(url: str, proxy: str | None = None) -> Route:
    """Returns the way to a server, which trusts whom the environment names."""
    return Route(httpx.URL(url), create_tls_context(), None if proxy is None else httpx.URL(proxy))


@asynccontextmanager
async def opened(
    url: str, *, proxy: str | None = None, limit: int = 4, keeps: bool = True
) -> AsyncIterator[ConnectionPool]:
    """Opens a pool to a server, and closes it."""
    pool = ConnectionPool(route_to(url, proxy), limit=limit, keeps=keeps)
    try:
        yield pool
    finally:
        await pool.aclose()


async def exchange(
    pool: ConnectionPool,
    method: str = "GET",
    target: str = "/",
    body: bytes = b"",
    *,
    headers: Sequence[str] = (),
    timeouts: Timeouts = PATIENT,
    limit_bytes: int = LIMIT_BYTES,
    accepts: bool = True,
) -> Response:
    """Sends one request; by `accepts` the connection is free again."""
    lines = [*pool.route.request_lines(method, target), *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    terms = Terms(
        timeouts,
        BodyLimits(limit_bytes, limit_bytes),
        is_repeatable=method == "GET",
        has_body=method != "HEAD",
    )
    response = await pool.send(write_head(lines), body, terms)
    if accepts:
        response.accept()
    return response


async def settled(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Returns what a coroutine returns, once the loop has closed what was given up.

    With TLS an end takes turns of both sides.
    """
    result = await coroutine
    await asyncio.sleep(0.05)
    return result


def open_descriptors() -> int:
    """Returns how many files, sockets and pipes this process has open."""
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.exists() else 0


async def comes_true(holds: Callable[[], bool], seconds: float = 30) -> bool:
    """Tells whether something comes to hold; collects garbage meanwhile."""
    for _ in range(int(seconds / 0.02)):
        if holds():
            return True
        gc.collect()
        await asyncio.sleep(0.02)
    return holds()
