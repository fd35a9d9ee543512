"""One delivery to an endpoint that does what it should not."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.integration.integrations.published import event_text
from tests.integration.sinks.delivering import TEXT, Changing, answering, opened, send
from tests.integration.sinks.endpoints import Endpoint, never, sink_config, webhook
from tests.security.tls import Authority, server_context
from tests.stub_api import StubApi
from trainmaster_client.events import event_of
from worker.integrations.secrets import Secret
from worker.sinks.destinations import DeliveryError
from worker.sinks.webhook import ANSWER_BYTES, Webhook

if TYPE_CHECKING:
    from pathlib import Path

    from worker.http.opening import AddressInfo


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "fe80::1",
    ],
)
async def test_a_name_that_leads_to_no_public_address_is_not_connected_to(
    tmp_path: Path, address: str
) -> None:
    async with Endpoint().serving() as endpoint:
        url = f"http://hook.example:{endpoint.port}/"
        async with opened(tmp_path, url, Changing(address), allow_private=False) as destination:
            with pytest.raises(DeliveryError, match="nothing was sent: its name leads to"):
                await send(destination)
    assert endpoint.asked == 0


async def test_a_name_that_changes_its_address_after_the_check_is_not_connected_to(
    tmp_path: Path,
) -> None:
    """There is no check before the connection that a second lookup could get around."""
    async with Endpoint().serving() as endpoint:
        resolver = Changing("93.184.216.34", "127.0.0.1")
        # What any check that looked up the name beforehand would have seen.
        (looked_up,) = await resolver.resolve("hook.example", endpoint.port)
        assert looked_up[4][0] == "93.184.216.34"
        url = f"http://hook.example:{endpoint.port}/"
        async with opened(tmp_path, url, resolver, allow_private=False) as destination:
            with pytest.raises(DeliveryError, match=r"its name leads to 127\.0\.0\.1"):
                await send(destination)
        assert resolver.asked == 2
    assert endpoint.asked == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
async def test_an_address_that_stands_in_the_url_is_looked_at_like_that_of_a_name(
    tmp_path: Path, host: str
) -> None:
    async with Endpoint().serving() as endpoint:
        url = f"http://{host}:{endpoint.port}/"
        async with opened(tmp_path, url, allow_private=False) as destination:
            with pytest.raises(DeliveryError, match="nothing was sent: its name leads to"):
                await send(destination)
    assert endpoint.asked == 0


async def test_of_the_addresses_of_a_name_only_the_public_ones_are_connected_to(
    tmp_path: Path,
) -> None:
    class Mixed(Changing):
        async def resolve(self, host: str, port: int) -> list[AddressInfo]:
            private = await super().resolve(host, port)
            return [*private, *await Changing("2606:4700::").resolve(host, port), *private]

    async with Endpoint().serving() as endpoint:
        url = f"http://hook.example:{endpoint.port}/"
        resolver = Mixed("127.0.0.1")
        told: dict[str, Any] = {"allow_private": False, "timeout_seconds": 1}
        async with opened(tmp_path, url, resolver, **told) as destination:
            with pytest.raises(DeliveryError, match=r"no (connection|answer)"):
                await send(destination)
    assert endpoint.asked == 0


async def test_a_name_of_this_machine_is_refused_by_the_true_resolver_too(tmp_path: Path) -> None:
    async with Endpoint().serving() as endpoint:
        url = f"http://localhost:{endpoint.port}/"
        async with opened(tmp_path, url, allow_private=False) as destination:
            with pytest.raises(DeliveryError, match="its name leads to"):
                await send(destination)
        async with opened(tmp_path, url) as destination:
            assert (await send(destination)).told == "answered 200"
    assert endpoint.asked == 1


async def test_a_name_that_no_resolver_takes_is_a_delivery_that_failed(tmp_path: Path) -> None:
    """Python's raises no OSError for it: a part of a name has 63 characters at most."""
    async with opened(tmp_path, f"http://{'a' * 64}.example/") as destination:
        with pytest.raises(DeliveryError, match="its name can't be resolved"):
            await send(destination)


async def test_a_name_is_looked_up_once_for_a_connection_which_later_events_use(
    tmp_path: Path,
) -> None:
    async with Endpoint().serving() as endpoint:
        resolver = Changing("127.0.0.1", "10.255.255.1")
        url = f"http://hook.example:{endpoint.port}/"
        async with opened(tmp_path, url, resolver) as destination:
            for _ in range(3):
                await send(destination)
    assert (resolver.asked, endpoint.asked) == (1, 3)
    assert endpoint.received[0][0]["host"] == f"hook.example:{endpoint.port}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(tmp_path: Path, status: int) -> None:
    async with Endpoint().serving() as other:
        redirecting = Endpoint(always=status, headers={"location": other.url})
        async with redirecting.serving(), opened(tmp_path, redirecting.url) as destination:
            with pytest.raises(DeliveryError, match="redirects are not followed"):
                await send(destination)
    assert other.asked == 0


async def test_no_proxy_of_the_environment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with Endpoint().serving() as endpoint, opened(tmp_path, endpoint.url) as destination:
        assert (await send(destination)).told == "answered 200"


async def test_an_answer_without_an_end_is_read_to_a_bound_and_no_longer_than_a_moment(
    tmp_path: Path,
) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)

    endpoint = Endpoint(answer=flood)
    async with endpoint.serving(), opened(tmp_path, endpoint.url) as destination:
        answer = await send(destination)
        assert answer.told == "answered 200"
        assert len(answer.body) < ANSWER_BYTES
        endpoint.answer = drip
        begun = asyncio.get_running_loop().time()
        with pytest.raises(DeliveryError, match="answered 500"):
            await send(destination)
        assert asyncio.get_running_loop().time() - begun < 10
        # Neither of the two answers is in the way of what follows.
        endpoint.answer = None
        assert (await send(destination)).body == "told"


async def test_an_answer_that_never_comes_is_waited_for_no_longer_than_the_timeout(
    tmp_path: Path,
) -> None:
    endpoint = Endpoint(answer=never)
    async with endpoint.serving(), opened(tmp_path, endpoint.url, timeout_seconds=1) as destination:
        with pytest.raises(DeliveryError, match="no answer within 1 s"):
            await send(destination)


async def test_an_answer_that_comes_before_the_body_was_read_counts(tmp_path: Path) -> None:
    """It says 200: what it does with the body is its own affair."""

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with answering(lie) as url, opened(tmp_path, url) as destination:
        for _ in range(5):
            assert (await send(destination)).told == "answered 200"


@pytest.mark.parametrize(
    "hint", [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
async def test_a_hint_before_the_answer_costs_neither_it_nor_the_connection(
    tmp_path: Path, hint: bytes
) -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(TEXT))
            writer.write(hint)
            await writer.drain()
            writer.write(hint + b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with answering(talk) as url, opened(tmp_path, url) as destination:
        for _ in range(3):
            assert (await send(destination)).told == "answered 200"
    assert connections == 1


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_a_failure(tmp_path: Path, said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)

    async with answering(talk) as url, opened(tmp_path, url) as destination:
        with pytest.raises(DeliveryError) as caught:
            await send(destination)
    assert "hidden" not in str(caught.value)


async def test_a_connection_that_the_endpoint_has_closed_costs_no_failure(tmp_path: Path) -> None:
    async with Endpoint().serving() as endpoint, opened(tmp_path, endpoint.url) as destination:
        await send(destination)
        port = endpoint.port
        async with asyncio.timeout(60):
            while endpoint.asked < 1:
                await asyncio.sleep(0.01)
        again = Endpoint(port=port)
    async with opened(tmp_path, again.url) as destination:
        async with again.serving(reuse_address=True):
            await send(destination)
        async with again.serving(reuse_address=True):
            await send(destination)
    assert again.asked == 2


async def test_an_event_goes_out_again_at_once_where_a_kept_connection_ends_without_a_word(
    tmp_path: Path,
) -> None:
    """It ends while the event is on its way: nothing in the socket had told."""
    requests: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(len(TEXT))
            if len(requests) != 2:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
            if len(requests) > 1:
                break

    async with answering(talk) as url, opened(tmp_path, url) as destination:
        for _ in range(2):
            assert (await send(destination)).told == "answered 200"
    ids = [
        line
        for each in requests
        for line in each.lower().split(b"\r\n")
        if line.startswith(b"webhook-id")
    ]
    assert len(ids) == 3
    assert len(set(ids)) == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_a_body_that_no_answer_of_its_status_has_costs_only_the_connection(
    tmp_path: Path, status: int
) -> None:
    endpoint = f"HTTP/1.1 {status} So\r\ncontent-length: 4\r\n\r\nbody".encode()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(TEXT))
        writer.write(endpoint)
        await writer.drain()
        await reader.read()

    async with answering(talk) as url, opened(tmp_path, url) as destination:
        for _ in range(2):
            if status == 204:
                assert (await send(destination)).status == 204
            else:
                with pytest.raises(DeliveryError, match=r"answered 304$"):
                    await send(destination)


async def test_an_answer_that_begins_in_time_counts_though_its_end_does_not_come(
    tmp_path: Path,
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.7)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        while True:
            await asyncio.sleep(0.1)
            writer.write(b".")
            await writer.drain()

    async with answering(talk) as url, opened(tmp_path, url, timeout_seconds=1) as destination:
        assert (await send(destination)).told == "answered 200"


async def test_a_command_s_trace_goes_along_with_what_tells_of_it(tmp_path: Path) -> None:
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "shop=1"}
    text = event_text("a", 1, traceparent=trace["traceparent"], tracestate=trace["tracestate"])
    event = event_of(b"1-0", {b"event": text})
    assert event is not None
    endpoint = Endpoint()
    async with endpoint.serving(), opened(tmp_path, endpoint.url) as destination:
        await destination.send(event, text)
        await send(destination)
    (traced, _), (plain, _) = endpoint.received
    assert {name: traced[name] for name in trace} == trace
    assert not trace.keys() & plain.keys()


@pytest.mark.parametrize(
    ("status", "said", "seconds"),
    [
        (429, "90", 90),
        (503, "90", 90),
        (500, "90", 0),
        (429, "86400", 3_600),
        (429, "9" * 400, 3_600),
        (503, "Fri, 01 Jan 2999 00:00:00 GMT", 3_600),
        (503, "Wed, 21 Oct 2015 07:28:00 GMT", 0),
        (429, "soon", 0),
    ],
)
async def test_an_endpoint_is_left_alone_for_as_long_as_it_says_but_for_an_hour_at_most(
    tmp_path: Path, status: int, said: str, seconds: float
) -> None:
    """One answer must not stop a sink for a day."""
    async with (
        Endpoint(always=status, headers={"retry-after": said}).serving() as endpoint,
        opened(tmp_path, endpoint.url) as destination,
    ):
        with pytest.raises(DeliveryError) as failed:
            await send(destination)
    assert failed.value.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("trusted", "name", "said"),
    [
        (True, "other.example", "Hostname mismatch, certificate is not valid for 'localhost'."),
        (False, "localhost", "unable to get local issuer certificate"),
    ],
)
async def test_what_is_wrong_with_a_certificate_is_told_before_all_else(
    tmp_path: Path, trusted: bool, name: str, said: str
) -> None:
    """A list shows the beginning of an error, and OpenSSL's says three times that it failed."""
    ours = Authority.create(tmp_path / "ours.pem", "ours")
    other = Authority.create(tmp_path / "other.pem", "other")
    config = sink_config("ops", tmp_path, webhook=webhook("http://127.0.0.1")).webhook
    assert config is not None
    with StubApi(tls=server_context(*ours.issue(tmp_path / "server", name))) as stub:
        url = Secret(f"https://localhost:{stub.port}/hook".encode(), "")
        config = config.model_copy(update={"url": url})
        trust = ssl.create_default_context(cafile=str((ours if trusted else other).file))
        destination = Webhook("ops", config, tls=trust)
        with pytest.raises(DeliveryError) as caught:
            await send(destination)
        await destination.close()
        assert stub.recorded == []
    assert str(caught.value) == f"its certificate is not trusted: {said}"
