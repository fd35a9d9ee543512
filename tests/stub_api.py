"""A real HTTP server that records requests and answers, or fails, exactly as told."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.socket_server import SocketServer, reset

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

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
class StubApi(SocketServer):
    """Answers requests one after the other, each as it was told.

    Attributes:
        answers: One for each request to come; when none is left, `default` serves.
        recorded: What came, in order.
        sent_bytes: Of all answers, as far as the connections took them.
        reads: Whether it reads what comes.
        tls: Over TLS, where it is given.
    """

    default: Answer = field(default_factory=lambda: reply(200, b"null"))
    answers: deque[Answer] = field(default_factory=deque)
    recorded: list[Recorded] = field(default_factory=list)
    sent_bytes: int = 0
    receive_buffer_bytes: int | None = None
    reads: bool = True
    tls: ssl.SSLContext | None = None

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        try:
            if not self.reads:
                await self._stop.wait()
            while await self._exchange(reader, writer, connection):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

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
            reset(writer)
        return answer.then == "keep"

    async def _send(self, writer: asyncio.StreamWriter, raw: bytes) -> None:
        # Piece by piece: tests measure the memory of this process, so nothing may pile up here.
        for start in range(0, len(raw), _PIECE_BYTES):
            writer.write(raw[start : start + _PIECE_BYTES])
            await writer.drain()
            self.sent_bytes += min(_PIECE_BYTES, len(raw) - start)
