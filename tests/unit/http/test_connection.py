"""Rules of one connection: what ends it, when, and what is left then: nothing."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.socket_server import SocketServer
from tests.stub_api import Answer, StubApi, reply
from tests.unit.http.asking import PATIENT, comes_true, exchange, open_descriptors, opened
from worker.http.failures import NOT_SENT, ExchangeTimeout

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

SHORT_SECONDS = 0.3
# Generous: the machine may be busy; what is waited for instead takes longer by far.
AT_ONCE_SECONDS = 20
LARGE = bytes(30_000_000)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"


@pytest.fixture
def stub(stub_of_each: StubApi) -> StubApi:
    return stub_of_each


class EarlyServer(SocketServer):
    """Answers as soon as it has a request's head, and goes on reading, or closes.

    Attributes:
        answer: What it says.
        half_closes: Whether it ends its half of the connection then.
        read_bytes: How much it took of all bodies.
    """

    def __init__(
        self, answer: bytes, tls: ssl.SSLContext | None = None, *, half_closes: bool = False
    ) -> None:
        self.answer = answer
        self.tls = tls
        self.half_closes = half_closes
        self.read_bytes = 0

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _connection: int
    ) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self.answer)
                if self.half_closes and writer.can_write_eof():
                    writer.write_eof()
                await writer.drain()
                # As nginx does, so that no reset overtakes what was said.
                while piece := await reader.read(65_536):
                    self.read_bytes += len(piece)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass


@pytest.mark.parametrize("closes", [False, True])
def test_an_answer_that_comes_while_the_request_is_written_ends_the_upload(
    run: Run, stub: StubApi, *, closes: bool
) -> None:
    """Of a connection on which half a request lies, the server would read the rest as another."""
    answer = reply(413, b"too large", **({"connection": "close"} if closes else {})).raw

    async def upload(url: str) -> list[tuple[int, bytes]]:
        seen = []
        async with opened(url) as pool:
            for _ in range(3):
                response = await exchange(pool, "POST", body=LARGE)
                assert response.failure is None
                seen.append((response.status, response.body))
            assert await comes_true(lambda: not pool._connections)
            assert pool._free == 4
        return seen

    with EarlyServer(answer, stub.tls) as server:
        assert run(upload(server.url)) == [(413, b"too large")] * 3
        assert server.connections == 3
        assert server.read_bytes < 3 * len(LARGE) / 2


@pytest.mark.parametrize("size", [0, 10, 30_000_000])
def test_a_server_that_closes_its_half_has_said_all(run: Run, size: int) -> None:
    """What it said counts, and its connection ends at once, though it would still listen."""

    async def ask(url: str) -> tuple[int, bytes]:
        async with opened(url) as pool:
            response = await exchange(pool, "POST", body=bytes(size))
            assert await comes_true(lambda: not pool._connections)
            assert response.failure is None
            return response.status, response.body

    with EarlyServer(b"HTTP/1.1 200 OK\r\n\r\nuntil here", half_closes=True) as server:
        assert run(ask(server.url)) == (200, b"until here")


@pytest.mark.parametrize("size", [0, 10, 30_000_000])
def test_a_server_that_closes_its_half_before_it_has_answered_has_lost_it(
    run: Run, size: int
) -> None:
    async def ask(url: str) -> None:
        async with opened(url) as pool:
            started = time.monotonic()
            with pytest.raises(httpx.ReadError):
                await exchange(pool, "POST", body=bytes(size))
            assert time.monotonic() - started < AT_ONCE_SECONDS
            assert await comes_true(lambda: not pool._connections)

    with EarlyServer(b"HTTP/1.1 200 O", half_closes=True) as server:
        run(ask(server.url))


def test_a_large_body_is_written_as_fast_as_it_is_taken(run: Run, stub: StubApi) -> None:
    """So that no copy of it stands in memory, and other requests have their turn."""
    most: list[int] = []

    async def watch(pool: Any) -> None:
        while True:
            standing = [each._transport for each in pool._connections if each._stands]
            most.extend(transport.get_write_buffer_size() for transport in standing)
            await asyncio.sleep(0)

    async def upload() -> None:
        async with opened(stub.url) as pool:
            watching = asyncio.create_task(watch(pool))
            await exchange(pool, "POST", body=LARGE)
            watching.cancel()

    run(upload())
    assert stub.recorded[0].body == LARGE
    assert most
    assert max(most) < 4_000_000


def test_the_time_for_writing_begins_anew_with_each_piece_that_is_taken(run: Run) -> None:
    """A server that takes a large body slowly still takes it."""

    async def upload(listener: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        async with opened(f"http://127.0.0.1:{listener.getsockname()[1]}") as pool:
            sending = asyncio.create_task(exchange(pool, "POST", body=LARGE))
            peer, _ = await loop.sock_accept(listener)
            with peer:
                assert await comes_true(lambda: any(each._blocked for each in pool._connections))
                (connection,) = pool._connections
                ends_at, taken = connection.acts_at, 0
                while connection.acts_at <= ends_at and taken < len(LARGE) // 2:
                    taken += len(await loop.sock_recv(peer, 65_536))
                    await asyncio.sleep(0)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            return taken

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        assert run(upload(listener)) < len(LARGE) // 2


@pytest.mark.parametrize("phase", ["connect", "write", "read", "piece", "all", "body", "total"])
def test_each_phase_has_a_timeout_and_each_says_whether_anything_was_sent(
    run: Run, phase: str
) -> None:
    """A server that never finishes its handshake stands for one that can't be reached."""
    trickle = Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", "trickle")
    answers = {
        "read": Answer(then="hang"),
        "piece": Answer(HEAD + b"[1,", "hang"),
        "all": trickle,
        "body": trickle,
        "total": Answer(then="hang"),
    }
    timeouts = replace(PATIENT, **{"read" if phase in {"piece", "all"} else phase: SHORT_SECONDS})
    if phase == "all":
        timeouts = replace(timeouts, connect=0.1, write=0.1, pool=0.1)
    is_deaf = phase in {"connect", "write"}
    server = StubApi(
        reads=not is_deaf,
        receive_buffer_bytes=4096 if is_deaf else None,
        default=answers.get(phase, reply(200)),
    )

    async def ask(url: str) -> tuple[httpx.HTTPError, float]:
        async with opened(url) as pool:
            started = time.monotonic()
            body = LARGE if phase == "write" else b"{}"
            try:
                response = await exchange(pool, "POST", body=body, timeouts=timeouts)
            except httpx.HTTPError as exc:
                ended: httpx.HTTPError | None = exc
            else:
                ended = response.failure
            took = time.monotonic() - started
            assert ended is not None
            assert pool._free == 4
            assert await comes_true(lambda: not pool._connections)
            return ended, took

    with server:
        scheme = "https" if phase == "connect" else "http"
        ended, took = run(ask(f"{scheme}://127.0.0.1:{server.port}"))
    expected = {
        "connect": httpx.ConnectTimeout,
        "write": httpx.WriteTimeout,
        "read": httpx.ReadTimeout,
        "piece": httpx.ReadTimeout,
        "all": ExchangeTimeout,
        "body": ExchangeTimeout,
        "total": ExchangeTimeout,
    }
    assert type(ended) is expected[phase]
    assert isinstance(ended, NOT_SENT) == (phase == "connect")
    # A loop's clock goes by milliseconds.
    assert SHORT_SECONDS - 0.001 <= took < SHORT_SECONDS + AT_ONCE_SECONDS


@pytest.mark.parametrize("moment", range(40))
def test_who_is_cancelled_at_any_moment_leaves_nothing(
    run: Run, stub: StubApi, moment: int
) -> None:
    """After so many turns of the loop: in the name, the socket, TLS, the head and the body."""
    stub.default = replace(Answer(HEAD + b"[1,", "hang"), delay_seconds=0.01)

    async def cancel() -> None:
        url = stub.url.replace("127.0.0.1", "localhost")
        async with opened(url, limit=2) as pool:
            before = open_descriptors()
            tasks = asyncio.all_tasks()
            body = LARGE if moment % 2 else b"{}"
            asked = asyncio.create_task(exchange(pool, "POST", body=body))
            for turn in range(moment):
                await asyncio.sleep(0 if turn < 20 else 0.002)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert (pool._free, len(pool._waiters)) == (2, 0)
            assert await comes_true(lambda: not pool._connections)
            assert await comes_true(lambda: asyncio.all_tasks() == tasks)
            assert await comes_true(lambda: open_descriptors() <= before + _OF_LOOP)
            stub.default = reply(200, b"next")
            assert (await exchange(pool)).body == b"next"

    run(cancel())


# What a loop opens at the first use: uvloop's pipe for signals, the resolver's of the system.
_OF_LOOP = 3


def test_who_is_cancelled_while_a_busy_socket_is_read_leaves_nothing(
    run: Run, stub: StubApi
) -> None:
    """Between two looks at a connection that has just brought something."""

    async def cancel() -> None:
        async with opened(stub.url, limit=1) as pool:
            await exchange(pool)
            (connection,) = pool._idle
            connection.is_silent = lambda: False  # type: ignore[method-assign] # it speaks
            asked = asyncio.create_task(exchange(pool, "POST"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not asked.done()
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert connection.is_closed
            assert await comes_true(lambda: not pool._connections)

    run(cancel())


def test_nothing_is_left_in_the_system_after_many_exchanges_that_were_given_up(
    run: Run, stub: StubApi
) -> None:
    stub.default = replace(reply(200, b"ok"), delay_seconds=0.01)

    async def ask(pool: Any, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await exchange(pool, "POST", body=b"{}")
        except TimeoutError:
            pass

    async def ask_often() -> None:
        before = open_descriptors()
        async with opened(stub.url, limit=8) as pool:
            for start in range(0, 200, 40):
                await asyncio.gather(*(ask(pool, n * 0.001) for n in range(start % 40, 40)))
            assert pool._free == 8
            assert len(pool._connections) == len(pool._idle) <= 8
        assert await comes_true(lambda: open_descriptors() <= before + _OF_LOOP)
        assert len(asyncio.all_tasks()) == 1

    threads = threading.active_count()
    run(ask_often())
    assert threading.active_count() <= threads


def test_long_silence_is_kept_alive_by_the_system(run: Run, stub: StubApi) -> None:
    """A long poll is silent for a minute, and more than one router forgets it by then."""

    async def ask() -> tuple[int, int]:
        async with opened(stub.url) as pool:
            await exchange(pool)
            (connection,) = pool._idle
            of = connection._transport.get_extra_info("socket").getsockopt
            return (
                of(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                of(socket.IPPROTO_TCP, socket.TCP_NODELAY),
            )

    assert run(ask()) == (1, 1)
