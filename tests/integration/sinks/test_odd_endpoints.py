"""One delivery to an endpoint that is odd: it works, or is told in clear words."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.integration.sinks.delivering import TEXT, Changing, answering, opened, send
from tests.integration.sinks.endpoints import Endpoint
from tests.security.tls import Authority, server_context
from tests.stub_api import Answer as Stubbed
from tests.stub_api import StubApi
from worker.http.failures import NotWrittenError
from worker.sinks.destinations import DeliveryError
from worker.sinks.webhook import said_of

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nx-note: folded\r\n over two lines\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nx-note: a\x01b\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n",
    ],
)
async def test_an_answer_whose_head_is_nearly_http_is_one_and_costs_no_connection(
    tmp_path: Path, said: bytes
) -> None:
    """Scripts and small devices write such; only the status counts."""
    with StubApi(default=Stubbed(said)) as stub:
        async with opened(tmp_path, stub.url) as destination:
            for _ in range(2):
                answer = await send(destination)
                assert (answer.told, answer.body) == ("answered 200", "ok")
        assert [each.connection for each in stub.recorded] == [1, 1]


@pytest.mark.parametrize("comes", ["whole", "in part"])
async def test_of_an_answer_that_is_too_long_to_be_read_the_beginning_is_shown(
    tmp_path: Path, comes: str
) -> None:
    """The page of an error is often a long one, and why it failed stands at its top."""
    page = b"the disk is full; " * (2_000 if comes == "whole" else 1)
    head = b"HTTP/1.1 500 Error\r\ncontent-length: 36000\r\n\r\n"
    with StubApi(default=Stubbed(head + page, "hang")) as stub:
        async with opened(tmp_path, stub.url) as destination:
            with pytest.raises(DeliveryError) as failed:
                await send(destination)
    assert failed.value.body.startswith("the disk is full; ")


async def test_an_endpoint_that_demands_a_certificate_of_us_is_told_as_such(
    tmp_path: Path,
) -> None:
    """By TLS 1.3 it says so only after the handshake, when the event may be on its way."""
    ours = Authority.create(tmp_path / "ours.pem", "ours")
    shown = server_context(
        *ours.issue(tmp_path / "server", "localhost"),
        version=ssl.TLSVersion.TLSv1_3,
        asks_for=ours.file,
    )
    trust = ssl.create_default_context(cafile=str(ours.file))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reads to the end: whoever closes with bytes unread takes the last of its own back."""
        came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = shown.wrap_bio(came, goes, server_side=True)
        while data := await reader.read(65_536):
            came.write(data)
            with suppress(ssl.SSLError):
                tls.do_handshake()
            writer.write(goes.read())

    async with answering(talk) as plain:
        url = plain.replace("http://127.0.0.1", "https://localhost")
        async with opened(tmp_path, url, tls=trust) as destination:
            with pytest.raises(DeliveryError, match=r"TLS ended .* certificate required"):
                await send(destination)


async def test_a_name_with_the_dot_at_its_end_is_that_of_the_certificate(tmp_path: Path) -> None:
    ours = Authority.create(tmp_path / "ours.pem", "ours")
    shown = server_context(*ours.issue(tmp_path / "server", "hook.example"))
    trust = ssl.create_default_context(cafile=str(ours.file))
    with StubApi(tls=shown) as stub:
        url = f"https://hook.example.:{stub.port}/hook"
        async with opened(tmp_path, url, Changing("127.0.0.1"), trust) as destination:
            assert (await send(destination)).told == "answered 200"


@pytest.mark.parametrize("host", ["xn--ls8h.example", "a_b.example", "XN--A.example"])
async def test_a_name_that_is_none_of_idna_s_is_one_all_the_same(tmp_path: Path, host: str) -> None:
    """There are domains of pictures alone, and who resolves a name decides what it is."""
    async with Endpoint().serving() as endpoint:
        url = f"http://{host}:{endpoint.port}/"
        async with opened(tmp_path, url, Changing("127.0.0.1")) as destination:
            assert (await send(destination)).told == "answered 200"


async def test_of_two_waits_that_an_endpoint_asks_for_the_first_counts(tmp_path: Path) -> None:
    """Its proxy has added one."""
    said = b"HTTP/1.1 429 No\r\nretry-after: 90\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n"
    with StubApi(default=Stubbed(said)) as stub:
        async with opened(tmp_path, stub.url) as destination:
            with pytest.raises(DeliveryError) as failed:
                await send(destination)
    assert failed.value.retry_after_seconds == 90


@pytest.mark.parametrize(
    ("cause", "failure", "told"),
    [
        (None, NotWrittenError(""), "the connection ended, or something came on it, before"),
        (OSError("Multiple exceptions: a, b"), httpx.ConnectError(""), "Multiple exceptions: a, b"),
        (ConnectionResetError(), httpx.ConnectError(""), "no connection: ConnectionResetError"),
    ],
)
def test_what_kept_an_event_from_being_sent_is_told_in_words(
    cause: Exception | None, failure: httpx.HTTPError, told: str
) -> None:
    """By none of the names of our errors, as far as there is more to say."""
    failure.__cause__ = cause
    assert told in said_of(failure)


async def test_an_event_goes_out_twice_at_most_for_one_try(tmp_path: Path) -> None:
    """The first connection ends without a byte, and so does the one that is made for it."""
    asked = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(TEXT))
            asked += 1
            if asked > 1:
                return
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with answering(talk) as url, opened(tmp_path, url) as destination:
        await send(destination)
        with pytest.raises(DeliveryError, match="ended before an answer came"):
            await send(destination)
    assert asked == 3
