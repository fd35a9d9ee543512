"""Endpoints of webhooks in a process of their own: `python -m tests.faults.endpoints FILE KIND…`.

Prints the port of each kind on a line. Each request that is answered 200 becomes a line of FILE:
kind, seconds since 1970, id. A line on standard input heals all: from then on they answer 200.

`good` answers 200, `slow` after two seconds, `flapping` 500 in every other five seconds, `lying`
200 as soon as the head is there, with the body unread; `dead` does not listen before it is healed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TextIO

SLOW_SECONDS: Final = 2.0
FLAP_SECONDS: Final = 5.0
_HEAD_BYTES: Final = 65_536


class Endpoints:
    """All kinds, each on a port of its own."""

    def __init__(self, log: TextIO) -> None:
        self._log = log
        self._healed = asyncio.Event()

    async def serve(self, kinds: list[str]) -> None:
        """Serves until standard input ends."""
        servers, late = [], []
        for kind in kinds:
            handler = self._handler(kind)
            server = await asyncio.start_server(handler, "127.0.0.1", 0, limit=_HEAD_BYTES)
            port = server.sockets[0].getsockname()[1]
            if kind == "dead":
                server.close()
                late.append((handler, port))
            else:
                servers.append(server)
            sys.stdout.write(f"{kind} {port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        self._healed.set()
        for handler, port in late:
            servers.append(await asyncio.start_server(handler, "127.0.0.1", port))
        await asyncio.to_thread(sys.stdin.readline)

    def _handler(
        self, kind: str
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await self._answer(kind, reader, writer):
                    pass
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        return handle

    async def _answer(
        self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2]]
        named = {name.lower(): value for name, value in fields}
        lies = kind == "lying" and not self._healed.is_set()
        if not lies:
            await reader.readexactly(int(named[b"content-length"]))
        if kind == "slow" and not self._healed.is_set():
            await asyncio.sleep(SLOW_SECONDS)
        status = 200
        if kind == "flapping" and not self._healed.is_set():
            status = 500 if int(time.time() / FLAP_SECONDS) % 2 else 200
        if status == 200:
            self._log.write(f"{kind} {time.time():.6f} {named[b'webhook-id'].decode()}\n")
            self._log.flush()
        writer.write(b"HTTP/1.1 %d Told\r\ncontent-length: 0\r\n\r\n" % status)
        await writer.drain()
        return not lies


def main() -> None:
    """Serves what the command line says."""
    with Path(sys.argv[1]).open("a", encoding="utf-8") as log:
        asyncio.run(Endpoints(log).serve(sys.argv[2:]))


if __name__ == "__main__":
    main()
