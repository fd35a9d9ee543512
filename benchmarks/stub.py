"""The stub of the API: answers every POST with the same prediction after a fixed time.

It checks nothing. It counts calls by what the request is about: the item's uuid, or the first
characters of an image, in which the benchmarks write the command's id. More requests are for
whoever measures: `GET /calls` tells the counts, `GET /connections` on how many connections calls
came, and `PUT /latency/<ms>` changes the time.

Started as `python -m benchmarks.stub --ready FILE`; the file gets the port.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import re
import signal
import ssl
from collections import Counter, deque
from pathlib import Path
from typing import Any, Final

# How much of an image is the command's id: 36 bytes, which are 48 characters without padding.
ID_BYTES: Final = 36
ID_CHARACTERS: Final = 48
ITEMS: Final = 6

_TICK_SECONDS = 0.001
_BACKLOG = 4096
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_IMAGE = b'"dataBase64": "'
_DATA = b'"dataUuid": "'
_HEAD_END = b"\r\n\r\n"


def prediction() -> dict[str, Any]:
    """Returns the body of every reply: six found objects on one frame, about 2 kB."""
    return {"result": {"0": [_found(number) for number in range(ITEMS)]}}


def _found(number: int) -> dict[str, Any]:
    return {
        "boundingBox": {"h": 0.21875, "w": 0.1875, "x": 0.125 * number, "y": 0.3125},
        "color": "#D33115",
        "confidence": 0.9375,
        "createdAt": "2025-11-25T12:00:00.000000Z",
        "createdBy": "model@example.com",
        "featureId": f"Zk3Xw9P{number}",
        "manualAnnotation": False,
        "name": "Traffic light",
        "objectId": f"o7Rb2mQ{number}",
        "value": "traffic_light",
    }


class Stub:
    """What all connections share: the reply, its delay, and the calls so far.

    Attributes:
        latency_seconds: from the last byte of a request to the first of its reply.
        calls: by the id of what a call was about.
        connections: on which calls came, so far.
    """

    def __init__(self, latency_seconds: float) -> None:
        self.latency_seconds = latency_seconds
        self.calls: Counter[bytes] = Counter()
        self.connections = 0
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, asyncio.Transport]] = deque()
        self._timed = False
        self._reply = reply_bytes(json.dumps(prediction()).encode())

    def answer(self, transport: asyncio.Transport, request: bytes) -> None:
        """Sees to the answer of one whole request."""
        if request.startswith(b"POST"):
            self.calls[subject(request)] += 1
            if self.latency_seconds > 0:
                self._delay(transport)
            else:
                transport.write(self._reply)
        elif request.startswith(b"PUT /latency/"):
            self.latency_seconds = int(request.split(b" ", 2)[1].rpartition(b"/")[2]) / 1000
            transport.write(reply_bytes(b"null"))
        elif request.startswith(b"GET /connections"):
            transport.write(reply_bytes(b"%d" % self.connections))
        else:
            calls = {_readable(name): count for name, count in self.calls.items()}
            transport.write(reply_bytes(json.dumps(calls).encode()))

    def _delay(self, transport: asyncio.Transport) -> None:
        # All wait equally long, so a queue and one timer do for thousands.
        self._waiting.append((self._loop.time() + self.latency_seconds, transport))
        if not self._timed:
            self._timed = True
            self._loop.call_later(self.latency_seconds, self._send_due)

    def _send_due(self) -> None:
        now = self._loop.time()
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            transport = waiting.popleft()[1]
            if not transport.is_closing():
                transport.write(self._reply)
        self._timed = bool(waiting)
        if waiting:
            self._loop.call_later(max(waiting[0][0] - now, _TICK_SECONDS), self._send_due)


class Exchange(asyncio.Protocol):
    """One connection: cuts what comes into requests."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._parts: list[bytes] = []
        self._size = 0
        self._wanted = 0
        self._called = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the way back."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a server is given
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hands over each request that is whole."""
        self._parts.append(data)
        self._size += len(data)
        if self._size < self._wanted:
            return
        received = data if len(self._parts) == 1 else b"".join(self._parts)
        while received:
            self._wanted = request_size(received)
            if not self._wanted or len(received) < self._wanted:
                break
            if not self._called and received.startswith(b"POST"):
                self._called = True
                self._stub.connections += 1
            self._stub.answer(self._transport, received[: self._wanted])
            received = received[self._wanted :]
            self._wanted = 0
        self._parts = [received] if received else []
        self._size = len(received)


def request_size(received: bytes) -> int:
    """Returns how long the request at the beginning will be, 0 while its head is not whole."""
    end = received.find(_HEAD_END)
    if end < 0:
        return 0
    length = _LENGTH.search(received, 0, end)
    return end + len(_HEAD_END) + (int(length[1]) if length else 0)


def subject(request: bytes) -> bytes:
    """Returns what a call is about."""
    for mark, size in ((_IMAGE, ID_CHARACTERS), (_DATA, ID_BYTES)):
        found = request.find(mark)
        if found >= 0:
            return request[found + len(mark) : found + len(mark) + size]
    return b""


def reply_bytes(body: bytes) -> bytes:
    """Returns a whole reply."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + _HEAD_END + body


def _readable(name: bytes) -> str:
    if len(name) == ID_CHARACTERS:
        return base64.b64decode(name).decode().strip()
    return name.decode()


async def serve(latency_seconds: float, ready: Path, certificate: Path | None = None) -> None:
    """Serves until it is told to stop; over TLS 1.3 with a certificate, whose file has its key."""
    loop = asyncio.get_running_loop()
    stub = Stub(latency_seconds)
    server = await loop.create_server(
        lambda: Exchange(stub),
        "127.0.0.1",
        0,
        backlog=_BACKLOG,
        ssl=None if certificate is None else tls_context(certificate),
    )
    written = ready.with_suffix(".new")
    written.write_text(str(server.sockets[0].getsockname()[1]))
    written.rename(ready)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    server.close()


def tls_context(certificate: Path) -> ssl.SSLContext:
    """Returns the stub's side of TLS 1.3."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate)
    return context


def main() -> None:
    """Reads the arguments and serves."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stub", description=__doc__)
    parser.add_argument("--latency-ms", type=int, default=50)
    parser.add_argument("--ready", type=Path, required=True)
    parser.add_argument("--certificate", type=Path)
    options = parser.parse_args()
    asyncio.run(serve(options.latency_ms / 1000, options.ready, options.certificate))


if __name__ == "__main__":
    main()
