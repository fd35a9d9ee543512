"""Rules of proxies: what they are told, and that their failures come before anything is sent."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.stub_api import StubApi, reply
from tests.unit.http.asking import PATIENT, comes_true, exchange, open_descriptors, opened
from tests.unit.http.proxy_server import ProxyServer
from worker.http.failures import NOT_SENT

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Iterator

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"

# What a proxy says to CONNECT, what it does then, and how that is told.
MISBEHAVIOURS: list[tuple[str, bytes, str, str]] = [
    (
        "refusal",
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
        "keep",
        r"us through \(502",
    ),
    (
        "refusal with a page",
        b"HTTP/1.1 403 No\r\ncontent-length: 9999\r\n\r\n<html>",
        "hang",
        r"\(403",
    ),
    ("redirect", b"HTTP/1.1 302 Found\r\nlocation: /login\r\n\r\n", "close", r"\(302"),
    ("login", b"HTTP/1.1 407 Login\r\n\r\n", "close", "another name and password"),
    ("garbage", b"SSH-2.0-x\r\n\r\n", "keep", "the proxy gave no answer: .+"),
    ("half a head", b"HTTP/1.1 200 O", "close", "the proxy gave no answer: it ended"),
    ("nothing", b"", "close", "the proxy gave no answer: it ended"),
    ("reset", b"", "reset", "the proxy gave no answer: "),
    ("more", CONNECTED + b"HTTP/1.1 200 OK\r\n\r\n", "keep", "said more"),
    ("a byte more", CONNECTED + b"x", "keep", "said more"),
    (
        "a huge head",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 60_000,
        "hang",
        "gave no answer: .*head",
    ),
    ("no TLS behind", CONNECTED, "close", "."),
]


@pytest.fixture(params=["http", "https"])
def proxy(request: pytest.FixtureRequest, shown: ssl.SSLContext) -> Iterator[ProxyServer]:
    """A proxy, over plain HTTP and over TLS."""
    with ProxyServer(0, shown if request.param == "https" else None) as served:
        yield served


@pytest.fixture
def stub(stub_of_each: StubApi, proxy: ProxyServer) -> StubApi:
    """The server behind the proxy."""
    stub_of_each.default = reply(200, b"ok")
    proxy.target_port = stub_of_each.port
    return stub_of_each


def address_of(server: StubApi) -> str:
    """Returns the URL of a server by a name that only the proxy knows, or for TLS a real one."""
    return server.url.replace("127.0.0.1", "api.example" if server.tls is None else "localhost")


def test_requests_reach_the_server_through_any_proxy(
    run: Run, stub: StubApi, proxy: ProxyServer
) -> None:
    """Over one connection, with a body that is larger than all buffers."""

    async def ask() -> None:
        async with opened(address_of(stub), proxy=proxy.url) as pool:
            for size in (10, 3_000_000, 10):
                response = await exchange(pool, "POST", "/a%2Fb?c=%2f", bytes(size))
                assert response.body == b"ok"
            assert len(pool._connections) == 1

    run(ask())
    assert [(each.target, len(each.body)) for each in stub.recorded if stub.tls] == [
        ("/a%2Fb?c=%2f", size) for size in (10, 3_000_000, 10) if stub.tls
    ]
    assert len(stub.recorded) == 3
    assert proxy.connections == 1
    host = address_of(stub).partition("://")[2]
    line = proxy.heads[0].partition("\r\n")[0]
    if stub.tls is None:
        assert line == f"POST http://{host}/a%2Fb?c=%2f HTTP/1.1"
    else:
        assert line == f"CONNECT {host} HTTP/1.1"
        assert proxy.heads[0].count("\r\n") == 3, "the proxy learns nothing else"
    assert f"\r\nHost: {host}\r\n" in proxy.heads[0]


def test_a_login_is_told_to_the_proxy_and_to_nobody_else(
    run: Run, stub: StubApi, proxy: ProxyServer
) -> None:
    proxy.login = "me:p@ss w%rd"
    url = proxy.url.replace("://", "://me:p%40ss%20w%25rd@")

    async def ask() -> None:
        async with opened(address_of(stub), proxy=url) as pool:
            await exchange(pool)

    run(ask())
    if stub.tls is not None:  # a plain one gets what our proxy for tests passes on
        assert "proxy-authorization" not in stub.recorded[0].headers


@pytest.mark.parametrize("stub_of_each", ["https"], indirect=True)
@pytest.mark.parametrize("login", ["", "me:wrong@"])
def test_a_wrong_login_is_told_as_such_and_without_it(
    run: Run, stub: StubApi, proxy: ProxyServer, login: str
) -> None:
    proxy.login = "me:right"

    async def ask() -> None:
        async with opened(stub.url, proxy=proxy.url.replace("://", f"://{login}")) as pool:
            with pytest.raises(httpx.ProxyError, match=r"wants another name and password \(407\)"):
                await exchange(pool, "POST")
            assert not pool._connections

    run(ask())
    assert not stub.recorded


@pytest.mark.parametrize("stub_of_each", ["https"], indirect=True)
@pytest.mark.parametrize(
    ("says", "then", "told"),
    [each[1:] for each in MISBEHAVIOURS],
    ids=[e[0] for e in MISBEHAVIOURS],
)
def test_whatever_a_proxy_does_instead_nothing_was_sent(
    run: Run, stub: StubApi, proxy: ProxyServer, says: bytes, then: str, told: str
) -> None:
    proxy.says, proxy.then = says, then

    async def ask() -> None:
        before = open_descriptors()
        async with opened(stub.url, proxy=proxy.url) as pool:
            with pytest.raises(NOT_SENT, match=told):
                await exchange(pool, "POST", body=b"{}")
            assert pool._free == 4
            assert await comes_true(lambda: not pool._connections)
            assert await comes_true(lambda: open_descriptors() <= before + 3)

    run(ask())
    assert not stub.recorded


@pytest.mark.parametrize("stub_of_each", ["https"], indirect=True)
def test_a_proxy_that_never_answers_is_waited_for_as_long_as_for_a_connection(
    run: Run, stub: StubApi, proxy: ProxyServer
) -> None:
    proxy.says, proxy.then = b"", "hang"

    async def ask() -> None:
        async with opened(stub.url, proxy=proxy.url) as pool:
            started = time.monotonic()
            with pytest.raises(httpx.ConnectTimeout):
                await exchange(pool, "POST", timeouts=replace(PATIENT, connect=0.3))
            assert time.monotonic() - started < 20
            assert await comes_true(lambda: not pool._connections)

    run(ask())


@pytest.mark.parametrize("moment", range(0, 30, 2))
def test_who_is_cancelled_on_the_way_through_a_proxy_leaves_nothing(
    run: Run, stub: StubApi, proxy: ProxyServer, moment: int
) -> None:
    async def cancel() -> None:
        async with opened(address_of(stub), proxy=proxy.url, limit=1) as pool:
            before = open_descriptors()
            asked = asyncio.create_task(exchange(pool, "POST", body=b"{}"))
            for turn in range(moment):
                await asyncio.sleep(0 if turn < 15 else 0.001)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            assert pool._free == 1
            assert await comes_true(lambda: len(pool._connections) == len(pool._idle))
            pool._close_idle()
            assert await comes_true(lambda: open_descriptors() <= before + 3)
            assert (await exchange(pool)).body == b"ok"

    run(cancel())


def test_the_environment_alone_names_no_proxy(
    run: Run, stub: StubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens a pool says so; a proxy that is found elsewhere would see what is signed."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:1")

    async def ask() -> bytes:
        async with opened(stub.url) as pool:
            return (await exchange(pool)).body

    assert run(ask()) == b"ok"
