"""A proxy before the sandbox that passes all on, and whose replies lie as it is told."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.socket_server import SocketServer, reset

if TYPE_CHECKING:
    from collections.abc import Callable

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """What a client gets for one request.

    Attributes:
        reply: In one piece.
        later: What nobody asked for, some seconds after it, on the same connection.
        delay_seconds: Until then.
    """

    reply: bytes
    later: bytes = b""
    delay_seconds: float = 0.0


class LyingProxy(SocketServer):
    """Passes requests on, and answers what it makes of them and their replies."""

    def __init__(
        self,
        port: int,
        lie: Callable[[bytes, bytes], Answer],
        cut: Callable[[bytes, bytes], bytes] = lambda _, partial: partial,
    ) -> None:
        """Takes the port of the server behind, and what makes an answer of request and reply.

        Args:
            port: Of the server behind.
            lie: What a client gets, by its request and the reply.
            cut: The same where the reply broke off.
        """
        self._back_port = port
        self._lie = lie
        self._cut = cut

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _connection: int
    ) -> None:
        # Whoever is killed, closes or resets in the middle is what this is for.
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._back_port)
            request = b""
            try:
                while True:
                    request = await _message(reader)
                    back_writer.write(request)
                    answer = self._lie(request, await _message(back_reader))
                    writer.write(answer.reply)
                    if answer.later:
                        await asyncio.sleep(answer.delay_seconds)
                        writer.write(answer.later)
            except asyncio.IncompleteReadError as cut:
                # What breaks off behind breaks off here; a client that has gone does not mind.
                writer.write(self._cut(request, cut.partial))
            except ConnectionResetError:
                reset(writer)
            finally:
                back_writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    told = _LENGTH.search(head)
    try:
        return head + (await reader.readexactly(int(told[1])) if told else b"")
    except asyncio.IncompleteReadError as cut:
        raise asyncio.IncompleteReadError(head + cut.partial, cut.expected) from None
