"""`GET /v1/commands/{id}/events`: what became of one command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tests.console import wait_until
from tests.integration.intake_acts import good, intake_of, running, until
from tests.stream_events import event_text
from worker.gateway.access.tokens import Scope
from worker.gateway.routes import timelines

if TYPE_CHECKING:
    import pytest
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken, ServeGateway
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger


async def add(redis: Redis, keys: Keys, command_id: str, event_type: str, **told: Any) -> str:
    text = event_text(command_id, event_type, **told)
    return cast("bytes", await redis.xadd(keys.events, {"event": text})).decode()


def types(gateway: GatewayServer, command_id: str) -> list[str]:
    answer = gateway.http.get(f"/v1/commands/{command_id}/events")
    return [each["type"] for each in answer.json().get("items", ())]


async def test_the_events_of_a_command_are_shown_as_they_stand(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    await add(redis, keys, "a/1", "train.accepted", correlationid="c")
    await add(redis, keys, "b", "train.accepted")
    await add(redis, keys, "a/1", "train.retrying")
    await add(redis, keys, "a/1", "train.retrying")
    last = await add(redis, keys, "a/1", "train.succeeded", data={"result": {"n": 1.50}})
    wait_until(lambda: "train.succeeded" in types(gateway, "a%2F1"), "the model")
    answer = gateway.http.get("/v1/commands/a%2F1/events")
    assert answer.headers["last-event-id"] == last
    told = answer.json()
    # One that stands there twice is shown once.
    assert [each["type"] for each in told["items"]] == [
        "train.accepted",
        "train.retrying",
        "train.succeeded",
    ]
    assert {each["subject"] for each in told["items"]} == {"a/1"}
    assert told["items"][0]["correlationid"] == "c"
    assert told["items"][-1]["data"] == {"result": {"n": 1.5}}
    assert told["complete"] is True
    assert told["last_event_id"] == last
    assert types(gateway, "b") == ["train.accepted"]


async def test_events_that_are_no_longer_kept_are_missed(
    gateway: GatewayServer, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(redis, keys, "a", "train.accepted")
    second = await add(redis, keys, "a", "train.retrying", origin="a")
    await add(redis, keys, "a", "train.failed")
    await add(redis, keys, "late", "train.retrying")
    wait_until(lambda: types(gateway, "late") != [], "the model")
    assert gateway.http.get("/v1/commands/a/events").json()["complete"] is True
    # Its acceptance had been trimmed before the model was made.
    assert gateway.http.get("/v1/commands/late/events").json()["complete"] is False
    with monkeypatch.context() as patch:
        patch.setattr(timelines, "MOST_EVENTS", 2)
        told = gateway.http.get("/v1/commands/a/events").json()
        assert [each["type"] for each in told["items"]] == ["train.retrying", "train.failed"]
        assert told["complete"] is False
    await redis.xdel(keys.events, second)
    told = gateway.http.get("/v1/commands/a/events").json()
    assert [each["type"] for each in told["items"]] == ["train.accepted", "train.failed"]
    assert told["complete"] is False
    await redis.delete(keys.events)
    assert types(gateway, "a") == []


async def test_a_command_that_no_event_tells_of_yet_has_none(
    serve_gateway: ServeGateway,
    redis: Redis,
    keys: Keys,
    ledger: Ledger,
    make_token: MakeToken,
) -> None:
    await redis.xadd(keys.commands, {"command": good(id="read")})

    async def is_read() -> bool:
        return await redis.xlen(keys.events) > 0

    async with running(intake_of(redis, ledger).read):
        await until(is_read)
    # So the ledger has it, and the lists will not.
    await redis.delete(keys.events)
    none = {"items": [], "complete": False, "last_event_id": None}
    with serve_gateway() as gateway:
        wait_until(lambda: gateway.http.get("/v1/commands").status_code == 200, "the model")
        answer = gateway.http.get("/v1/commands/sent/events")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_id")
        sent = {"id": "sent", "type": "list_models", "data": {}}
        assert gateway.http.post("/v1/commands", json=sent).status_code == 202
        secret = make_token(Scope.READ, types=["train"])
        every = make_token(Scope.READ)
        with gateway.client(secret) as limited, gateway.client(every) as http:
            for command_id in ("read", "sent"):
                assert http.get(f"/v1/commands/{command_id}/events").json() == none
                assert limited.get(f"/v1/commands/{command_id}/events").status_code == 404
            assert http.get("/v1/commands/none/events").status_code == 404


async def test_who_may_see_a_few_types_sees_their_events_alone(
    gateway: GatewayServer, redis: Redis, keys: Keys, make_token: MakeToken
) -> None:
    await add(redis, keys, "a", "train.accepted")
    await add(redis, keys, "b", "attach.accepted")
    wait_until(lambda: types(gateway, "b") != [], "the model")
    with gateway.client(make_token(Scope.READ, types=["train"])) as http:
        assert len(http.get("/v1/commands/a/events").json()["items"]) == 1
        answer = http.get("/v1/commands/b/events")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_id")
    with gateway.client(make_token(Scope.SUBMIT)) as http:
        assert http.get("/v1/commands/a/events").status_code == 403


async def test_the_events_of_a_command_are_all_shown_however_many_are_asked_for_at_a_time(
    gateway: GatewayServer, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timelines, "_AT_A_TIME", 2)
    await add(redis, keys, "a", "train.accepted")
    for number in range(3):
        await add(redis, keys, "a", "train.retrying", origin=f"a-{number}")
    await add(redis, keys, "b", "train.accepted")
    wait_until(lambda: types(gateway, "b") != [], "the model")
    told = gateway.http.get("/v1/commands/a/events").json()
    ids = [each["id"] for each in told["items"]]
    assert ids == ["a/accepted", *(f"a-{number}/retrying" for number in range(3))]
    assert told["complete"] is True
