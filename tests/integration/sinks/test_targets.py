"""Another Redis and brokers as destinations."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from kombu import Connection, Exchange, Queue

from tests.integration.integrations.published import event_text, publish
from tests.integration.sinks.endpoints import sink_config
from tests.integration.sinks.serving import serving
from trainmaster_client.events import event_of
from worker.embedded import EmbeddedRedis
from worker.errors import SettingError
from worker.queue.ledger.connection import connect
from worker.queue.ledger.streams import entries_between
from worker.sinks import redis_target
from worker.sinks.broker import Broker
from worker.sinks.destinations import Answer, DeliveryError
from worker.sinks.redis_target import RedisTarget, sent_key
from worker.sinks.service import check_sinks, create_destination

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from trainmaster_client import Event
    from worker.queue.ledger.keys import Keys
    from worker.sinks.destinations import Destination


def an_event(number: int = 1) -> tuple[Event, bytes]:
    text = event_text("a", number)
    event = event_of(b"1-0", {b"event": text})
    assert event is not None
    return event, text


async def send(destination: Destination, number: int = 1) -> Answer:
    return await destination.send(*an_event(number))


async def test_events_are_copied_to_a_stream_of_another_redis_once_each(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    with EmbeddedRedis(tmp_path / "other") as other:
        config = sink_config("copy", tmp_path, redis={"url": other.url, "stream": "copied"})
        async with serving(redis, keys, config):
            await publish(redis, keys, "a", range(5))
            target = connect(other.url)
            async with asyncio.timeout(60):
                while await target.xlen("copied") < 5:
                    await asyncio.sleep(0.01)
            # Again, as after a crash between the delivery and its record.
            destination = create_destination("copy", config, redis)
            assert (await send(destination, 4)).told == "was there already"
            await destination.close()
            found = await entries_between(target, "copied", "-", "+")
            await target.aclose()
    numbers = [orjson.loads(fields[b"event"])["data"]["number"] for _, fields in found]
    assert numbers == [0, 1, 2, 3, 4]


async def test_a_list_of_our_own_redis_keeps_no_more_than_it_is_to(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    name = f"list-{keys.namespace}"
    config = sink_config("copy", tmp_path, redis={"list": name, "maxlen": 3})
    assert config.redis is not None
    target = RedisTarget(config.redis, redis)
    for number in (0, 1, 1, 2, 3, 4, 0):
        await send(target, number)
    kept = await redis.lrange(name, 0, -1)
    assert [orjson.loads(each)["data"]["number"] for each in kept] == [2, 3, 4]
    assert 0 < await redis.ttl(sent_key(name)) <= 7 * 86_400


@pytest.mark.parametrize("kind", ["list", "stream"])
async def test_of_what_was_added_the_last_ids_are_remembered(
    redis: Redis, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(redis_target, "REMEMBERED_EVENTS", 3)
    name = f"{kind}-{keys.namespace}"
    config = sink_config("copy", tmp_path, redis={kind: name})
    target = create_destination("copy", config, redis)
    for number in range(5):
        assert (await send(target, number)).told == "added"
    assert await redis.zcard(sent_key(name)) == 3
    assert 0 < await redis.ttl(sent_key(name)) <= 7 * 86_400, "or they would stay for ever"
    assert (await send(target, 2)).told == "was there already"
    assert (await send(target, 1)).told == "added"


def test_the_ids_of_a_target_lie_in_its_slot_of_a_cluster() -> None:
    assert sent_key("plain") == "{plain}:sent"
    assert sent_key("{tag}:key") == "{tag}:key:sent"


async def test_a_target_that_is_away_or_of_another_type_is_told_without_its_password(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    away = sink_config(
        "copy", tmp_path, redis={"url": "redis://:hidden@127.0.0.1:9/0", "stream": "copied"}
    )
    destination = create_destination("copy", away, redis)
    with pytest.raises(DeliveryError, match="Redis: ") as caught:
        await send(destination)
    assert "hidden" not in str(caught.value)
    await destination.close()
    name = f"string-{keys.namespace}"
    await redis.set(name, "no stream")
    config = sink_config("copy", tmp_path, redis={"stream": name})
    with pytest.raises(DeliveryError, match="WRONGTYPE"):
        await send(create_destination("copy", config, redis))


def test_no_sink_writes_to_our_own_keys(keys: Keys, tmp_path: Path) -> None:
    """An event in the stream of commands would come back as a command."""
    config = sink_config("copy", tmp_path, redis={"stream": keys.commands})
    with pytest.raises(SettingError, match=r"\[sinks.copy.redis\].*our own keys"):
        check_sinks(keys, {"copy": config})


async def test_a_brokers_queue_gets_what_its_routing_key_fits(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    """By kombu's own transport for Redis; the same code speaks to RabbitMQ."""
    with EmbeddedRedis(tmp_path / "broker") as broker, Connection(broker.url) as connection:
        exchange = Exchange("events", type="topic", durable=True)
        queue = Queue("retries", exchange, routing_key="*.retrying")(connection)
        queue.declare()
        config = sink_config(
            "bus", tmp_path, broker={"url": broker.url, "exchange": "events", "routing_key": "type"}
        )
        async with serving(redis, keys, config):
            await publish(redis, keys, "a", range(5))
            messages: list[Any] = []
            async with asyncio.timeout(60):
                while len(messages) < 5:
                    message = await asyncio.to_thread(queue.get, no_ack=True)
                    if message is None:
                        await asyncio.sleep(0.02)
                    else:
                        messages.append(message)
    assert [orjson.loads(each.body)["data"]["number"] for each in messages] == [0, 1, 2, 3, 4]
    assert messages[0].properties["message_id"] == "a/retrying/0"
    assert messages[0].properties["type"] == "train.retrying"
    assert messages[0].properties["delivery_mode"] == 2, "it is to outlive the broker"
    assert messages[0].content_type.startswith("application/cloudevents+json")


@pytest.mark.parametrize("routing_key", ["data", "data.nothing", "length(data.number)"])
async def test_a_routing_key_that_is_no_text_is_a_failure_that_says_so(
    tmp_path: Path, routing_key: str
) -> None:
    config = sink_config("bus", tmp_path, broker={"url": "memory://", "routing_key": routing_key})
    assert config.broker is not None
    with pytest.raises(DeliveryError, match="routing_key"):
        await send(Broker("bus", config.broker))


async def test_a_broker_that_is_away_is_told_without_its_password(tmp_path: Path) -> None:
    config = sink_config("bus", tmp_path, broker={"url": "redis://:hidden@127.0.0.1:9/0"})
    assert config.broker is not None
    destination = Broker("bus", config.broker)
    with pytest.raises(DeliveryError) as caught:
        await send(destination)
    assert "hidden" not in str(caught.value)
    await destination.close()


@pytest.mark.skipif(
    shutil.which("rabbitmq-server") is None,
    reason="no rabbitmq-server here: apt install rabbitmq-server, and set RABBITMQ_URL",
)
async def test_rabbitmq_confirms_what_it_gets(tmp_path: Path) -> None:
    import os  # noqa: PLC0415 - only where there is one

    url = os.environ.get("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
    config = sink_config("bus", tmp_path, broker={"url": url, "exchange": "trainmaster-test"})
    assert config.broker is not None
    destination = Broker("bus", config.broker)
    assert (await send(destination)).told == "published"
    await destination.close()
