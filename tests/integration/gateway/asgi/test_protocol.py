"""Connections of the gateway: what is no HTTP, what is answered early, and what is never read."""

from __future__ import annotations

import logging
import re
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import httpx
import orjson
import pytest

from tests.console import wait_until
from tests.stream_events import event_text
from worker.gateway.asgi import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import ServeGateway
    from worker.queue.ledger.keys import Keys

LARGE = 100_000_000
PIECE = b" " * 1_000_000
CHUNK = b"%x\r\n%b\r\n" % (len(PIECE), PIECE)
HEAD = b"POST /v1/commands HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


def connect(gateway: GatewayServer) -> socket.socket:
    """A connection to a gateway, which the caller closes."""
    url = httpx.URL(gateway.url)
    return socket.create_connection((url.host, url.port), timeout=30)


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the other side ends it."""
    found = b""
    while more := connection.recv(65_536):
        found += more
    return found


def pieces() -> Iterator[bytes]:
    """A body whose length nobody is told before."""
    for _ in range(LARGE // len(PIECE)):
        yield PIECE


@pytest.mark.parametrize(
    "sent",
    [
        b"this is no HTTP\r\n\r\n",
        b"CONNECT files.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"CONNECT /healthz HTTP/1.1\r\nhost: localhost\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
    ],
)
def test_what_is_no_http_for_us_is_answered_400_and_does_not_fill_the_log(
    gateway: GatewayServer, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    url = httpx.URL(gateway.url)
    caplog.set_level(logging.DEBUG)
    for _ in range(20):
        with socket.create_connection((url.host, url.port), timeout=30) as connection:
            connection.sendall(sent)
            assert connection.recv(64).startswith(b"HTTP/1.1 400 ")
    logs = ("uvicorn", "asyncio")
    assert [record for record in caplog.records if record.name.startswith(logs)] == []


@pytest.mark.parametrize("other", [b"h2c", b"websocket"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_who_offers_another_protocol_is_answered_in_this_one(
    gateway: GatewayServer, other: bytes, *, is_chunked: bool
) -> None:
    """Java's client does, also with a body, which is neither lost nor read as a request."""
    command = b'{"type":"list_models","data":{}}'
    hidden = HEAD + b"content-length: %d\r\n\r\n%b" % (len(command), command)
    upgrade = b"connection: upgrade\r\nupgrade: %b\r\n" % other
    last = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    for body, status in ((command, b"202"), (hidden, b"400")):
        head = HEAD + upgrade + b"content-length: %d\r\n\r\n" % len(body)
        rest = body
        if is_chunked:
            head = HEAD + upgrade + b"transfer-encoding: chunked\r\n\r\n"
            rest = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        for pieces in ([head + rest + last], [head, rest, last]):
            with connect(gateway) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in pieces:
                    connection.sendall(piece)
                found = re.findall(rb"HTTP/1.1 (\d+)", read_all(connection))
            assert found == [status, b"200"]


def test_the_heads_of_all_requests_of_a_connection_have_no_bound_together(
    gateway: GatewayServer,
) -> None:
    head = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-filler: %b\r\n\r\n" % (b"x" * 30_000)
    with connect(gateway) as connection:
        for _ in range(4):
            # In pieces, as a network has it.
            connection.sendall(head[:20])
            time.sleep(0.02)
            connection.sendall(head[20:])
            answer = b""
            while not answer.endswith(b"}"):
                piece = connection.recv(65_536)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("lengths", "chunk", "statuses"),
    [
        (b"content-length: %d\r\n\r\n" % LARGE, PIECE, {b"413"}),
        (b"transfer-encoding: chunked\r\n\r\n", CHUNK, {b"413"}),
        (b"a: b\r\n" * 10_000, PIECE, {b"400", b"431"}),
    ],
    ids=["its length is told", "in chunks", "behind a head that is refused"],
)
def test_who_sends_all_of_a_body_before_they_read_gets_the_answer_to_it(
    serve_gateway: ServeGateway, lengths: bytes, chunk: bytes, statuses: set[bytes]
) -> None:
    """An answer that comes before the body has must not be lost by a reset."""
    with serve_gateway(gateway_body_bytes=1024) as gateway, connect(gateway) as connection:
        connection.sendall(HEAD + lengths)
        for _ in range(LARGE // len(PIECE)):
            connection.sendall(chunk)
        answer = read_all(connection)
    assert answer.split(b" ")[1] in statuses
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["code"]


def test_httpx_and_curl_read_that_a_body_is_too_large(
    serve_gateway: ServeGateway, tmp_path: Path
) -> None:
    headers = {"content-type": "application/json"}
    curl = shutil.which("curl")
    assert curl is not None
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(LARGE)
    with serve_gateway(gateway_body_bytes=1024) as gateway:
        url = f"{gateway.url}/v1/commands"
        for content in (PIECE * (LARGE // len(PIECE)), pieces()):
            assert gateway.http.post(url, content=content, headers=headers).status_code == 413
        sends = ("--data-binary", "--upload-file")
        for said in ((sends[0], f"@{body}"), (sends[1], str(body))):
            told = ("--header", "content-type: application/json", "--header", "expect:")
            done = subprocess.run(
                [curl, "--silent", "--show-error", "--request", "POST", *told, *said, url],
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert orjson.loads(done.stdout)["code"] == "too_large", done.stderr


@pytest.mark.parametrize("path", [b"/v1/commands", b"/nowhere"], ids=["closed", "kept open"])
def test_a_body_without_end_costs_a_connection_for_a_while(
    serve_gateway: ServeGateway, monkeypatch: pytest.MonkeyPatch, path: bytes
) -> None:
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.5)
    with serve_gateway(gateway_body_bytes=1024) as gateway, connect(gateway) as connection:
        head = HEAD.replace(b"/v1/commands", path)
        connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
        begun = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - begun < 30:
                connection.sendall(CHUNK)
        assert 0.4 < time.monotonic() - begun < 10


def test_who_says_nothing_after_an_early_answer_is_let_go(
    serve_gateway: ServeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LINGER_SILENT_SECONDS", 0.5)
    with serve_gateway(gateway_body_bytes=1024) as gateway, connect(gateway) as connection:
        connection.sendall(HEAD + b"content-length: 9999\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")
        # Bytes that come have it linger on; none do, and to the first one afterwards it is gone.
        time.sleep(1)
        connection.sendall(b" ")
        time.sleep(0.5)
        with pytest.raises(ConnectionError):
            connection.sendall(b" ")


def test_those_who_linger_take_no_place_from_others(
    serve_gateway: ServeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MOST_LINGERING", 3)
    with serve_gateway(gateway_body_bytes=1024, gateway_connections=1) as gateway:
        lingering: list[socket.socket] = []
        try:
            for _ in range(3):
                lingering.append(connect(gateway))
                lingering[-1].sendall(HEAD + b"content-length: 9999\r\n\r\n")
                assert read_all(lingering[-1]).startswith(b"HTTP/1.1 413 ")
            with connect(gateway) as connection:
                connection.sendall(HEAD + b"content-length: 9999\r\n\r\n")
                assert read_all(connection).startswith(b"HTTP/1.1 413 ")
            # The one above was closed at once, for three linger.
            assert gateway.http.get("/healthz").status_code == 200
        finally:
            for each in lingering:
                each.close()

        def is_refused() -> bool:
            with connect(gateway) as more:
                more.settimeout(0.5)
                with suppress(TimeoutError):
                    return more.recv(64).startswith(b"HTTP/1.1 503 ")
            return False

        with connect(gateway):
            wait_until(is_refused, "an end to the places of those who are gone")
        # Nor of one that was closed at once, which never lingered.
        room = cast("Any", gateway._server.config.http).keywords["room"]
        wait_until(lambda: room.lingering == 0, "nobody who lingers")


def test_a_watcher_who_never_reads_is_cut_off(
    gateway: GatewayServer,
    monkeypatch: pytest.MonkeyPatch,
    raw_redis: Redis,
    keys: Keys,
) -> None:
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 0.5)
    event = event_text("a", "train.succeeded", data={"result": "x" * 100_000})
    watchers = gateway.app.state.gateway.events
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        url = httpx.URL(gateway.url)
        connection.connect((url.host, url.port))
        connection.sendall(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        wait_until(lambda: watchers.watchers == 1, "a watcher")
        for _ in range(300):
            raw_redis.xadd(keys.events, {"event": event})
        wait_until(lambda: watchers.watchers == 0, "the end of the watcher")
