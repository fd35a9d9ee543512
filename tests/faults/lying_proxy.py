"""A proxy before the sandbox that passes all on, and whose replies lie as it is told."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

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


class LyingProxy:
    """Listens on a free loopback port in its own thread while it is entered."""

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

    def __enter__(self) -> Self:
        self._started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),))
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Kept here, or a collection of garbage takes one that waits.
            task = asyncio.create_task(self._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024)
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        # A server that closes while the loop takes a connection in forgets that one, unclosed.
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in list(tasks):
                task.cancel()
            await asyncio.wait(left)
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
                _reset(writer)
            finally:
                back_writer.close()
        writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    told = _LENGTH.search(head)
    try:
        return head + (await reader.readexactly(int(told[1])) if told else b"")
    except asyncio.IncompleteReadError as cut:
        raise asyncio.IncompleteReadError(head + cut.partial, cut.expected) from None


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes a connection so that it is not ended but reset."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
