"""Deliveries in: what is recorded and sent, once, and what is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import structlog
from redis.exceptions import RedisError

from tests.integration.ledger_acts import now_ms
from tests.integration.webhooks.posting import (
    FOR_EACH,
    GET_MODEL,
    HEAD,
    MODEL,
    OTHER_PROJECT,
    PROJECT,
    WINDOWED,
    commands_in,
    integrations_of,
    letters_in,
    receiver_of,
    signed,
    submitted,
)
from worker.queue.ledger.connection import connect
from worker.webhooks.deliveries import Deliveries
from worker.webhooks.keys import deliveries_key, delivery_key
from worker.webhooks.receiving import WebhookReceiver
from worker.webhooks.records import Delivery, Effects, RuleResult, delivery_name
from worker.webhooks.windows import WindowCloser

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys


async def test_a_delivery_becomes_one_command_however_often_it_comes(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    receiver = receiver_of(redis, keys, integrations_of(tmp_path, HEAD, GET_MODEL))
    post = signed(submitted("uid-1"))

    answers = [await receiver.receive("encord", post.headers, post.body) for _ in range(3)]

    assert [(one.status, one.outcome, one.delivery_id) for one in answers] == [
        (200, "submitted", "uid-1")
    ] * 3
    assert [one.is_repeat for one in answers] == [False, True, True]
    assert await commands_in(redis, keys.commands) == [
        {"id": "encord/look/uid-1", "type": "get_model", "data": {"model_uuid": MODEL}}
    ]


async def test_what_is_kept_of_a_delivery_shows_no_signature_and_expires(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    receiver = receiver_of(redis, keys, integrations_of(tmp_path, HEAD, GET_MODEL))
    post = signed(submitted("uid-1"))
    await receiver.receive("encord", post.headers, post.body)

    found = await Deliveries(redis, keys, retention_seconds=600).get("encord/uid-1")

    assert found is not None
    assert found.delivery.body == post.body
    assert set(found.delivery.headers) == {"content-type", "x-encord-timestamp"}
    assert found.command_ids == ["encord/look/uid-1"]
    assert 0 < await redis.ttl(delivery_key(keys, "encord/uid-1")) <= 600
    stored = str(await redis.hgetall(delivery_key(keys, "encord/uid-1"))).encode()
    assert b"very-secret" not in stored
    sent = {name.lower(): value for name, value in post.headers}
    assert sent[b"x-encord-signature"] not in stored


async def test_what_is_not_from_its_source_leaves_nothing(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    receiver = receiver_of(redis, keys, integrations_of(tmp_path, HEAD, GET_MODEL))
    body = submitted()
    forged = [
        signed(body, secret="another-secret"),
        signed(body, at=1_700_000_000),
        signed(body),
    ]
    forged[2] = type(forged[2])(forged[2].headers, body[:-1] + b" ")

    answers = [await receiver.receive("encord", one.headers, one.body) for one in forged]
    unknown = await receiver.receive("nobody", forged[0].headers, body)
    newer = signed(submitted(version=2))
    unsupported = await receiver.receive("encord", newer.headers, newer.body)

    assert [(one.status, one.outcome, one.delivery_id) for one in answers] == [(401, "", "")] * 3
    assert unknown.status == 404
    assert unsupported.status == 501
    assert [name async for name in redis.scan_iter(match=f"{keys.prefix}*")] == []


async def test_each_answer_is_told_to_whoever_counts_them(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    told: list[tuple[str, str]] = []
    receiver = WebhookReceiver(
        redis,
        keys,
        integrations_of(tmp_path, HEAD, GET_MODEL).sources,
        retention_seconds=600,
        on_answered=lambda source, outcome: told.append((source, outcome)),
    )
    body = submitted("uid-1")
    posts = [
        signed(body),
        signed(body),
        signed(body, secret="another-secret"),
        signed(submitted(version=2)),
    ]
    for post in posts:
        await receiver.receive("encord", post.headers, post.body)
    await receiver.receive("nobody", posts[0].headers, body)
    assert told == [
        ("encord", "submitted"),
        ("encord", "repeated"),
        ("encord", "refused"),
        ("encord", "unsupported"),
    ]


async def test_whoever_sends_forged_deliveries_does_not_fill_the_log(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    receiver = receiver_of(redis, keys, integrations_of(tmp_path, HEAD, GET_MODEL))
    forged, newer = signed(submitted(), secret="another-secret"), signed(submitted(version=2))

    with structlog.testing.capture_logs() as lines:
        answers = [
            await receiver.receive("encord", one.headers, one.body)
            for one in (forged, newer)
            for _ in range(100)
        ]

    assert [one.status for one in answers] == [401] * 100 + [501] * 100
    events = [line["event"] for line in lines]
    assert 0 < events.count("delivery.refused") < 50
    assert 0 < events.count("delivery.unsupported") < 50


async def test_a_foreign_project_and_an_unknown_event_are_taken_and_make_nothing(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    receiver = receiver_of(redis, keys, integrations_of(tmp_path, HEAD, WINDOWED))
    foreign = signed(submitted("foreign", project=OTHER_PROJECT))
    unknown = signed(submitted("unknown", event_type="moon_event"))

    answers = [
        await receiver.receive("encord", one.headers, one.body) for one in (foreign, unknown)
    ]

    assert [(one.status, one.outcome) for one in answers] == [
        (200, "not_allowed"),
        (200, "no_match"),
    ]
    names = {name async for name in redis.scan_iter(match=f"{keys.prefix}*")}
    assert names == {
        deliveries_key(keys).encode(),
        delivery_key(keys, "encord/foreign").encode(),
        delivery_key(keys, "encord/unknown").encode(),
    }


async def test_elements_become_commands_of_their_own_in_the_stream_of_their_priority(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    receiver = receiver_of(redis, keys, integrations_of(tmp_path, HEAD, FOR_EACH))
    post = signed(submitted("uid-1", data=[MODEL, PROJECT]))

    await receiver.receive("encord", post.headers, post.body)

    made = await commands_in(redis, keys.bulk_commands)
    assert [(one["id"], one["data"]["model_uuid"]) for one in made] == [
        ("encord/each/uid-1/0", MODEL),
        ("encord/each/uid-1/1", PROJECT),
    ]
    assert await commands_in(redis, keys.commands) == []


async def test_a_rule_that_makes_no_valid_command_leaves_a_dead_letter_and_the_others_go_on(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    integrations = integrations_of(tmp_path, HEAD, FOR_EACH, GET_MODEL)
    receiver = receiver_of(redis, keys, integrations)
    post = signed(submitted("uid-1", data=[MODEL, 17]))

    answer = await receiver.receive("encord", post.headers, post.body)

    assert (answer.status, answer.outcome) == (200, "invalid, submitted")
    assert await commands_in(redis, keys.bulk_commands) == []
    assert [one["id"] for one in await commands_in(redis, keys.commands)] == ["encord/look/uid-1"]
    (letter,) = await letters_in(redis, keys)
    assert (letter["id"], letter["type"]) == ("encord/each/uid-1", "get_model")
    assert letter["error"]["code"] == "invalid_command"
    assert "rule each of source encord" in letter["error"]["message"]
    assert "model_uuid" in letter["error"]["message"]
    assert '"uid":"uid-1"' in letter["text"]


async def test_a_genuine_body_that_is_no_json_is_a_dead_letter(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    receiver = receiver_of(redis, keys, integrations_of(tmp_path, HEAD, GET_MODEL))
    post = signed(b"\xff{not json")

    answer = await receiver.receive("encord", post.headers, post.body)
    again = await receiver.receive("encord", post.headers, post.body)

    assert (answer.status, answer.outcome) == (200, "unreadable")
    assert again.is_repeat
    (letter,) = await letters_in(redis, keys)
    assert letter["error"]["code"] == "not_json"


async def test_a_repeat_after_its_retention_gets_the_same_id(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    """So that the ledger, which remembers ids for longer, takes the command once."""
    receiver = receiver_of(redis, keys, integrations_of(tmp_path, HEAD, GET_MODEL))
    post = signed(submitted("uid-1"))
    await receiver.receive("encord", post.headers, post.body)
    await redis.delete(delivery_key(keys, delivery_name("encord", "uid-1")))

    answer = await receiver.receive("encord", post.headers, post.body)

    assert not answer.is_repeat
    first, second = await commands_in(redis, keys.commands)
    assert first == second


async def test_a_repeat_after_its_retention_opens_a_window_of_its_own(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    """One with the id of the first would be a conflict, and lose what else has joined it."""
    receiver = receiver_of(redis, keys, integrations_of(tmp_path, HEAD, WINDOWED))
    post = signed(submitted("uid-1"))
    deliveries = Deliveries(redis, keys, retention_seconds=600)
    ids = set()
    for _ in range(2):
        await receiver.receive("encord", post.headers, post.body)
        found = await deliveries.get("encord/uid-1")
        assert found is not None
        ids |= set(found.window_ids)
        await redis.delete(delivery_key(keys, "encord/uid-1"))
        name = f"{keys.prefix}window-open:encord/train/{PROJECT}"
        assert await redis.delete(name) == 1

    assert len(ids) == 2


async def test_redis_away_is_raised_for_the_door_to_answer(keys: Keys, tmp_path: Path) -> None:
    redis = connect("redis://127.0.0.1:1/0")
    receiver = receiver_of(redis, keys, integrations_of(tmp_path, HEAD, GET_MODEL))
    post = signed(submitted())

    with pytest.raises((RedisError, OSError)):
        await receiver.receive("encord", post.headers, post.body)
    await redis.aclose()


async def test_deliveries_are_listed_newest_first_without_those_that_expired(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    receiver = receiver_of(redis, keys, integrations_of(tmp_path, HEAD, GET_MODEL))
    for number in range(5):
        post = signed(submitted(f"uid-{number}"))
        await receiver.receive("encord", post.headers, post.body)
    await redis.delete(delivery_key(keys, "encord/uid-3"))
    deliveries = Deliveries(redis, keys, retention_seconds=600)

    found = [each async for _, each in deliveries.newest()]

    assert {each.delivery.id for each in found} == {"uid-0", "uid-1", "uid-2", "uid-4"}
    times = [each.delivery.received_at_ms for each in found]
    assert times == sorted(times, reverse=True)
    assert [each.result for each in found[0].outcomes] == [RuleResult.SUBMITTED]
    (one,) = await deliveries.find("uid-1")
    assert (one.delivery.id, bool(one.delivery.body)) == ("uid-1", True)


async def test_however_many_come_in_one_moment_each_is_listed_once(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a page of them, with others before and behind."""
    monkeypatch.setattr("worker.webhooks.deliveries._PAGE", 2)
    deliveries = Deliveries(redis, keys, retention_seconds=600)
    at_ms = {"a": 999, "b": 1000, "c": 1000, "d": 1000, "e": 1000, "f": 1000, "g": 1001}
    for name in at_ms:
        await deliveries.record(Delivery("door", name, "", 1000, {}, b"{}"), Effects())
    names = {f"door/{name}": at for name, at in at_ms.items()}
    await redis.zadd(deliveries_key(keys), names)
    async with asyncio.timeout(30):
        found = [each.delivery.id async for _, each in deliveries.newest()]
    assert found == list("gfedcba")


async def test_a_delivery_is_listed_for_as_long_as_it_is_kept(redis: Redis, keys: Keys) -> None:
    deliveries = Deliveries(redis, keys, retention_seconds=600)
    age_ms = {"gone": 610_000, "old": 500_000}
    for name in age_ms:
        await deliveries.record(Delivery("door", name, "", 1000, {}, b"{}"), Effects())
    now = await now_ms(redis)
    await redis.zadd(deliveries_key(keys), {f"door/{each}": now - age_ms[each] for each in age_ms})
    await deliveries.record(Delivery("door", "new", "", 1000, {}, b"{}"), Effects())
    assert [each.delivery.id async for _, each in deliveries.newest()] == ["new", "old"]


async def test_a_list_of_deliveries_reads_no_bodies(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    deliveries = Deliveries(redis, keys, retention_seconds=600)
    integrations = integrations_of(tmp_path, HEAD, WINDOWED)
    receiver = receiver_of(redis, keys, integrations)
    for number in range(20):
        post = signed(submitted(f"uid-{number}", data=["x" * 200_000]))
        await receiver.receive("encord", post.headers, post.body)
    closer = WindowCloser(redis, keys, integrations.sources)
    async with asyncio.timeout(60):
        while not all([each.window_ends async for _, each in deliveries.newest()]):
            await closer.close_due()
            await asyncio.sleep(0.1)
    before = (await redis.info("stats"))["total_net_output_bytes"]
    found = [each async for _, each in deliveries.newest("encord")]
    assert (await redis.info("stats"))["total_net_output_bytes"] - before < 200_000
    assert len(found) == 20
    assert not any(each.delivery.body or each.delivery.headers for each in found)
    assert all(each.window_ends and each.command_ids for each in found)
    assert [each async for _, each in deliveries.newest("other")] == []
