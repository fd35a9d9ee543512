"""Deliveries over HTTP, to the command and what follows on its end."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.integration.intake_acts import until
from tests.integration.webhooks.posting import (
    GET_MODEL,
    HEAD,
    MODEL,
    SECRET,
    WINDOWED,
    commands_in,
    signed,
    submitted,
)
from worker.gateway.requests.bodies import BodyRoom

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import ServeGateway
    from tests.integration.webhooks.posting import Post
    from worker.queue.ledger.keys import Keys

FOLLOW = f"""
[sources.follow]
scheme = "events"
[[sources.follow.rules]]
name = "look-again"
on = "train.succeeded"
[sources.follow.rules.command]
type = "get_training_data"
data.model_uuid = "'{MODEL}'"
data.training_uuid = "body.data.result.training_uuid"
"""


@pytest.fixture
def door(
    serve_gateway: ServeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GatewayServer]:
    """A gateway that takes Encord's deliveries and follows on its own events."""
    monkeypatch.setenv("ENCORD_WEBHOOK_SECRET", SECRET)
    file = tmp_path / "integrations.toml"
    file.write_text(HEAD + GET_MODEL + WINDOWED + FOLLOW)
    with serve_gateway(integrations_file=file) as gateway:
        yield gateway


def post(gateway: GatewayServer, delivery: Post, source: str = "encord") -> tuple[int, bytes]:
    answer = gateway.http.post(
        f"/v1/webhooks/{source}", content=delivery.body, headers=delivery.headers
    )
    return answer.status_code, answer.content


async def test_a_delivery_is_taken_once_and_its_window_becomes_one_training(
    door: GatewayServer, redis: Redis, keys: Keys
) -> None:
    first = signed(submitted("uid-1", labels=["11111111-1111-4111-8111-111111111111"]))
    second = signed(submitted("uid-2", labels=["22222222-2222-4222-8222-222222222222"]))
    told = [post(door, each) for each in (first, second, first)]
    assert [status for status, _ in told] == [200, 200, 200]
    assert [orjson.loads(body)["repeat"] for _, body in told] == [False, False, True]

    async def trained() -> bool:
        return any(one["type"] == "train" for one in await commands_in(redis, keys.commands))

    await until(trained)
    assert post(door, second)[0] == 200
    commands = await commands_in(redis, keys.commands)
    assert sorted(one["type"] for one in commands) == ["get_model", "get_model", "train"]
    (training,) = [one for one in commands if one["type"] == "train"]
    assert training["data"]["labels_uuids"] == [
        "11111111-1111-4111-8111-111111111111",
        "22222222-2222-4222-8222-222222222222",
    ]


async def test_what_can_not_be_shown_to_be_from_a_source_is_refused_in_one_way(
    door: GatewayServer, redis: Redis, keys: Keys
) -> None:
    forged = signed(submitted(), secret="another-secret")
    stale = signed(submitted(), at=1_700_000_000)
    changed = signed(submitted())
    answers = [
        post(door, forged),
        post(door, stale),
        post(door, type(changed)(changed.headers, changed.body.replace(b"encord", b"Encord", 1))),
    ]
    assert {status for status, _ in answers} == {401}
    assert len({body for _, body in answers}) == 1
    assert post(door, signed(submitted()), "nobody")[0] == 404
    assert post(door, signed(submitted(version=2)))[0] == 501
    assert not await commands_in(redis, keys.commands)


@pytest.mark.usefixtures("door")
async def test_a_rule_on_our_own_events_makes_the_command_that_follows_once(
    redis: Redis, keys: Keys
) -> None:
    training = "55555555-5555-4555-8555-555555555555"
    event = orjson.dumps({
        "specversion": "1.0",
        "id": "entry/succeeded",
        "source": "trainmaster",
        "type": "train.succeeded",
        "subject": "the-training",
        "time": "2026-11-27T06:00:00Z",
        "data": {"result": {"training_uuid": training, "iteration": None}},
    })

    async def followed() -> bool:
        # A name that is new begins with what comes from then on, whenever that is.
        await redis.xadd(keys.events, {"event": event})
        return bool(await commands_in(redis, keys.commands))

    await until(followed)
    for _ in range(5):
        await redis.xadd(keys.events, {"event": event})
    marker = event.replace(b"entry/succeeded", b"other/succeeded")
    await redis.xadd(keys.events, {"event": marker})

    async def both() -> bool:
        return len(await commands_in(redis, keys.commands)) >= 2

    await until(both)
    commands = await commands_in(redis, keys.commands)
    assert len(commands) == 2
    assert commands[0]["data"]["training_uuid"] == training
    assert commands[0]["reactiondepth"] == 1
    assert commands[0]["causationid"] == "the-training"


def test_who_has_proved_nothing_takes_no_room_without_end(door: GatewayServer) -> None:
    host, port = door.url.removeprefix("http://").split(":")
    door.app.state.gateway.body_room = BodyRoom(100_000)
    head = b"POST /v1/webhooks/%b HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as other:
        # One for a source that is not there is answered before its body has come.
        other.sendall(head % b"nobody")
        assert other.recv(65_536).startswith(b"HTTP/1.1 404")
    with socket.create_connection((host, int(port)), timeout=60) as other:
        other.sendall(head % b"encord" + b"x" * 150_000)
        assert other.recv(65_536).startswith(b"HTTP/1.1 503")
    delivery = signed(b"{}")
    assert post(door, delivery)[0] in {200, 501}


def test_a_delivery_takes_its_room_until_it_is_answered(
    door: GatewayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made of a body takes several times its memory."""
    room = BodyRoom(100_000)
    gateway = door.app.state.gateway
    gateway.body_room = room
    receive, left = gateway.webhooks.receive, list[int]()

    async def look(*told: Any) -> Any:
        left.append(room._left)
        return await receive(*told)

    monkeypatch.setattr(gateway.webhooks, "receive", look)
    delivery = signed(b"{}")
    post(door, delivery)
    assert left == [100_000 - len(delivery.body)]
    assert room._left == 100_000


def test_a_delivery_has_a_time_for_all_of_it(
    serve_gateway: ServeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCORD_WEBHOOK_SECRET", SECRET)
    file = tmp_path / "integrations.toml"
    file.write_text(HEAD + GET_MODEL)
    with serve_gateway(integrations_file=file, gateway_body_seconds=1.0) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=0.2) as slow:
            slow.sendall(
                b"POST /v1/webhooks/encord HTTP/1.1\r\nhost: x\r\ncontent-length: 10000\r\n\r\n"
            )
            answer = b""
            for _ in range(300):
                # Never a pause of a second, and never an end.
                slow.sendall(b"x")
                try:
                    answer = slow.recv(65_536)
                except TimeoutError:
                    continue
                break
        assert answer.startswith(b"HTTP/1.1 408")
