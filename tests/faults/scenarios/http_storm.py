"""Requests over our own HTTP layer, with faults and cancellations at random moments."""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
import random
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.faults.audit import Report
from tests.security.tls import Authority, server_context
from tests.socket_server import SocketServer, reset
from worker.encord.api.signing import RequestSigner
from worker.encord.api.transport import Transport
from worker.errors import NotSentError, TrainmasterError
from worker.http.timeouts import Timeouts

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from worker.http.pool import ConnectionPool

AT_A_TIME: Final = 40
CONNECTIONS: Final = 16
# Short, so that what hangs ends soon; long beside what a busy machine takes.
TIMEOUTS: Final = Timeouts(connect=2, read=0.3, write=0.5, pool=2)
# What a loop opens at its first use.
_OF_LOOP: Final = 3
_METHODS: Final = ("POST", "POST", "DELETE", "PATCH", "GET")
_SIZES: Final = (2, 2, 1_000, 100_000, 1_000_000)

# How often each way to answer comes up.
_WAYS: Final = {
    "whole": 40,
    "chunked": 10,
    "packed": 5,
    "hinted": 4,
    "in halves": 5,
    "late": 10,
    "too late": 1,
    "closing": 5,
    "until close": 3,
    "twice": 3,
    "failed": 3,
    "early": 4,
    "reset": 3,
    "closed": 3,
    "half a head": 2,
    "half a body": 2,
    "no HTTP": 2,
}


# After these the server goes on with the connection.
_KEPT: Final = frozenset(_WAYS) - {
    "closing",
    "until close",
    "reset",
    "closed",
    "half a head",
    "half a body",
    "no HTTP",
}


class StormServer(SocketServer):
    """Answers each request with its own target, or does something else.

    Attributes:
        seen: How often the head of each target came.
        faults: How often it did something else.
    """

    def __init__(self, seed: int, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self._rng = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self.faults = 0

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _connection: int
    ) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            if self._rng.random() < 0.02:
                self.faults += 1
                if self._rng.random() < 0.5:
                    reset(writer)
                    return
                writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
                return
            while await self._exchange(reader, writer):
                pass

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split(" ", 2)[1].rpartition("/")[2]
        self.seen[target] += 1
        way = self._rng.choices([*_WAYS], [*_WAYS.values()])[0]
        self.faults += way not in {"whole", "chunked", "packed"}
        if way == "early":
            writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
        await reader.readexactly(int(length or 0))
        if way == "reset":
            reset(writer)
        if way in {"late", "too late"}:
            await asyncio.sleep(0.02 if way == "late" else 2 * TIMEOUTS.read)
        for piece in _pieces(way, target.encode()):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001 if way == "in halves" else 0)
        return way in _KEPT


def _pieces(way: str, body: bytes) -> list[bytes]:
    """Returns what is sent, in pieces."""
    ok = b"HTTP/1.1 200 OK\r\n"
    whole = b"%scontent-length: %d\r\n\r\n%s" % (ok, len(body), body)
    chunks = b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    packed = gzip.compress(body)
    length = b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    others: dict[str, list[bytes]] = {
        "reset": [],
        "closed": [],
        "early": [],
        "chunked": [ok + chunks],
        "packed": [ok + length + packed],
        "hinted": [b"HTTP/1.1 103 Early Hints\r\n\r\n", whole],
        "in halves": [whole[:20], whole[20:-1], whole[-1:]],
        "until close": [ok + b"\r\n" + body],
        "twice": [whole + ok + b"content-length: 4\r\n\r\nevil"],
        "failed": [b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"],
        "half a head": [whole[:10]],
        "half a body": [whole[:-1]],
        "no HTTP": [b"SSH-2.0-x\r\n\r\n"],
    }
    return others.get(way, [whole])


class Storm:
    """Sends requests, some of which are cancelled, and keeps what became of them.

    Attributes:
        ends: How often each end came.
        unsent: Targets that were told as not sent.
        answered: Targets that were answered.
        reads: Targets that may come twice, over a connection that had ended at rest.
        wrong: What should not have come.
    """

    def __init__(self, transport: Transport, seed: int) -> None:
        self._transport = transport
        self._rng = random.Random(seed)
        self.ends: Counter[str] = Counter()
        self.unsent: set[str] = set()
        self.answered: set[str] = set()
        self.reads: set[str] = set()
        self.wrong: list[str] = []

    async def send(self, number: int) -> None:
        """Sends one request; cancels every sixth at a random moment."""
        rng = self._rng
        method, target = rng.choice(_METHODS), f"n{number}"
        if method == "GET":
            self.reads.add(target)
        body = None if method == "GET" else bytes(rng.choices(_SIZES, (40, 40, 20, 5, 2))[0])
        sending = self._transport.send(method, f"/{target}", body=body, fresh=rng.random() < 0.2)
        task = asyncio.create_task(sending)
        if rng.random() < 1 / 6:
            await self._wait()
            task.cancel()
        try:
            response = await task
        except asyncio.CancelledError:
            self.ends["cancelled"] += 1
        except NotSentError as exc:
            self.ends[exc.code] += 1
            self.unsent.add(target)
        except TrainmasterError as exc:
            self.ends[exc.code] += 1
        except Exception as exc:  # noqa: BLE001 - counted, and told
            self.wrong.append(repr(exc))
        else:
            self.ends["answered"] += 1
            self.answered.add(target)
            if response.body != target.encode():
                self.wrong.append(f"{target} got {response.body[:20]!r}")
            response.accept()

    async def _wait(self) -> None:
        """Waits for a few turns of the loop, or for a time in which an answer may come."""
        if self._rng.random() < 0.5:
            for _ in range(self._rng.randrange(30)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(self._rng.random() * 0.05)


async def _send_all(storm: Storm, count: int) -> None:
    for start in range(0, count, AT_A_TIME):
        numbers = range(start, min(start + AT_A_TIME, count))
        await asyncio.gather(*(storm.send(number) for number in numbers))


async def _left(pools: list[ConnectionPool]) -> list[str]:
    """Returns what was not given back, once what ends by itself has ended."""
    left: list[str] = []
    for _ in range(200):
        gc.collect()  # as a worker does now and then, and for responses nobody has read
        left = [
            told
            for pool in pools
            for told, is_left in (
                (f"{pool._free} permits of {CONNECTIONS}", pool._free != CONNECTIONS),
                ("connections", len(pool._connections) != _resting(pool)),
                ("waiters", any(not each.done() for each in pool._waiters)),
            )
            if is_left
        ]
        if len(asyncio.all_tasks()) > 1:
            left.append("tasks")
        if not left:
            break
        await asyncio.sleep(0.02)
    return left


def _resting(pool: ConnectionPool) -> int:
    # One that its server has closed is dropped when its turn comes.
    return sum(1 for each in pool._idle if not each.is_closed)


def http_storm(folder: Path, seed: int, count: int, *, tls: bool) -> Report:
    """Sends requests through a storm and reports what was doubled, mistold or left behind.

    Args:
        folder: for certificates.
        seed: of faults and cancellations.
        count: requests.
        tls: whether they go over TLS.
    """
    before = _descriptors()
    with _certified(folder) as context, StormServer(seed, context if tls else None) as server:

        async def run() -> tuple[Storm, list[str]]:
            opened = _descriptors() + _OF_LOOP
            signer = RequestSigner(Ed25519PrivateKey.generate())
            transport = Transport(server.url, signer, timeouts=TIMEOUTS, connections=CONNECTIONS)
            async with transport:
                storm = Storm(transport, seed + 1)
                await _send_all(storm, count)
                pools = [each for each in (transport._pooled, transport._fresh) if each]
                left = await _left(pools)
            for _ in range(200):
                if _descriptors() <= opened:
                    return storm, left
                await asyncio.sleep(0.02)
            return storm, [*left, f"{_descriptors() - opened} descriptors"]

        begun = time.monotonic()
        storm, left = uvloop.run(run())
        seconds = time.monotonic() - begun
    if _descriptors() > before + _OF_LOOP:
        left.append("descriptors at the end")
    seen = server.seen
    doubled = [each for each, times in seen.items() if times > 1 + (each in storm.reads)]
    mistold = [each for each in storm.unsent if seen[each]]
    unseen = [each for each in storm.answered if not seen[each]]
    wrong = [*storm.wrong, *(f"unsent and seen: {each}" for each in mistold), *unseen]
    return Report(
        f"http storm[{'tls' if tls else 'plain'}, seed {seed}]",
        faults=server.faults + storm.ends["cancelled"],
        commands=count,
        lost=len(left),
        doubled=len(doubled),
        wrong=len(wrong),
        details={
            "seconds": round(seconds, 1),
            **dict(storm.ends.most_common()),
            **({"left": left} if left else {}),
            **({"odd": [*doubled, *wrong][:5]} if doubled or wrong else {}),
        },
    )


@contextmanager
def _certified(folder: Path) -> Iterator[ssl.SSLContext]:
    """Gives what a server shows of itself, and has this process trust it meanwhile."""
    authority = Authority.create(folder / "ca.pem", "an authority")
    named = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(authority.file)
    try:
        yield server_context(*authority.issue(folder / "server", "127.0.0.1"))
    finally:
        if named is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = named


def _descriptors() -> int:
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.exists() else 0
