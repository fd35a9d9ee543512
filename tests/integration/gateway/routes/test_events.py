"""`GET /v1/events` over HTTP: as they come, from where one left off, and to whom."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.console import wait_until
from worker.gateway.access.tokens import Scope, Tokens
from worker.queue.ledger.connection import connect
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    import httpx
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import ServeGateway
    from worker.queue.ledger.keys import Keys


def event(number: int, command_type: str = "train", **attributes: Any) -> bytes:
    return orjson.dumps({
        "specversion": "1.0",
        "id": f"{number}/succeeded",
        "source": "trainmaster",
        "type": f"{command_type}.succeeded",
        "subject": f"command {number}",
        "time": "2026-11-27T06:00:00Z",
        "data": {"result": None},
        **attributes,
    })


def told(response: httpx.Response, count: int) -> list[dict[str, str]]:
    """The first messages of a stream, each by the names of its lines."""
    found: list[dict[str, str]] = []
    message: dict[str, str] = {}
    for line in response.iter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            message[name] = value
        elif "data" in message:
            found.append(message)
            message = {}
            if len(found) == count:
                break
        else:
            message = {}
    return found


async def test_events_are_told_from_where_one_left_off_and_as_they_come(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    for number in range(3):
        await redis.xadd(keys.events, {"event": event(number)})
    entries = [entry.decode() for entry, _ in await entries_between(redis, keys.events, "-", "+")]
    headers = {"Last-Event-ID": entries[0]}
    with gateway.http.stream("GET", "/v1/events", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["last-event-id"] == entries[0]
        messages = told(response, 2)
    assert [message["id"] for message in messages] == entries[1:]
    assert messages[0]["event"] == "train.succeeded"
    assert orjson.loads(messages[0]["data"]) == orjson.loads(event(1))

    with gateway.http.stream("GET", "/v1/events") as response:
        assert response.headers["last-event-id"] == entries[-1]

    heard: list[dict[str, str]] = []

    def watch() -> None:
        with gateway.http.stream("GET", "/v1/events", params={"type": "attach.*"}) as response:
            heard.extend(told(response, 1))

    watcher = threading.Thread(target=watch)
    watcher.start()
    numbers = iter(range(100, 10_000))

    def add() -> bool:
        # It begins with what comes from now on, whenever that is.
        number = next(numbers)
        asyncio.run(publish(gateway, event(number), event(number, "attach")))
        return bool(heard)

    await asyncio.to_thread(wait_until, add, "an event")
    watcher.join(60)
    assert [message["event"] for message in heard] == ["attach.succeeded"]


async def publish(gateway: GatewayServer, *events: bytes) -> None:
    settings = gateway.settings
    redis = connect(settings.redis_url.get_secret_value())
    for each in events:
        await redis.xadd(f"{{{settings.namespace}}}:events", {"event": each})
    await redis.aclose()


@pytest.fixture
def limited(redis_url: str, keys: Keys) -> str:
    """The secret of a token that may read about `attach` alone."""

    async def create() -> str:
        redis = connect(redis_url)
        _, secret = await Tokens(redis, keys).create("reader", [Scope.READ], ["attach"])
        await redis.aclose()
        return secret

    return asyncio.run(create())


def test_a_token_that_is_limited_to_types_hears_of_no_others(
    gateway: GatewayServer, limited: str
) -> None:
    asyncio.run(publish(gateway, event(1), event(2, "attach"), event(3, "attach")))
    with (
        gateway.client(limited) as http,
        http.stream("GET", "/v1/events", headers={"Last-Event-ID": "0-0"}) as response,
    ):
        messages = told(response, 2)
    assert [message["event"] for message in messages] == ["attach.succeeded"] * 2


async def test_who_watches_misses_nothing_from_the_moment_they_are_told_so(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    for number in range(1, 20):
        with gateway.http.stream("GET", "/v1/events") as response:
            # Where it begins is told too, for who loses the connection before the first event.
            newest = (await redis.xadd(keys.events, {"event": event(number)})).decode()  # type: ignore[union-attr] # bytes here
            (message,) = told(response, 1)
        assert message["id"] == newest
        with gateway.http.stream("GET", "/v1/events") as response:
            lines = response.iter_lines()
            assert f"id: {newest}" in (next(lines), next(lines), next(lines))


def test_a_stream_ends_once_its_token_is_revoked(
    gateway: GatewayServer, limited: str, redis_url: str, keys: Keys
) -> None:
    async def revoke() -> None:
        redis = connect(redis_url)
        assert await Tokens(redis, keys).revoke("reader")
        await redis.aclose()

    heard: list[bytes] = []
    ended = threading.Event()

    def watch() -> None:
        with gateway.client(limited) as http, http.stream("GET", "/v1/events") as response:
            heard.extend(response.iter_raw())
        ended.set()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    wait_until(lambda: bool(heard), "a watcher")
    asyncio.run(revoke())
    with gateway.client(limited) as http:
        wait_until(lambda: http.get("/v1/lanes").status_code == 401, "the token's end")
    asyncio.run(publish(gateway, event(1, "attach", subject="hidden")))
    watcher.join(60)
    assert ended.is_set()
    assert b"hidden" not in b"".join(heard)


def test_a_gateway_that_stops_ends_the_streams_of_those_who_watch(
    serve_gateway: ServeGateway,
) -> None:
    ended = threading.Event()
    with serve_gateway() as gateway, gateway.client() as http:

        def watch() -> None:
            # A connection that is broken off raises.
            with http.stream("GET", "/v1/events") as response:
                response.read()
            ended.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        wait_until(lambda: gateway.app.state.gateway.events.watchers == 1, "a watcher")
        gateway.stop()
        watcher.join(60)
        assert ended.is_set()


@pytest.mark.parametrize("last", ["x", "1", "-1-0", f"{2**64}-0"])
def test_a_last_event_id_that_is_none_is_a_problem(gateway: GatewayServer, last: str) -> None:
    answer = gateway.http.get("/v1/events", headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameters")


@pytest.mark.parametrize(
    "query", ["types=train.*", "correlationId=night", "command_id=a", "type=failed", "type=train"]
)
def test_a_filter_that_would_show_all_or_nothing_is_a_problem(
    gateway: GatewayServer, query: str
) -> None:
    """A stream of all events is no answer to who asks for some, and one of none never ends."""
    with gateway.http.stream("GET", f"/v1/events?{query}") as answer:
        answer.read()
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameters")
    assert query.partition("=")[0] in answer.json()["detail"]
