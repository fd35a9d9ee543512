"""A real HTTP server that answers as asked, and besides says what nobody asked for."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.socket_server import SocketServer

if TYPE_CHECKING:
    import ssl

LIE = "99999999-9999-4999-8999-999999999999"
"""The model, and the answer to a prediction, that nobody asked for."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def model(uuid: str) -> dict[str, object]:
    """Returns a model without trainings."""
    return {
        "modelGroup": {
            "createdAt": "2026-01-02T03:04:05Z",
            "description": "",
            "features": ["car"],
            "model": "resnet18",
            "modelUuid": uuid,
            "title": uuid,
            "type": "classification",
        },
        "modelIterations": [],
    }


def answer(uuid: str, status: str = "200 OK") -> bytes:
    """Returns a whole reply that holds a model."""
    body = json.dumps(model(uuid)).encode()
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@dataclass(frozen=True)
class Lie:
    """What is sent besides the answer.

    Attributes:
        greeting: As soon as a connection stands.
        before: In the same piece, before the answer.
        within: In the same piece, after the answer.
        later: Pieces, each after so many seconds.
        closes: Whether the connection ends then.
        after_heard: Whether what comes later waits until `heard` is set.
    """

    greeting: bytes = b""
    before: bytes = b""
    within: bytes = b""
    later: tuple[tuple[float, bytes], ...] = ()
    closes: bool = False
    after_heard: bool = False


@dataclass
class LyingServer(SocketServer):
    """Answers every request, and says besides what nobody asked for.

    Attributes:
        lie: Told with every answer.
        tls: Over TLS, where it is given.
        asked: Targets of requests, in order, each with the number of its connection.
        told: Set once a lie has left.
        heard: Set by who has read an answer, for lies that wait for it.
    """

    lie: Lie = field(default_factory=Lie)
    tls: ssl.SSLContext | None = None
    asked: list[tuple[int, str]] = field(default_factory=list)
    told: threading.Event = field(default_factory=threading.Event)
    heard: threading.Event = field(default_factory=threading.Event)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        try:
            if self.lie.greeting:
                writer.write(self.lie.greeting)
                self.told.set()
            while await self._exchange(reader, writer, connection):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        target = head.split(" ")[1]
        self.asked.append((connection, target))
        uuids = _UUID.findall(target)
        lie = self.lie
        writer.write(lie.before + self.reply(target, uuids) + lie.within)
        for seconds, piece in lie.later:
            await writer.drain()
            while lie.after_heard and not self.heard.is_set():
                await asyncio.sleep(0.002)
            await asyncio.sleep(seconds)
            writer.write(piece)
        await writer.drain()
        self.told.set()
        return not lie.closes

    def reply(self, target: str, uuids: list[str]) -> bytes:
        """Returns the true answer: a model, or of a prediction the uuid of its training."""
        if not target.endswith("/predict"):
            return answer(uuids[-1])
        return prediction(uuids[-1])


def classification(uuid: str) -> dict[str, object]:
    """Returns the class of a frame, which tells by its name for which training it was asked."""
    return {
        "classificationUuid": uuid,
        "confidence": 0.9,
        "createdAt": "2026-01-02T03:04:05Z",
        "createdBy": "me",
        "featureIdChild": "a",
        "featureIdParent": "b",
        "manualAnnotation": False,
        "name": uuid,
        "value": "x",
    }


def prediction(uuid: str) -> bytes:
    """Returns a whole reply to a prediction."""
    body = json.dumps({"result": {"0": classification(uuid)}}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
