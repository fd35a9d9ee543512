"""A real HTTP server that records requests and answers, or fails, exactly as told."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_PIECE_BYTES = 65_536


@dataclass(frozen=True)
class Recorded:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


@dataclass(frozen=True)
class Answer:
    """What the server does with one request.

    Attributes:
        raw: Sent as it stands.
        then: `keep`, `close`, `reset` or `hang` the connection, or `trickle` on and on.
        delay_seconds: Before anything is sent.
    """

    raw: bytes = b""
    then: str = "keep"
    delay_seconds: float = 0.0


def reply(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Returns an answer with a status line, headers (`retry_after` is `retry-after`) and a body."""
    lines = [f"HTTP/1.1 {status} Stub", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return Answer("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


@dataclass
class StubApi:
    """Listens on a free loopback port in its own thread while it is entered.

    Attributes:
        answers: One for each request to come; when none is left, `default` serves.
        recorded: What came, in order.
        sent_bytes: Of all answers, as far as the connections took them.
    """

    default: Answer = field(default_factory=lambda: reply(200, b"null"))
    answers: deque[Answer] = field(default_factory=deque)
    recorded: list[Recorded] = field(default_factory=list)
    sent_bytes: int = 0
    receive_buffer_bytes: int | None = None
    reads: bool = True

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._connections = 0
        self._socket = socket.socket()
        if self.receive_buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer_bytes)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(64)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        writers: set[asyncio.StreamWriter] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.add(writer)
            if self._stop.is_set():
                return
            task = asyncio.create_task(self._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, sock=self._socket)
        await self._stop.wait()
        for task in list(tasks):
            task.cancel()
        # A server that closes while the loop takes a connection in forgets that one, unclosed.
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left)
        server.close()
        # A loop that ends before it has closed its connections leaves that to the collector.
        for writer in writers:
            writer.transport.abort()
            with suppress(Exception):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = self._connections
        try:
            if not self.reads:
                await self._stop.wait()
            while await self._exchange(reader, writer, connection):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {
            name.strip().lower(): value.strip()
            for name, value in (line.split(":", 1) for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.recorded.append(Recorded(method, target, headers, body, connection))
        answer = self.answers.popleft() if self.answers else self.default
        await asyncio.sleep(answer.delay_seconds)
        await self._send(writer, answer.raw)
        while answer.then == "trickle" and not self._stop.is_set():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)
        if answer.then == "hang":
            await self._stop.wait()
        if answer.then == "reset":
            raw_socket = writer.get_extra_info("socket")
            raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return answer.then == "keep"

    async def _send(self, writer: asyncio.StreamWriter, raw: bytes) -> None:
        # Piece by piece: tests measure the memory of this process, so nothing may pile up here.
        for start in range(0, len(raw), _PIECE_BYTES):
            writer.write(raw[start : start + _PIECE_BYTES])
            await writer.drain()
            self.sent_bytes += min(_PIECE_BYTES, len(raw) - start)
