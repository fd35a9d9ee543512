"""Rules of replies: what is one, where it ends, and how much of it is kept."""

from __future__ import annotations

import tracemalloc

import httpx
import pytest

from tests.stub_api import Answer, StubApi, reply
from tests.unit.http.asking import exchange, opened

pytestmark = pytest.mark.asyncio

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
NEXT = reply(200, b"next")
MIB = 1_048_576

# What is sent, how it ends, what is read, and whether the connection serves another request.
READABLE: list[tuple[str, bytes, str, tuple[int, bytes], bool]] = [
    (
        "a hint before",
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + reply(200, b"ok").raw,
        "keep",
        (200, b"ok"),
        True,
    ),
    (
        "several hints",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + reply(201, b"ok").raw,
        "keep",
        (201, b"ok"),
        True,
    ),
    ("ended by close", OK + b"\r\nto the end", "close", (200, b"to the end"), False),
    ("empty, ended by close", OK + b"\r\n", "close", (200, b""), False),
    ("HTTP/1.0, ended by close", b"HTTP/1.0 200 OK\r\n\r\nold", "close", (200, b"old"), False),
    (
        "HTTP/1.0 with a length",
        b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold",
        "keep",
        (200, b"old"),
        False,
    ),
    (
        "HTTP/1.0 that is kept",
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nold",
        "keep",
        (200, b"old"),
        True,
    ),
    ("told to be closed", reply(200, b"ok", connection="close").raw, "keep", (200, b"ok"), False),
    (
        "chunks with extension and trailers",
        CHUNKED + b"2;x=1\r\nok\r\n3\r\n, 2\r\n0\r\nx: y\r\nset-cookie: a\r\n\r\n",
        "keep",
        (200, b"ok, 2"),
        True,
    ),
    ("a length with blanks", OK + b"Content-Length:   2 \r\n\r\nok", "keep", (200, b"ok"), True),
    ("no reason", b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok", "keep", (200, b"ok"), True),
    ("204", b"HTTP/1.1 204 No Content\r\n\r\n", "keep", (204, b""), True),
    (
        "204 with a length",
        b"HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\n",
        "keep",
        (204, b""),
        True,
    ),
    (
        "204 with a body",
        b"HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\nok",
        "keep",
        (204, b""),
        False,
    ),
    (
        "304 with a body",
        b"HTTP/1.1 304 Not\r\ncontent-length: 2\r\n\r\nok",
        "keep",
        (304, b""),
        False,
    ),
    ("two replies", reply(200, b"ok").raw + reply(200, b"evil").raw, "keep", (200, b"ok"), False),
    (
        "a reply and a hint",
        reply(200, b"ok").raw + b"HTTP/1.1 103 Early Hints\r\n\r\n",
        "keep",
        (200, b"ok"),
        False,
    ),
    ("a reply and something", reply(200, b"ok").raw + b"x", "keep", (200, b"ok"), False),
    (
        "101 that was not asked for",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nzz",
        "keep",
        (101, b""),
        False,
    ),
    ("101 alone", b"HTTP/1.1 101 Switching\r\n\r\n", "keep", (101, b""), False),
    (
        "200 with an upgrade",
        OK + b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nok",
        "keep",
        (200, b"ok"),
        True,
    ),
]

UNREADABLE: list[tuple[str, bytes, str, type[httpx.HTTPError]]] = [
    (
        "a length and chunks",
        OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "keep",
        httpx.RemoteProtocolError,
    ),
    (
        "chunks and a length",
        OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "keep",
        httpx.RemoteProtocolError,
    ),
    (
        "two lengths that differ",
        OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nokk",
        "keep",
        httpx.RemoteProtocolError,
    ),
    ("a status below 100", b"HTTP/1.1 099 Odd\r\n\r\n", "keep", httpx.RemoteProtocolError),
    (
        "a length that is none",
        OK + b"content-length: -1\r\n\r\n",
        "keep",
        httpx.RemoteProtocolError,
    ),
    (
        "a line without a colon",
        OK + b"content-length 2\r\n\r\nok",
        "keep",
        httpx.RemoteProtocolError,
    ),
    (
        "a head of 3 MB",
        OK + b"x: " + b"a" * 3 * MIB + b"\r\ncontent-length: 2\r\n\r\nok",
        "keep",
        httpx.RemoteProtocolError,
    ),
    (
        "a head of many lines",
        OK + b"x: y\r\n" * 20_000 + b"content-length: 2\r\n\r\nok",
        "keep",
        httpx.RemoteProtocolError,
    ),
    ("a head without an end", OK + b"x: y\r\n" * 20_000, "hang", httpx.RemoteProtocolError),
    (
        "hints without an end",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000,
        "hang",
        httpx.RemoteProtocolError,
    ),
    ("no HTTP", b"SSH-2.0-OpenSSH_9.6\r\n", "hang", httpx.RemoteProtocolError),
    (
        "HTTP/2 without having asked",
        b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x64",
        "hang",
        httpx.RemoteProtocolError,
    ),
    ("a head that breaks off", OK + b"content-le", "close", httpx.ReadError),
    ("a hint alone", b"HTTP/1.1 103 Early Hints\r\n\r\n", "close", httpx.ReadError),
    ("nothing", b"", "close", httpx.ReadError),
]

# Of these the head is whole, so that the status counts; why the body is not stands beside it.
BROKEN: list[tuple[str, bytes, str, type[httpx.HTTPError]]] = [
    ("a body that breaks off", OK + b"content-length: 9\r\n\r\n[1,", "close", httpx.ReadError),
    ("a body that is reset", OK + b"content-length: 9\r\n\r\n[1,", "reset", httpx.ReadError),
    # An end would be the body's; this is none.
    ("a body without a length that is reset", OK + b"\r\n[1,", "reset", httpx.ReadError),
    ("chunks that break off", CHUNKED + b"5\r\n[1,", "close", httpx.ReadError),
    ("chunks without the last", CHUNKED + b"2\r\nok\r\n", "close", httpx.ReadError),
    (
        "a size of a chunk that is none",
        CHUNKED + b"zz\r\nok\r\n0\r\n\r\n",
        "keep",
        httpx.RemoteProtocolError,
    ),
    (
        "an extension without an end",
        CHUNKED + b"2;" + b"x" * 600_000,
        "hang",
        httpx.RemoteProtocolError,
    ),
    (
        "trailers without an end",
        CHUNKED + b"2\r\nok\r\n0\r\n" + b"x: y\r\n" * 100_000,
        "hang",
        httpx.RemoteProtocolError,
    ),
]


@pytest.mark.parametrize(
    ("raw", "then", "told", "is_kept"),
    [each[1:] for each in READABLE],
    ids=[e[0] for e in READABLE],
)
async def test_a_reply_ends_where_it_says_and_its_connection_serves_on_only_if_nothing_follows(
    stub: StubApi, raw: bytes, then: str, told: tuple[int, bytes], *, is_kept: bool
) -> None:
    stub.answers.extend([Answer(raw, then), NEXT])
    async with opened(stub.url) as pool:
        response = await exchange(pool)
        assert (response.status, response.body, response.failure) == (*told, None)
        assert (await exchange(pool)).body == b"next"
    assert [each.connection for each in stub.recorded] == [1, 1 if is_kept else 2]


@pytest.mark.parametrize(
    ("raw", "then", "error"), [each[1:] for each in UNREADABLE], ids=[e[0] for e in UNREADABLE]
)
async def test_what_is_no_reply_is_an_error_and_sent_once(
    stub: StubApi, raw: bytes, then: str, error: type[httpx.HTTPError]
) -> None:
    stub.answers.extend([Answer(raw, then), NEXT])
    async with opened(stub.url) as pool:
        with pytest.raises(error) as caught:
            await exchange(pool)
        assert type(caught.value) is error
        assert (await exchange(pool)).body == b"next"
    assert [each.connection for each in stub.recorded] == [1, 2]


@pytest.mark.parametrize(
    ("raw", "then", "error"), [each[1:] for each in BROKEN], ids=[e[0] for e in BROKEN]
)
async def test_of_a_body_that_breaks_off_the_head_counts_and_the_failure_is_told(
    stub: StubApi, raw: bytes, then: str, error: type[httpx.HTTPError]
) -> None:
    stub.answers.extend([Answer(raw, then), NEXT])
    async with opened(stub.url) as pool:
        response = await exchange(pool)
        assert response.status == 200
        assert type(response.failure) is error
        assert (await exchange(pool)).body == b"next"
    assert [each.connection for each in stub.recorded] == [1, 2]


@pytest.mark.parametrize("head", [b"content-length: 5", b"transfer-encoding: chunked", b"x: y"])
async def test_no_body_is_waited_for_after_head(stub: StubApi, head: bytes) -> None:
    stub.answers.extend([Answer(OK + head + b"\r\n\r\n"), NEXT])
    async with opened(stub.url) as pool:
        response = await exchange(pool, "HEAD")
        assert (response.status, response.body, response.failure) == (200, b"", None)
        assert (await exchange(pool)).body == b"next"


@pytest.mark.parametrize("is_told", [False, True])
async def test_of_a_body_that_is_too_large_no_more_is_read_than_may_be_kept(
    stub: StubApi, *, is_told: bool
) -> None:
    head = b"content-length: 200000000\r\n\r\n" if is_told else b"\r\n"
    stub.answers.extend([Answer(OK + head + bytes(100 * MIB), "close"), NEXT])
    async with opened(stub.url) as pool:
        tracemalloc.start()
        try:
            response = await exchange(pool, limit_bytes=MIB)
            assert tracemalloc.get_traced_memory()[1] < 8 * MIB
        finally:
            tracemalloc.stop()
        assert response.is_cut
        assert len(response.body) < 2 * MIB
        assert (await exchange(pool)).body == b"next"
    assert [each.connection for each in stub.recorded] == [1, 2]


async def test_a_body_of_just_the_limit_is_whole(stub: StubApi) -> None:
    stub.answers.extend([reply(200, bytes(1000)), reply(200, bytes(1001))])
    async with opened(stub.url) as pool:
        whole = await exchange(pool, limit_bytes=1000)
        assert (len(whole.body), whole.is_cut, whole.failure) == (1000, False, None)
        assert (await exchange(pool, limit_bytes=1000)).is_cut


async def test_headers_are_found_in_any_case_and_keep_their_order(stub: StubApi) -> None:
    raw = OK + b"Set-Cookie: a\r\nX-Y:  b \r\nset-cookie: c\r\ncontent-length: 0\r\n\r\n"
    # Those of a hint before are none of its own.
    stub.default = Answer(b"HTTP/1.1 103 Early Hints\r\nSet-Cookie: hint\r\n\r\n" + raw)
    async with opened(stub.url) as pool:
        response = await exchange(pool)
    assert response.headers["x-y"] == "b"
    assert response.headers.get_list("Set-Cookie") == ["a", "c"]
    assert [name for name, _ in response.raw_headers][:2] == [b"set-cookie", b"x-y"]
