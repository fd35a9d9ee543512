"""A real proxy: it passes requests on, opens tunnels, wants a login, or misbehaves as told."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.socket_server import SocketServer, pass_on, reset

if TYPE_CHECKING:
    import ssl


@dataclass
class ProxyServer(SocketServer):
    """A proxy for plain HTTP and for tunnels.

    Attributes:
        target_port: Where all goes to, whatever a request names.
        tls: Over TLS itself, where it is given.
        login: `user:password` that it wants, if any.
        says: Instead of its own reply to CONNECT.
        then: After that, `keep` the connection, `close`, `reset` or `hang` it.
        heads: What it was asked, in order.
    """

    target_port: int
    tls: ssl.SSLContext | None = None
    login: str | None = None
    says: bytes | None = None
    then: str = "keep"
    heads: list[str] = field(default_factory=list)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _connection: int
    ) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            if self.login is not None:
                wanted = base64.b64encode(self.login.encode()).decode()
                if f"\r\nProxy-Authorization: Basic {wanted}\r\n" not in head:
                    writer.write(b"HTTP/1.1 407 Login\r\ncontent-length: 0\r\n\r\n")
                    await writer.drain()
                    return
            if self.says is not None:
                writer.write(self.says)
                await writer.drain()
                await self._end(writer)
            if head.startswith("CONNECT "):
                if self.says is None:
                    writer.write(b"HTTP/1.1 200 Connection established\r\nvia: us\r\n\r\n")
                await self._tunnel(reader, writer, b"")
            else:
                # As a proxy does: what the server gets is the path alone.
                line, _, rest = head.partition("\r\n")
                method, url, version = line.split(" ")
                path = "/" + url.partition("://")[2].partition("/")[2]
                await self._tunnel(reader, writer, f"{method} {path} {version}\r\n{rest}".encode())

    async def _end(self, writer: asyncio.StreamWriter) -> None:
        match self.then:
            case "hang":
                await self._stop.wait()
            case "reset":
                reset(writer)
                raise ConnectionError
            case "close":
                raise ConnectionError

    async def _tunnel(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes
    ) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        back_writer.write(first)
        try:
            await asyncio.gather(pass_on(reader, back_writer), pass_on(back_reader, writer))
        finally:
            back_writer.close()
