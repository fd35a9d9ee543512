"""What every request passes before it is routed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from worker.gateway.asgi.middleware import CountedRequests, Hardening, RawPaths

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


def scope(path: str = "/v1/lanes", query: str = "", **told: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [],
        **told,
    }


async def ask(app: ASGIApp, of: dict[str, Any]) -> list[Message]:
    """Returns what an app says."""
    said: list[Message] = []

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        said.append(message)

    await app(of, receive, send)
    return said


class Answers:
    """An app that answers, and keeps what it was asked."""

    def __init__(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        self.asked: list[dict[str, Any]] = []
        self._headers = headers
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        self.asked.append(dict(scope))
        await send({
            "type": "http.response.start",
            "status": self._status,
            "headers": list(self._headers),
        })
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("path", "query", "routed", "rest"),
    [
        ("/v1/commands/a%2Fb", "", "/v1/commands/a%2Fb", ""),
        ("/v1/command", "id=..", "/v1/commands/..", ""),
        ("/v1/command/events", "limit=2&id=a%2Fb&x=", "/v1/commands/a%2Fb/events", "limit=2&x="),
        ("/v1/backfill/results/parts/a", "id=x", "/v1/backfills/x/results/parts/a", ""),
        ("/v1/command", "id=%ff", "/v1/commands/%FF", ""),
        ("/v1/dead-letter/replay", "id=..", "/v1/dead-letters/../replay", ""),
        ("/v1/delivery/encord", "id=.", "/v1/deliveries/encord/.", ""),
        ("/v1/delivery/encord/replay", "id=..", "/v1/deliveries/encord/../replay", ""),
        ("/v1/delivery", "id=..", "/v1/delivery", "id=.."),
        # One that names none, or two, is no such address.
        ("/v1/command", "id=a&id=b", "/v1/command", "id=a&id=b"),
        ("/v1/command", "id=", "/v1/command", "id="),
        ("/v1/command-count", "id=a", "/v1/command-count", "id=a"),
        ("/v1/commands", "id=a", "/v1/commands", "id=a"),
    ],
)
async def test_what_is_routed_is_the_path_as_it_was_sent_or_what_its_query_names(
    path: str, query: str, routed: str, rest: str
) -> None:
    app = Answers()
    await ask(RawPaths(app), scope("decoded", query, raw_path=path.encode()))
    (asked,) = app.asked
    assert (asked["path"], asked["query_string"].decode()) == (routed, rest)


async def test_what_is_no_request_is_passed_on_as_it_is() -> None:
    counted: list[tuple[str, ...]] = []
    app = Answers()
    lifespan = {"type": "lifespan"}
    front = CountedRequests(Hardening(RawPaths(app)), lambda *told: counted.append(told), {b"/x"})
    said = await ask(front, lifespan)
    assert (app.asked, counted) == ([lifespan], [])
    assert said[0]["headers"] == []


@pytest.mark.parametrize(
    "name", ["host", "authorization", "content-type", "idempotency-key", "last-event-id"]
)
async def test_a_header_that_two_may_read_differently_stands_there_once(name: str) -> None:
    app = Answers()
    once = (name.encode(), b"x")
    await ask(Hardening(app), scope(headers=[once, (b"accept", b"a"), (b"accept", b"b")]))
    assert len(app.asked) == 1
    start, body = await ask(Hardening(app), scope(headers=[once, (b"a", b"b"), once]))
    assert len(app.asked) == 1
    told = orjson.loads(body["body"])
    assert (start["status"], told["code"]) == (400, "doubled_header")
    assert name in told["detail"]


async def test_each_answer_tells_browsers_to_be_careful_and_what_it_says_itself_counts() -> None:
    rates = {"ratelimit": '"token";r=1;t=1'}
    app = Answers((b"cache-control", b"no-cache"), (b"x-own", b"1"))
    start, _ = await ask(Hardening(app), scope(state={"rate_headers": rates}))
    found = [(name.decode(), value.decode()) for name, value in start["headers"]]
    assert len(dict(found)) == len(found)
    assert dict(found) == {
        "cache-control": "no-cache",
        "x-own": "1",
        "content-security-policy": ("default-src 'none'; style-src 'self'; frame-ancestors 'none'"),
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        **rates,
    }


class Routed(Answers):
    """An app with one route, as FastAPI tells it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/v1/commands/"):
            scope["route"] = SimpleNamespace(path="/v1/commands/{command_id}")
        await super().__call__(scope, receive, send)


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("GET", "/v1/commands/one", ("GET", "/v1/commands/{command_id}", "201")),
        ("POST", "/v1/commands", ("POST", "/v1/commands", "201")),
        ("GET", "/anything/else", ("GET", "other", "201")),
        ("BREW", "/anything/else", ("other", "other", "201")),
    ],
)
async def test_a_request_is_counted_by_what_nobody_can_make_many_of(
    method: str, path: str, told: tuple[str, ...]
) -> None:
    counted: list[tuple[str, ...]] = []
    front = CountedRequests(
        Routed(status=201), lambda *each: counted.append(each), {b"/v1/commands"}
    )
    await ask(front, scope(path, method=method))
    assert counted == [told]


async def test_a_request_without_an_answer_is_counted_too() -> None:
    counted: list[tuple[str, ...]] = []

    async def gone(*_: object) -> None:
        raise ConnectionError

    front = CountedRequests(gone, lambda *each: counted.append(each), ())
    with pytest.raises(ConnectionError):
        await ask(front, scope())
    assert counted == [("GET", "other", "none")]
