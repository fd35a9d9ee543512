"""Who may do what over HTTP, and what the gateway survives."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING

import orjson
import pytest
from redis import Redis as BlockingRedis

from tests.console import wait_until
from tests.integration.intake_acts import good
from tests.integration.ledger_acts import MODEL_UUID
from worker.gateway.access.tokens import Scope, Tokens
from worker.gateway.asgi import protocol
from worker.queue.ledger.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken, ServeGateway
    from worker.queue.ledger.keys import Keys

JSON = {"content-type": "application/json"}
PROJECT = "0b8b8b8a-1111-4222-8333-444455556666"
OTHER = "0b8b8b8a-1111-4222-8333-444455557777"
TRAINING = {"model_uuid": MODEL_UUID, "batch_size": 1, "epochs": 1, "labels_uuids": [OTHER]}


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (Scope.SUBMIT, {"submit"}),
        (Scope.READ, {"read"}),
        (Scope.OPERATE, {"operate"}),
    ],
)
def test_a_token_may_do_what_its_scope_says_and_nothing_else(
    gateway: GatewayServer, make_token: MakeToken, scope: Scope, allowed: set[str]
) -> None:
    with gateway.client(make_token(scope)) as http:
        answers = {
            "submit": http.post("/v1/commands", content=good(), headers=JSON).status_code == 202,
            "read": http.get("/v1/commands/nobody").status_code == 404,
            "operate": http.post("/v1/commands/nobody/cancel").status_code == 404,
        }
        assert {name for name, done in answers.items() if done} == allowed
        refused = http.post("/v1/commands/nobody/cancel")
        assert refused.status_code in {403, 404}


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer x", "Basic dTpw", "Bearer tm_aaaaaaaaaaaa_" + "a" * 43, "tm_x"],
)
def test_a_wrong_token_is_refused_in_one_way(
    gateway: GatewayServer, make_token: MakeToken, authorization: str | None
) -> None:
    make_token(Scope.SUBMIT)
    time.sleep(1.1)  # for so long a gateway need not look whether there is a first token
    headers = {} if authorization is None else {"authorization": authorization}
    answer = gateway.http.post("/v1/commands", content=good(), headers={**JSON, **headers})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "tm_" not in answer.text


def test_a_token_may_be_limited_to_types_and_projects(
    gateway: GatewayServer, make_token: MakeToken
) -> None:
    listing = {"type": "list_attachments", "data": {"project_uuid": PROJECT}}
    foreign = {"type": "list_attachments", "data": {"project_uuid": OTHER}}
    model = {"type": "get_model", "data": {"model_uuid": MODEL_UUID}}
    types = ["list_attachments", "get_model", "train"]
    secret = make_token(Scope.SUBMIT, types=types, projects=[PROJECT])
    with gateway.client(secret) as http:
        # A training names its projects by their labels: each of them must be allowed.
        for projects, status in (([PROJECT], 202), ([PROJECT, OTHER], 403), ([OTHER], 403)):
            features = {project: {"a": ["b"]} for project in projects}
            data = {**TRAINING, "features_mapping": features}
            answer = http.post("/v1/commands", json={"type": "train", "data": data})
            assert answer.status_code == status, answer.text
        for command, status in ((listing, 202), (foreign, 403), (model, 403)):
            assert http.post("/v1/commands", json=command).status_code == status
        told = http.post("/v1/commands", json=[listing, foreign, {"type": "list_models"}]).json()
        assert [each["status"] for each in told["items"]] == [202, 403, 422]
        reference = {"type": "list_attachments", "dataref": "https://x.example/y"}
        assert http.post("/v1/commands", json=reference).status_code == 403
        cancel = {"type": "cancel", "data": {"command_id": "x"}}
        assert http.post("/v1/commands", json=cancel).status_code == 403


@pytest.mark.parametrize("command_type", ["cancel", "resolve"])
def test_who_may_only_send_does_not_do_what_operators_do_by_a_command_either(
    gateway: GatewayServer, make_token: MakeToken, command_type: str
) -> None:
    data = {"command_id": "x"} | ({"not_created": True} if command_type == "resolve" else {})
    with (
        gateway.client(make_token(Scope.SUBMIT)) as sender,
        gateway.client(make_token(Scope.SUBMIT, Scope.OPERATE)) as operator,
    ):
        # Its data may lie elsewhere, where nobody has looked at them yet.
        for source in ({"data": data}, {"dataref": "/data/one.json"}):
            command = {"type": command_type, **source}
            assert sender.post("/v1/commands", json=command).status_code == 403
            (told,) = sender.post("/v1/commands", json=[command]).json()["items"]
            assert told["status"] == 403
            assert operator.post("/v1/commands", json=command).status_code == 202


def test_a_revoked_token_opens_nothing(
    gateway: GatewayServer, make_token: MakeToken, redis_url: str, keys: Keys
) -> None:
    secret = make_token(Scope.READ)

    async def revoke() -> None:
        redis = connect(redis_url)
        await Tokens(redis, keys).revoke("test")
        await redis.aclose()

    with gateway.client(secret) as http:
        assert http.get("/v1/commands/nobody").status_code == 404
        asyncio.run(revoke())
        time.sleep(1.1)  # as long as one may be taken after that
        assert http.get("/v1/commands/nobody").status_code == 401
    # The last that is revoked opens nothing.
    assert gateway.http.get("/v1/commands/nobody").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_a_page_in_a_browser_can_do_nothing_while_no_token_is_needed(
    gateway: GatewayServer, headers: dict[str, str]
) -> None:
    assert gateway.http.post("/v1/commands/nobody/cancel", headers=headers).status_code == 403
    assert gateway.http.post("/v1/commands/nobody/cancel").status_code == 404


def test_requests_of_a_token_are_counted_and_told(
    serve_gateway: ServeGateway, make_token: MakeToken
) -> None:
    with (
        serve_gateway(gateway_requests_per_second=5) as gateway,
        gateway.client(make_token(Scope.READ)) as http,
    ):
        answers = [http.get("/v1/commands/nobody") for _ in range(40)]
    statuses = {answer.status_code for answer in answers}
    assert statuses == {404, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["ratelimit"] == '"token";r=0;t=1'
    assert refused.headers["ratelimit-policy"] == '"token";q=5;w=1'
    assert refused.headers["retry-after"] == "1"
    assert "ratelimit" in answers[0].headers


POST = b"POST /v1/commands HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"


def raw(gateway: GatewayServer, *parts: bytes, close: bool = False) -> bytes:
    """What a gateway answers to bytes; empty where it closes without a word."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        for part in parts:
            connection.sendall(part)
        if close:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        while True:
            try:
                more = connection.recv(65_536)
            except ConnectionResetError:
                return found
            if not more:
                return found
            found += more


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/9.9\r\n\r\n", b"400"),
        (b"GET /h\xc3\xa4 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"40"),
        (b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"\r\n", b"431"),
        (b"GET /healthz HTTP/1.1\r\na: " + b"x" * 200_000, b"431"),
        (b"GET /" + b"x" * 200_000, b"431"),
        (POST + b"content-type: application/json\r\n" * 2 + b"content-length: 2\r\n\r\n{}", b"400"),
        (POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
    ],
)
def test_what_is_hardly_http_is_refused_and_the_gateway_lives(
    gateway: GatewayServer, sent: bytes, status: bytes
) -> None:
    answer = raw(gateway, sent)
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
    assert gateway.http.get("/healthz").status_code == 200


async def test_half_a_body_is_no_command(gateway: GatewayServer, redis: Redis, keys: Keys) -> None:
    body = good()
    head = (
        b"POST /v1/commands HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % (len(body) + 10)
    )
    raw(gateway, head, body, close=True)
    assert gateway.http.get("/healthz").status_code == 200
    assert not await redis.xlen(keys.commands)


def test_a_head_or_a_body_that_never_comes_costs_a_connection_for_a_while(
    serve_gateway: ServeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    with serve_gateway(gateway_body_seconds=1.0) as gateway:
        assert raw(gateway) == b""
        assert raw(gateway, b"GET /healthz HTT").startswith(b"HTTP/1.1 408")
        head = (
            b"POST /v1/commands HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n"
            b"content-type: application/json\r\n\r\n{"
        )
        answer = raw(gateway, head)
        assert answer.startswith(b"HTTP/1.1 408")
        assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "body_too_slow"


HELD_REQUEST = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    ("request_", "more"),
    [
        (HELD_REQUEST + b"\r\n", b"GET /heal"),
        (HELD_REQUEST + b"content-length: 9\r\n\r\n", b"{"),
    ],
    ids=["a further head", "a body that nobody reads"],
)
def test_what_begins_after_an_answer_and_never_ends_costs_a_connection_for_a_while(
    gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch, request_: bytes, more: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request_)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(more)
        while connection.recv(65_536):
            pass


CHUNKED_HEAD = (
    b"POST /v1/commands HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
)


def test_trailers_are_no_headers(serve_gateway: ServeGateway) -> None:
    with serve_gateway(gateway_body_seconds=1.0) as gateway:
        answer = raw(
            gateway,
            CHUNKED_HEAD + b"content-type: text/plain\r\nauthorization: Basic x\r\n\r\n",
        )
        assert answer.startswith(b"HTTP/1.1 422"), answer[:300]


def test_trailers_without_end_are_refused(gateway: GatewayServer) -> None:
    answer = raw(gateway, CHUNKED_HEAD, b"a: " + b"b" * 1_000_000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431"), answer[:300]
    assert gateway.http.get("/healthz").status_code == 200


def test_two_hosts_are_refused(gateway: GatewayServer) -> None:
    head = b"GET /v1/lanes HTTP/1.1\r\nhost: localhost\r\nhost: evil\r\nconnection: close\r\n\r\n"
    assert raw(gateway, head).startswith(b"HTTP/1.1 400")


def test_too_many_connections_are_refused_and_others_go_on(serve_gateway: ServeGateway) -> None:
    with serve_gateway(gateway_connections=3) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        assert gateway.http.get("/healthz").status_code == 200
        held = [socket.create_connection((host, int(port))) for _ in range(2)]
        for each in held:
            each.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert each.recv(12) == b"HTTP/1.1 200"
        assert raw(gateway).startswith(b"HTTP/1.1 503")
        assert gateway.http.get("/healthz").status_code == 200
        for each in held:
            each.close()


def test_no_answer_tells_a_stack(gateway: GatewayServer) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("s3cret")

    gateway.app.state.gateway.reader.status = fail
    answer = gateway.http.get("/v1/commands/nobody")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "s3cret" not in answer.text
    assert "Traceback" not in answer.text


def test_lines_are_taken_only_for_as_long_as_the_token_is_valid(
    gateway: GatewayServer, make_token: MakeToken, redis_url: str, keys: Keys
) -> None:
    secret = make_token(Scope.SUBMIT)

    async def revoke() -> None:
        redis = connect(redis_url)
        assert await Tokens(redis, keys).revoke("test")
        await redis.aclose()

    with gateway.client(secret) as http:

        def body() -> Iterator[bytes]:
            yield good(id="before") + b"\n"
            wait_until(lambda: raw_length(redis_url, keys) == 1, "the first command")
            asyncio.run(revoke())
            wait_until(lambda: http.get("/v1/lanes").status_code == 401, "the token's end")
            yield good(id="after") + b"\n"

        headers = {"content-type": "application/x-ndjson"}
        answer = http.post("/v1/commands", content=body(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert "1 command of this request came into the stream" in answer.json()["detail"]
    assert raw_length(redis_url, keys) == 1


def test_who_waits_for_an_end_is_let_go_once_the_token_is_revoked(
    gateway: GatewayServer, make_token: MakeToken, redis_url: str, keys: Keys
) -> None:
    secret = make_token(Scope.SUBMIT, Scope.READ)
    answers: list[httpx.Response] = []

    async def revoke() -> None:
        redis = connect(redis_url)
        assert await Tokens(redis, keys).revoke("test")
        await redis.aclose()

    with gateway.client(secret) as http:
        location = http.post("/v1/commands", content=good(), headers=JSON).headers["location"]

        def wait() -> None:
            with gateway.client(secret) as other:
                answers.append(other.get(location, params={"wait": "60"}))

        waiting = threading.Thread(target=wait)
        waiting.start()
        events = gateway.app.state.gateway.events
        wait_until(lambda: events.watchers == 1, "who waits")
        asyncio.run(revoke())
        begun = time.monotonic()
        waiting.join()
    assert (answers[0].status_code, answers[0].json()["code"]) == (401, "unauthorized")
    assert time.monotonic() - begun < 20
    assert events.watchers == 0


def raw_length(redis_url: str, keys: Keys) -> int:
    with BlockingRedis.from_url(redis_url) as client:
        return int(client.xlen(keys.commands))


def test_a_token_that_is_limited_to_types_sees_what_it_has_sent_before_it_is_read(
    gateway: GatewayServer, make_token: MakeToken
) -> None:
    with gateway.client(make_token(*Scope, types=["get_model"])) as http:
        location = http.post("/v1/commands", content=good(), headers=JSON).headers["location"]
        told = http.get(location).json()
        assert (told.get("state"), told.get("type")) == ("submitted", "get_model")
        assert http.get(location.replace("commands", "backfills")).status_code == 404
    with gateway.client(make_token(*Scope, types=["train"])) as http:
        assert http.get(location).status_code == 404
