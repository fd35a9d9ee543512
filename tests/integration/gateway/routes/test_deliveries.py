"""`/v1/deliveries`: what came in by webhooks, what became of it, and once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.integration.webhooks.posting import (
    GET_MODEL,
    HEAD,
    MODEL,
    SECRET,
    WINDOWED,
    commands_in,
    integrations_of,
    receiver_of,
    signed,
    submitted,
)
from worker.gateway.access.tokens import Scope
from worker.gateway.routes import deliveries
from worker.webhooks.deliveries import Deliveries
from worker.webhooks.keys import delivery_key
from worker.webhooks.records import Delivery, Effects
from worker.webhooks.replays import replay_effects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis as BlockingRedis
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken, ServeGateway
    from worker.queue.ledger.keys import Keys

SECOND = """
[[sources.encord.rules]]
name = "second"
for_each = "body.payload.data_hashes"
[sources.encord.rules.command]
type = "get_model"
data.model_uuid = "item"
"""
FOLLOW = f"""
[sources.follow]
scheme = "events"
[[sources.follow.rules]]
name = "look-again"
on = "train.succeeded"
[sources.follow.rules.command]
type = "get_model"
data.model_uuid = "'{MODEL}'"
"""
AT = "/v1/deliveries"


@pytest.fixture
def gateway(
    serve_gateway: ServeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GatewayServer]:
    """A gateway whose file has two rules for Encord's deliveries."""
    monkeypatch.setenv("ENCORD_WEBHOOK_SECRET", SECRET)
    file = tmp_path / "integrations.toml"
    file.write_text(HEAD + GET_MODEL + SECOND + FOLLOW)
    with serve_gateway(integrations_file=file) as served:
        yield served


class Door:
    """Takes deliveries by the rules of an earlier file."""

    def __init__(self, redis: Redis, keys: Keys, folder: Path) -> None:
        self.redis = redis
        self.keys = keys
        self.folder = folder

    async def take(self, body: bytes, *rules: str) -> None:
        file = integrations_of(self.folder, HEAD, *rules)
        post = signed(body)
        taken = await receiver_of(self.redis, self.keys, file).receive(
            "encord", post.headers, post.body
        )
        assert taken.status == 200

    async def ids(self) -> list[str]:
        return [one["id"] for one in await commands_in(self.redis, self.keys.commands)]


@pytest.fixture
def door(redis: Redis, keys: Keys, tmp_path: Path) -> Door:
    return Door(redis, keys, tmp_path)


def listed(gateway: GatewayServer, **query: Any) -> list[str]:
    """Returns the ids of all deliveries that fit, page by page."""
    seen: list[str] = []
    cursor: str | None = None
    while True:
        more = {"cursor": cursor} if cursor else {}
        page = gateway.http.get(AT, params={**query, **more}).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return seen


async def test_deliveries_are_listed_newest_first_page_by_page(
    gateway: GatewayServer, door: Door, redis: Redis, keys: Keys
) -> None:
    await door.take(submitted("uid-0"), GET_MODEL)
    await door.take(submitted("uid-1", data=[17]), SECOND)
    await door.take(submitted("uid-2"), WINDOWED)
    # As many as come in one moment: Redis orders them by their names.
    for number in range(5):
        delivery = Delivery("other", f"at-{number}", "", 1000, {}, b"{}")
        await Deliveries(redis, keys, retention_seconds=600).record(delivery, Effects())
    names = {f"other/at-{number}": 1000 for number in range(5)}
    await redis.zadd(f"{keys.prefix}deliveries", names)
    everything = ["uid-2", "uid-1", "uid-0", "at-4", "at-3", "at-2", "at-1", "at-0"]
    for limit in (1, 2, 3, 8):
        assert listed(gateway, limit=limit) == everything
    assert listed(gateway, source="encord", limit=2) == everything[:3]
    assert listed(gateway, outcome="invalid") == ["uid-1"]
    assert listed(gateway, source="nobody") == []
    (first, *_) = gateway.http.get(AT).json()["items"]
    assert (first["source"], first["type"]) == ("encord", "task_submitted_event")
    assert (first["outcome"], len(first["windows"])) == ("coalesced", 1)
    assert "headers" not in first
    for wrong in ("x", "1", "1/", "-1/a", f"{'9' * 400}/a", "\u0663/a"):
        answer = gateway.http.get(AT, params={"cursor": wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor"), wrong
    assert gateway.http.get(AT, params={"outcome": "x"}).status_code == 422


async def test_one_is_shown_whole_but_for_what_proves_its_sender(
    gateway: GatewayServer, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    await door.take(submitted("a b/ü"), GET_MODEL)
    at = f"{AT}/encord/{quote('a b/ü', safe='')}"
    answer = gateway.http.get(at)
    shown = answer.json()
    assert (shown["id"], shown["outcome"]) == ("a b/ü", "submitted")
    assert shown["body"]["uid"] == "a b/ü"
    assert shown["headers"]["content-type"] == "application/json"
    assert "very-secret" not in answer.text
    assert "signature" not in answer.text.lower()
    assert (shown["body_cut"], shown["rules"][0]["command_ids"]) == (False, shown["command_ids"])
    monkeypatch.setattr(deliveries, "MAX_SHOWN_BYTES", 8)
    cut = gateway.http.get(at).json()
    assert (cut["body_cut"], cut["body"]) == (True, '{"uid":"')
    assert cut["body_bytes"] == len(submitted("a b/ü", data=["x" * 36], labels=["x" * 36]))
    for missing in ("encord/nobody", "nobody/uid-1"):
        answer = gateway.http.get(f"{AT}/{missing}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_delivery")


async def test_a_replay_makes_what_the_file_says_now_and_nothing_twice(
    gateway: GatewayServer, door: Door
) -> None:
    await door.take(submitted("uid-1", data=[MODEL]), GET_MODEL)
    at = f"{AT}/encord/uid-1/replay"
    tried = gateway.http.post(at, json={"dry_run": True}).json()
    assert (tried["sent"], tried["delivery"]) == (False, "encord/uid-1")
    assert await door.ids() == ["encord/look/uid-1"]
    first = gateway.http.post(at).json()
    assert (first["sent"], first["outcome"]) == (True, "submitted")
    assert [one["id"] for one in first["commands"]] == ["encord/second/uid-1/0"]
    assert gateway.http.post(at).json()["commands"] == []
    assert len(gateway.http.post(at, json={"again": True}).json()["commands"]) == 2
    made = await door.ids()
    assert len(made) == len(set(made)) == 4
    assert gateway.http.post(f"{AT}/encord/nobody/replay").status_code == 404
    assert gateway.http.post(at, json={"again": "yes"}).status_code == 422


async def test_a_delivery_whose_source_is_gone_is_seen_and_not_replayed(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    delivery = Delivery("gone", "uid-1", "", 1000, {}, b"no JSON")
    await Deliveries(redis, keys, retention_seconds=600).record(delivery, Effects())
    assert gateway.http.get(f"{AT}/gone/uid-1").json()["body"] == "no JSON"
    answer = gateway.http.post(f"{AT}/gone/uid-1/replay")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_source")


def test_sources_are_listed_with_their_rules_and_no_secrets(gateway: GatewayServer) -> None:
    answer = gateway.http.get("/v1/webhooks")
    assert answer.json() == {
        "items": [
            {
                "name": "encord",
                "scheme": "encord",
                "address": "/v1/webhooks/encord",
                "rules": ["look", "second"],
                "commands": ["get_model"],
            },
            {
                "name": "follow",
                "scheme": "events",
                "address": None,
                "rules": ["look-again"],
                "commands": ["get_model"],
            },
        ]
    }
    assert SECRET not in answer.text


def test_who_may_see_a_few_types_sees_no_deliveries(
    gateway: GatewayServer, make_token: MakeToken
) -> None:
    one = f"{AT}/encord/uid-1"
    with gateway.client(make_token(Scope.READ, Scope.OPERATE, types=["train"])) as http:
        answers = [http.get(at) for at in (AT, one, "/v1/webhooks")]
        answers.append(http.post(f"{one}/replay"))
    assert {answer.status_code for answer in answers} == {403}
    with gateway.client(make_token(Scope.READ)) as http:
        assert http.post(f"{one}/replay").status_code == 403
        assert http.get(one).status_code == 404


async def test_a_delivery_that_is_gone_by_the_time_it_is_replayed_makes_nothing(
    gateway: GatewayServer, door: Door, raw_redis: BlockingRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await door.take(submitted("uid-1", data=[MODEL]), GET_MODEL)
    made = await door.ids()

    def late(*told: Any, **more: Any) -> Effects:
        # It expires between the look and the replay.
        raw_redis.delete(delivery_key(door.keys, "encord/uid-1"))
        return replay_effects(*told, **more)

    monkeypatch.setattr(deliveries, "replay_effects", late)
    answer = gateway.http.post(f"{AT}/encord/uid-1/replay", json={"again": True})
    assert (answer.status_code, answer.json()["code"]) == (409, "replayed_meanwhile")
    assert await door.ids() == made
    assert gateway.http.get("/v1/actions").json()["items"] == []
