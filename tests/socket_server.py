"""What the servers of the tests have in common: a thread, a free port, and an orderly end."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

_BACKLOG = 1024
_PIECE_BYTES = 65_536


class SocketServer:
    """Listens on a free loopback port, in a thread and a loop of its own, while it is entered.

    Attributes:
        port: Where it listens.
        connections: How many there were; over TLS, how many handshakes succeeded.
        tls: What it shows of itself, if it speaks TLS.
        receive_buffer_bytes: Of each connection, if it is to be small.
    """

    connections: int = 0
    tls: ssl.SSLContext | None = None
    receive_buffer_bytes: int | None = None

    def __enter__(self) -> Self:
        # Of one kind, whatever loop the test itself runs.
        self._loop = asyncio.SelectorEventLoop()
        self._stop = asyncio.Event()
        if self.tls is not None:
            # A client that breaks off a handshake is what some tests are about.
            self._loop.set_exception_handler(lambda _loop, _context: None)
        # asyncio sends at once only where a socket says that it is TCP.
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        if self.receive_buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer_bytes)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(_BACKLOG)
        self.port = int(self._socket.getsockname()[1])
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

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    async def _run(self) -> None:
        # Kept here, or a collection of garbage takes a task that waits.
        tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.add(writer)
            if self._stop.is_set():
                return
            self.connections += 1
            task = asyncio.create_task(self._connected(reader, writer, self.connections))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(
            connected, sock=self._socket, ssl=self.tls, backlog=_BACKLOG
        )
        await self._stop.wait()
        # A server that closes while the loop takes a connection in forgets that one, unclosed.
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in list(tasks):
                task.cancel()
            await asyncio.wait(left)
        server.close()
        # A loop that ends before it has closed its connections leaves that to the collector.
        # Each may be another's last moment: one that was being taken in joins them meanwhile.
        while self._writers:
            writer = self._writers.pop()
            writer.transport.abort()
            # A task that was cancelled while it waited for the same has cancelled that, too.
            with suppress(Exception, asyncio.CancelledError):
                await writer.wait_closed()
        for _ in range(3):
            await asyncio.sleep(0)

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        try:
            await self._serve(reader, writer, connection)
        finally:
            writer.close()
            with suppress(Exception):
                await writer.wait_closed()
            self._writers.discard(writer)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        """Serves a connection, which is closed then; they are numbered from 1 on."""
        raise NotImplementedError


def reset(writer: asyncio.StreamWriter) -> None:
    """Closes a connection so that it is not ended but reset."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes on what comes until it ends, as a proxy does; then the other side ends too."""
    with suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()
