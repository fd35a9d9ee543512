"""Sends HTTP requests at a steady pace for as little of the core as it can.

The core that it runs on is the worker's and Redis' too, and a client such as aiohttp's takes a
third of it for 500 requests a second: what would be measured is how long answers wait to be read.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

import uvloop

from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence

_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


def post_paced(
    url: str, bodies: Sequence[bytes], *, per_second: float, connections: int
) -> list[float | None]:
    """Posts JSON, each body when it is due or as soon after as a connection is free.

    Args:
        url: of all.
        bodies: in the order in which they are due.
        per_second: how many are due.
        connections: that are open.

    Returns:
        For each how many milliseconds after it was due its 202 was read; None where the answer was
        another one.

    Raises:
        BenchmarkError: a connection was closed, or an answer was none.
    """
    return uvloop.run(_post_paced(url, bodies, per_second, connections))


async def _post_paced(
    url: str, bodies: Sequence[bytes], per_second: float, connections: int
) -> list[float | None]:
    target = urlsplit(url)
    head = f"POST {target.path} HTTP/1.1\r\nHost: {target.netloc}\r\n".encode()
    head += b"Content-Type: application/json\r\nContent-Length: "
    requests = [b"%b%d%b%b" % (head, len(body), _END_OF_HEAD, body) for body in bodies]
    sending = _Sending(requests, per_second)
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(
            lambda: _Connection(sending), target.hostname or "", target.port or 80
        )
    try:
        return await sending.run()
    finally:
        sending.close()


class _Sending:
    """Requests, when they are due, and who sends them."""

    def __init__(self, requests: Sequence[bytes], per_second: float) -> None:
        self._requests = requests
        self._pause = 1 / per_second
        self._taken: list[float | None] = [None] * len(requests)
        self._left = len(requests)
        self._late: deque[int] = deque()
        self._begun = 0.0
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.all: list[_Connection] = []
        # In turns: a server closes a connection that rests for long.
        self.free: deque[_Connection] = deque()

    async def run(self) -> list[float | None]:
        self._begun = time.monotonic()
        for number in range(len(self._requests)):
            # uvloop's timers are of milliseconds and may end early by one; who is early looks fast.
            while (pause := self._due(number) - time.monotonic()) > 0:  # noqa: ASYNC110 # for a time
                await asyncio.sleep(math.ceil(pause * 1000) / 1000)
            if self._end.done():
                break
            if self.free:
                self.free.popleft().send(number, self._requests[number])
            else:
                self._late.append(number)
        await self._end
        return self._taken

    def answered(self, connection: _Connection, number: int, status: int) -> None:
        if status == 202:
            self._taken[number] = (time.monotonic() - self._due(number)) * 1000
        if self._late:
            late = self._late.popleft()
            connection.send(late, self._requests[late])
        else:
            self.free.append(connection)
        self._left -= 1
        if not self._left:
            self._end.set_result(None)

    def fail(self, told: str) -> None:
        if not self._end.done():
            self._end.set_exception(BenchmarkError(told))

    def close(self) -> None:
        for each in self.all:
            each.close()

    def _due(self, number: int) -> float:
        return self._begun + number * self._pause


class _Connection(asyncio.Protocol):
    """One request at a time; every answer has a length."""

    def __init__(self, sending: _Sending) -> None:
        self._sending = sending
        self._number = 0
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._sending.all.append(self)
        self._sending.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sending.fail(f"the gateway closed a connection: {exc}")

    def send(self, number: int, request: bytes) -> None:
        self._number = number
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(_END_OF_HEAD)
        if not end:
            return
        _, found, length = head.lower().partition(_LENGTH)
        if not found:
            self._sending.fail("an answer has no length")
            return
        if len(body) >= int(length.partition(b"\r\n")[0]):
            self._read = b""
            self._sending.answered(self, self._number, int(head[9:12]))
