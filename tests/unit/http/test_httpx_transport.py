"""Rules of the face: a real `httpx.AsyncClient` works over it as over its own."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.stub_api import Answer, StubApi, reply
from tests.unit.http.proxy_server import ProxyServer
from worker.http.authorities import create_tls_context
from worker.http.httpx_transport import PooledTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def stub(stub_of_each: StubApi) -> StubApi:
    return stub_of_each


def client(**options: Any) -> httpx.AsyncClient:
    """Returns a client over our layer; closing it closes the layer."""
    return httpx.AsyncClient(transport=PooledTransport(create_tls_context(), **options))


def test_a_client_sends_and_reads_what_it_would_over_its_own_layer(run: Run, stub: StubApi) -> None:
    """Query, JSON, headers, cookies, redirects, HEAD, and one connection for all of it."""
    stub.answers.extend([
        reply(302, b"", location="/there?x=%2f", set_cookie="a=b; path=/"),
        reply(200, b'{"a": 1}', content_type="application/json"),
        reply(204),
    ])

    async def ask() -> list[httpx.Response]:
        async with client() as http:
            # Of an address no client keeps a cookie.
            url = stub.url.replace("127.0.0.1", "localhost")
            first = await http.post(url, json={"b": 2}, headers={"X-A": "c"}, follow_redirects=True)
            return [first, await http.delete(f"{url}/a%2Fb/c?d=e f")]

    first, second = run(ask())
    assert (first.json(), first.http_version, first.history[0].status_code) == (
        {"a": 1},
        "HTTP/1.1",
        302,
    )
    assert second.status_code == 204
    posted, followed, deleted = stub.recorded
    assert (posted.method, json.loads(posted.body), posted.headers["x-a"]) == (
        "POST",
        {"b": 2},
        "c",
    )
    assert (followed.method, followed.target) == ("GET", "/there?x=%2f")
    assert followed.headers["cookie"] == "a=b"
    assert (deleted.method, deleted.target) == ("DELETE", "/a%2Fb/c?d=e%20f")
    assert stub.connections == 1


def test_a_packed_body_reaches_httpx_as_it_came_and_is_unpacked_once(
    run: Run, stub: StubApi
) -> None:
    stub.default = reply(200, gzip.compress(b"hello"), content_encoding="gzip")

    async def ask() -> tuple[str, bytes]:
        async with client() as http:
            text = (await http.get(stub.url)).text
            async with http.stream("GET", stub.url) as response:
                return text, b"".join([part async for part in response.aiter_raw()])

    text, raw = run(ask())
    assert text == "hello"
    assert gzip.decompress(raw) == b"hello"


def test_a_body_in_pieces_is_read_first_and_sent_with_its_length(run: Run, stub: StubApi) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            await asyncio.sleep(0)
            yield b"%d" % number

    async def ask() -> None:
        async with client(request_limit_bytes=3) as http:
            await http.post(stub.url, content=pieces())
            with pytest.raises(httpx.LocalProtocolError, match="larger than 3 bytes"):
                await http.post(stub.url, content=b"1234")

    run(ask())
    (recorded,) = stub.recorded
    assert recorded.body == b"012"
    assert recorded.headers["content-length"] == "3"
    assert "transfer-encoding" not in recorded.headers


def test_a_post_without_a_body_says_so(run: Run, stub: StubApi) -> None:
    """Servers refuse one without a length by 411, or wait for what never comes."""

    async def ask() -> None:
        async with client() as http:
            await http.post(stub.url)
            await http.get(stub.url)

    run(ask())
    posted, read = stub.recorded
    assert posted.headers["content-length"] == "0"
    assert "content-length" not in read.headers


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(then="close"), httpx.ReadError),
        (Answer(then="hang"), httpx.ReadTimeout),
        (Answer(b"SSH-2.0-x\r\n\r\n", "close"), httpx.RemoteProtocolError),
        (Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1,", "close"), httpx.ReadError),
        (Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1,", "hang"), httpx.ReadTimeout),
        (reply(200, bytes(2000)), httpx.RemoteProtocolError),
        (reply(200, b"no gzip", content_encoding="gzip"), httpx.DecodingError),
    ],
)
def test_failures_are_httpx_s_own_and_name_the_request(
    run: Run, stub: StubApi, answer: Answer, error: type[httpx.RequestError]
) -> None:
    stub.default = answer

    async def ask() -> httpx.RequestError:
        async with client(reply_limit_bytes=1000) as http:
            timeout = httpx.Timeout(30, read=0.3)
            with pytest.raises(httpx.RequestError) as caught:
                await http.post(f"{stub.url}/x", content=b"{}", timeout=timeout)
            stub.default = reply(200, b"next")
            assert (await http.get(stub.url, timeout=None)).text == "next"
            return caught.value

    caught = run(ask())
    assert type(caught) is error
    assert caught.request.url == f"{stub.url}/x"
    assert len(stub.recorded) == 2


def test_what_was_not_sent_is_told_with_its_own_request(run: Run) -> None:
    """Also where many wait for one name."""

    async def ask() -> list[Any]:
        async with client() as http:
            gets = (http.get(f"http://api.invalid/{number}") for number in range(3))
            return await asyncio.gather(*gets, return_exceptions=True)

    ends = run(ask())
    assert all(isinstance(each, httpx.ConnectError) for each in ends)
    assert [each.request.url.path for each in ends] == ["/0", "/1", "/2"]


@pytest.mark.parametrize("url", ["ftp://a.example/", "//a.example/", "/x"])
def test_a_url_that_is_not_http_is_refused(run: Run, url: str) -> None:
    async def ask() -> None:
        async with client() as http:
            with pytest.raises(httpx.UnsupportedProtocol):
                await http.get(url)

    run(ask())


def test_a_header_that_would_be_two_is_refused(run: Run, stub: StubApi) -> None:
    async def ask() -> None:
        async with client() as http:
            with pytest.raises(httpx.LocalProtocolError):
                await http.get(stub.url, headers={"X": "a\r\nX-Evil: b"})

    run(ask())
    assert not stub.recorded


def test_each_server_has_connections_of_its_own_and_a_proxy_serves_all(
    run: Run, stub: StubApi
) -> None:
    async def ask(**options: Any) -> None:
        async with client(**options) as http:
            for host in ("127.0.0.1", "localhost") * 2:
                await http.get(stub.url.replace("127.0.0.1", host), headers={"Host": "own.example"})

    run(ask())
    assert stub.connections == 2
    assert {each.headers["host"] for each in stub.recorded} == {"own.example"}
    with ProxyServer(stub.port) as proxy:
        run(ask(proxy=httpx.URL(proxy.url)))
        assert proxy.connections == 2


def test_a_client_reads_no_body_after_head(run: Run, stub: StubApi) -> None:
    stub.default = Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")

    async def ask() -> tuple[str, bytes]:
        async with client() as http:
            response = await http.head(stub.url)
            return response.headers["content-length"], response.content

    assert run(ask()) == ("5", b"")
