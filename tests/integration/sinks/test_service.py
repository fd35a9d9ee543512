"""Sinks with real endpoints: at least once, in order, through every refusal and restart."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import standardwebhooks
import structlog
import svix

from schemas.enums import EventState
from tests.integration.integrations.published import (
    event_text,
    following,
    killed,
    publish,
    wait_until,
)
from tests.integration.sinks.endpoints import (
    OLD_SECRET,
    SECRET,
    Endpoint,
    never,
    sink_config,
    webhook,
)
from tests.integration.sinks.serving import QUICK, leads, running, serving
from worker.integrations.event_follower import EventFollower
from worker.integrations.follower_store import order_of, rewind
from worker.integrations.keys import follower_key
from worker.queue.ledger.outage import Outage
from worker.queue.ledger.streams import entries_between
from worker.sinks import operations
from worker.sinks.deferred import SinkStore
from worker.sinks.delivery_policy import DeliveryPolicy
from worker.sinks.destinations import Answer, DeliveryError
from worker.sinks.keys import follower_name, unsent_key
from worker.sinks.operations import SinkCondition
from worker.sinks.routes import Route
from worker.sinks.sender import Sender
from worker.sinks.service import create_destination
from worker.sinks.webhook import Webhook

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from trainmaster_client import Event
    from worker.queue.ledger.keys import Keys


async def test_what_is_sent_is_verified_by_the_libraries_of_receivers(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    """Also while the secret is rotated, by whoever knows either of the two."""
    both = [{"env": "SECRET"}, {"env": "OLD_SECRET"}]
    async with Endpoint().serving() as endpoint:
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url, secrets=both))
        async with serving(redis, keys, config):
            await publish(redis, keys, "a", range(2), data={"number": 0, "text": "Grüße ☃"})
            await wait_until(lambda: len(endpoint.received) == 2)
    headers, body = endpoint.received[0]
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert body == event_text("a", 0, data={"number": 0, "text": "Grüße ☃"})
    assert headers["webhook-id"] == "a/retrying/0"
    for secret in (SECRET, OLD_SECRET):
        assert standardwebhooks.Webhook(secret).verify(body.decode(), headers)
        # It raises where it does not.
        svix.Webhook(secret).verify(body, headers)


async def test_a_route_takes_what_fits_its_types_reply_names_and_condition(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    async with Endpoint().serving() as endpoint:
        config = sink_config(
            "ops",
            tmp_path,
            types=["*.failed", "train.succeeded"],
            reply_to=["billing"],
            when="data.number > `0`",
            webhook=webhook(endpoint.url),
        )
        failed = EventState.FAILED
        async with serving(redis, keys, config):
            for number in range(2):
                await publish(
                    redis, keys, "yes", range(number, number + 1), state=failed, replyto="billing"
                )
            await publish(redis, keys, "state", range(1, 2), replyto="billing")
            await publish(redis, keys, "name", range(1, 2), state=failed, replyto="other")
            await publish(redis, keys, "none", range(1, 2), state=failed)
            await publish(
                redis,
                keys,
                "odd",
                range(1, 2),
                state=failed,
                replyto="billing",
                data={"number": "x"},
            )
            await publish(redis, keys, "last", range(7, 8), state=failed, replyto="billing")
            await wait_until(lambda: endpoint.numbers("last"))
    assert [(each["subject"], each["data"]["number"]) for each in endpoint.events()] == [
        ("yes", 1),
        ("last", 7),
    ]


async def test_what_is_refused_is_sent_again_and_its_command_stays_in_order(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    async with Endpoint(answers=[500, 404, 301]).serving() as endpoint:
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
        async with serving(redis, keys, config):
            await publish(redis, keys, "a", range(5))
            await publish(redis, keys, "b", range(5))
            await wait_until(lambda: len(endpoint.events()) == 10)
            status = await operations.sink_status(redis, keys, config)
    assert endpoint.numbers("a") == endpoint.numbers("b") == list(range(5))
    assert status.unsent == 0


async def test_another_commands_events_go_out_while_one_waits(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    endpoint = Endpoint()

    async def refuse_a(request: Any) -> Any:
        body = await request.read()
        answer = Endpoint(always=400 if b'"subject":"a"' in body else 200)
        answer.received = endpoint.received
        return await answer.handle(request)

    endpoint.answer = refuse_a
    async with endpoint.serving():
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
        async with serving(redis, keys, config):
            await publish(redis, keys, "a", range(3))
            await publish(redis, keys, "b", range(30))
            await wait_until(lambda: len(endpoint.numbers("b")) == 30)
            status = await operations.sink_status(redis, keys, config)
            assert status.waiting == 3
            endpoint.answer = None
            await wait_until(lambda: len(endpoint.numbers("a")) == 3)
    assert endpoint.numbers("a") == [0, 1, 2]


async def test_a_dead_endpoint_holds_up_nobody_else_and_gets_everything_once_it_lives(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    dead = Endpoint()
    async with dead.serving():
        pass
    async with Endpoint().serving() as good:
        configs = (
            sink_config("good", tmp_path, webhook=webhook(good.url)),
            sink_config("dead", tmp_path, webhook=webhook(dead.url)),
        )
        async with serving(redis, keys, *configs):
            for subject in "abcdefghijklmnopqrst":
                await publish(redis, keys, subject, range(3))
            await wait_until(lambda: len(good.events()) == 60)
            async with asyncio.timeout(60):
                while (status := await operations.sink_status(redis, keys, configs[1])).failed < 6:
                    await asyncio.sleep(0.05)
            assert status.state is SinkCondition.FAILING
            assert "no connection" in status.last_error
            # Of the commands that its slots had in hand when it was the fifth to fail, which are
            # twelve at most; and no copy of all the rest.
            assert status.waiting <= 12 * 3
            async with dead.serving():
                await wait_until(lambda: len(dead.events()) == 60)
    for subject in "abcdefghijklmnopqrst":
        assert good.numbers(subject) == dead.numbers(subject) == [0, 1, 2]


async def test_what_waits_outlives_the_process(redis: Redis, keys: Keys, tmp_path: Path) -> None:
    """A killed one too, and the order of a command holds across it."""
    endpoint = Endpoint(always=503)
    async with endpoint.serving():
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
        sender = Sender(
            "ops",
            create_destination("ops", config, redis),
            SinkStore(redis, keys, "ops"),
            concurrency=4,
            policy=QUICK,
            outage=Outage(),
        )
        follower = EventFollower(
            redis,
            keys,
            follower_name("ops"),
            sender.handle,
            concurrency=4,
            wants=Route(config).wants,
            beside=sender.lead,
        )
        async with killed(follower):
            while not await leads(redis, keys, "ops"):
                await asyncio.sleep(0.01)
            await publish(redis, keys, "a", range(4))
            await publish(redis, keys, "b", range(4))
            while (await operations.sink_status(redis, keys, config)).waiting < 2:
                await asyncio.sleep(0.01)
        await sender._destination.close()
        endpoint.always = 200
        async with serving(redis, keys, config):
            await wait_until(lambda: len(endpoint.events()) == 8)
    assert endpoint.numbers("a") == endpoint.numbers("b") == [0, 1, 2, 3]


async def test_an_event_that_is_never_taken_ends_unsent_and_can_be_recovered(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    endpoint = Endpoint()
    refused = {b'"number":1'}

    async def refuse(request: Any) -> Any:
        body = await request.read()
        bad = b'"subject":"a"' in body and any(each in body for each in refused)
        answer = Endpoint(always=400 if bad else 200)
        answer.received = endpoint.received
        return await answer.handle(request)

    endpoint.answer = refuse
    policy = DeliveryPolicy(
        first_seconds=0.05, longest_seconds=0.1, retry_seconds=1.0, probe_seconds=0.05
    )
    async with endpoint.serving():
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
        with structlog.testing.capture_logs() as logs:
            async with serving(redis, keys, config, policy=policy):
                await publish(redis, keys, "a", range(3))
                number = 0
                while endpoint.numbers("a") != [0, 2]:
                    # Others get through, so that the event is to blame.
                    await publish(redis, keys, "b", range(number, number + 1))
                    number += 1
                    await asyncio.sleep(0.05)
                ((_, unsent),) = await entries_between(redis, unsent_key(keys, "ops"), "-", "+")
                assert b"400" in unsent[b"error"]
                refused.clear()
                assert await operations.recover(redis, keys, "ops", 0) == 1
                await wait_until(lambda: endpoint.numbers("a") == [0, 2, 1])
                assert await operations.recover(redis, keys, "ops", 0) == 0
        assert "sink.event_unsent" in {line["event"] for line in logs}


async def test_an_endpoint_that_takes_nothing_is_paused_with_all_that_waits(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    policy = DeliveryPolicy(
        first_seconds=0.05, longest_seconds=0.1, retry_seconds=1.5, probe_seconds=0.05
    )
    async with Endpoint(always=500).serving() as endpoint:
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url, concurrency=2))
        store = SinkStore(redis, keys, "ops")
        with structlog.testing.capture_logs() as logs:
            async with serving(redis, keys, config, policy=policy):
                for subject in "abcdefghijklmnopqrst":
                    await publish(redis, keys, subject, range(2))
                async with asyncio.timeout(60):
                    while (
                        status := await operations.sink_status(redis, keys, config)
                    ).state != "paused":
                        await asyncio.sleep(0.02)
                assert status.unsent == 0
                assert "500" in status.reason
                asked = endpoint.asked
                assert await operations.resume(redis, keys, "ops")
                async with asyncio.timeout(60):
                    while not (await store.state()).paused:
                        await asyncio.sleep(0.02)
                # Who resumes it gives what waits all of its time anew: one failure ends nothing.
                assert endpoint.asked - asked >= 5
                asked = endpoint.asked
                endpoint.always = 200
                await asyncio.sleep(0.5)
                assert endpoint.asked == asked
                assert await operations.resume(redis, keys, "ops")
                await wait_until(lambda: len(endpoint.events()) == 40)
        assert "sink.paused" in {line["event"] for line in logs}


async def test_an_endpoint_that_is_gone_is_paused_at_once(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    async with Endpoint(always=410).serving() as endpoint:
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
        async with serving(redis, keys, config):
            await publish(redis, keys, "a", range(2))
            async with asyncio.timeout(60):
                while (await operations.sink_status(redis, keys, config)).state != "paused":
                    await asyncio.sleep(0.02)
    assert endpoint.asked == 1


async def test_a_pause_by_hand_holds_everything_and_a_stop_does_not_wait_for_it(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    async with Endpoint().serving() as endpoint:
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
        await operations.pause(redis, keys, "ops", "by a test")
        async with serving(redis, keys, config):
            await publish(redis, keys, "a", range(3))
            status = await operations.sink_status(redis, keys, config)
            assert (status.state, status.reason) == (SinkCondition.PAUSED, "by a test")
            loop = asyncio.get_running_loop()
            begun = loop.time()
        assert loop.time() - begun < 9
        assert endpoint.asked == 0
        assert await operations.resume(redis, keys, "ops")
        async with serving(redis, keys, config):
            await wait_until(lambda: endpoint.numbers("a") == [0, 1, 2])


async def test_everything_since_a_time_is_sent_again_with_the_same_ids(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    async with Endpoint().serving() as endpoint:
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
        async with serving(redis, keys, config):
            await publish(redis, keys, "a", range(5))
            await wait_until(lambda: len(endpoint.received) == 5)
            while (await operations.sink_status(redis, keys, config)).behind:
                await asyncio.sleep(0.01)
            assert await operations.recover_all(redis, keys, "ops", 0)
            await publish(redis, keys, "b", range(1))
            await wait_until(lambda: endpoint.times("a/retrying/4") == 2)
    ids = [headers["webhook-id"] for headers, _ in endpoint.received]
    # Of what came last no more than the first time is sent, if it came before the way back.
    again = [each for each in ids[5:] if each.startswith("a/")]
    assert again == ids[:5]
    assert endpoint.numbers("a") == [0, 1, 2, 3, 4]


async def test_an_event_of_just_the_time_that_is_named_is_sent_again_too(
    redis: Redis, keys: Keys
) -> None:
    follower = follower_key(keys, follower_name("ops"))
    await redis.hset(follower, "position", "9000-3")
    assert await operations.recover_all(redis, keys, "ops", 5_000)
    (position,) = await redis.hmget(follower, "position")
    assert isinstance(position, bytes)
    assert order_of("4999-0") <= order_of(position.decode()) < order_of("5000-0")
    assert not await operations.recover_all(redis, keys, "ops", 9_001)


async def test_an_endpoint_that_asks_for_a_pause_gets_one(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    endpoint = Endpoint(answers=[429], headers={"retry-after": "2"})
    async with endpoint.serving():
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
        async with serving(redis, keys, config):
            await publish(redis, keys, "a", range(1))
            await wait_until(lambda: endpoint.asked == 1)
            begun = asyncio.get_running_loop().time()
            await wait_until(lambda: endpoint.asked == 2)
            assert asyncio.get_running_loop().time() - begun > 1.5


async def test_a_rate_is_kept(redis: Redis, keys: Keys, tmp_path: Path) -> None:
    async with Endpoint().serving() as endpoint:
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url, requests_per_second=20))
        async with serving(redis, keys, config):
            begun = asyncio.get_running_loop().time()
            for subject in "abcdefghijklmnopqrst":
                await publish(redis, keys, subject, range(2))
            await wait_until(lambda: len(endpoint.events()) == 40)
            assert asyncio.get_running_loop().time() - begun >= 39 / 20


async def test_an_endpoint_that_never_answers_holds_no_more_than_its_own_slots(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    silent = Endpoint(answer=never)
    async with silent.serving(), Endpoint().serving() as good:
        configs = (
            sink_config("good", tmp_path, webhook=webhook(good.url)),
            sink_config(
                "silent", tmp_path, webhook=webhook(silent.url, timeout_seconds=1, concurrency=2)
            ),
        )
        async with serving(redis, keys, *configs):
            for subject in "abcdefghij":
                await publish(redis, keys, subject, range(5))
            await wait_until(lambda: len(good.events()) == 50)
            async with asyncio.timeout(60):
                while (
                    "no answer within 1 s"
                    not in (await operations.sink_status(redis, keys, configs[1])).last_error
                ):
                    await asyncio.sleep(0.05)
            silent.answer = None
            await wait_until(lambda: len(silent.events()) == 50)
    for subject in "abcdefghij":
        assert silent.numbers(subject) == [0, 1, 2, 3, 4]


async def test_an_event_at_which_a_destination_stumbles_holds_up_its_own_command_alone(
    redis: Redis, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next leader would meet the same event first."""
    odd = event_text("a", 1).replace(b'"a/retrying/1"', b'"odd"')
    send = Webhook.send

    async def stumble(webhook: Webhook, event: Event, text: bytes) -> Answer:
        if event.id == "odd":
            raise RuntimeError("a defect")
        return await send(webhook, event, text)

    monkeypatch.setattr(Webhook, "send", stumble)
    async with Endpoint(answers=[500]).serving() as endpoint:
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
        with structlog.testing.capture_logs() as logs:
            async with serving(redis, keys, config):
                await publish(redis, keys, "a", range(1))
                await redis.xadd(keys.events, {"event": odd})
                await wait_until(lambda: "sink.send_failed" in {line["event"] for line in logs})
                await publish(redis, keys, "b", range(3))
                await wait_until(lambda: endpoint.numbers("b") == [0, 1, 2])
                status = await operations.sink_status(redis, keys, config)
    assert status.waiting == 1
    assert endpoint.numbers("a") == [0]
    assert "sink.crashed" not in {line["event"] for line in logs}


async def test_an_event_with_an_odd_reply_name_ends_no_sink(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    odd = orjson.dumps(orjson.loads(event_text("a")) | {"replyto": ["me"]})
    async with Endpoint().serving() as endpoint:
        config = sink_config("ops", tmp_path, reply_to=["me"], webhook=webhook(endpoint.url))
        with structlog.testing.capture_logs() as logs:
            async with serving(redis, keys, config):
                await redis.xadd(keys.events, {"event": odd})
                await publish(redis, keys, "b", range(1), replyto="me")
                await wait_until(lambda: endpoint.numbers("b") == [0])
    assert endpoint.asked == 1
    assert "sink.crashed" not in {line["event"] for line in logs}


async def test_a_sink_that_cannot_be_made_is_told_of_and_holds_up_no_other(
    redis: Redis, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
    async with Endpoint().serving() as endpoint:
        plain = sink_config("plain", tmp_path, webhook=webhook(endpoint.url))
        secure = sink_config("secure", tmp_path, webhook=webhook("https://127.0.0.1:9/"))
        with structlog.testing.capture_logs() as logs:
            async with running(redis, keys, plain, secure):
                await wait_until(lambda: "sink.crashed" in {line["event"] for line in logs})
                while not await leads(redis, keys, "plain"):
                    await asyncio.sleep(0.01)
                await publish(redis, keys, "a", range(1))
                await wait_until(lambda: endpoint.numbers("a") == [0])
    assert {line["sink"] for line in logs if line["event"] == "sink.crashed"} == {"secure"}


async def test_a_sink_that_crashes_begins_again_with_a_new_destination_and_closes_the_old_one(
    redis: Redis, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would leave its connections open, each time."""
    config = sink_config("ops", tmp_path, redis={"stream": f"copy-{keys.namespace}"})
    made: list[Closing] = []
    closed: list[Closing] = []

    class Closing(LosesCancellation):
        async def close(self) -> None:
            await super().close()
            closed.append(self)

    def make(*_: Any) -> Closing:
        assert len(made) == len(closed)
        made.append(Closing())
        return made[-1]

    async def crash(_follower: EventFollower, _stop: asyncio.Event) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("worker.sinks.service.create_destination", make)
    monkeypatch.setattr("worker.sinks.service.AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(EventFollower, "run", crash)
    with structlog.testing.capture_logs() as logs:
        async with running(redis, keys, config):
            await wait_until(lambda: len(made) >= 3)
    assert closed == made
    assert {line["event"] for line in logs} == {"sink.crashed"}


async def test_a_sink_that_is_paused_while_an_event_waits_for_its_turn_sends_nothing(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    endpoint = Endpoint(answers=[429], headers={"retry-after": "2"})
    async with endpoint.serving():
        config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
        with structlog.testing.capture_logs() as logs:
            async with serving(redis, keys, config):
                await publish(redis, keys, "a", range(2))
                await wait_until(lambda: endpoint.asked == 1)
                asked_at = asyncio.get_running_loop().time()
                await publish(redis, keys, "b", range(2))
                await operations.pause(redis, keys, "ops", "by a test")
                await wait_until(lambda: "sink.pause_changed" in {line["event"] for line in logs})
                # Until after the pause that the endpoint has asked for.
                await wait_until(lambda: asyncio.get_running_loop().time() - asked_at > 3)
                assert endpoint.asked == 1
                await operations.resume(redis, keys, "ops")
                await wait_until(lambda: len(endpoint.events()) == 4)
    assert endpoint.numbers("a") == endpoint.numbers("b") == [0, 1]


class LosesCancellation:
    """Refuses the first message; the second one takes until it is cancelled, and loses that."""

    def __init__(self) -> None:
        self.calls = 0
        self.sent: list[str] = []

    async def send(self, event: Event, text: bytes) -> Answer:
        del text
        self.calls += 1
        if self.calls == 1:
            raise DeliveryError("not yet")
        if self.calls == 2:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        self.sent.append(event.id)
        return Answer("taken")

    async def close(self) -> None:
        await asyncio.sleep(0)


@pytest.mark.parametrize("lost_by", ["another leader", "a way back"])
async def test_a_lead_that_is_lost_is_followed_by_another_though_a_cancellation_is_lost(
    redis: Redis, keys: Keys, lost_by: str
) -> None:
    """As redis-py may lose it, when events are copied to a Redis."""
    destination = LosesCancellation()
    outage = Outage()
    store = SinkStore(redis, keys, "ops")
    sender = Sender("ops", destination, store, concurrency=4, policy=QUICK, outage=outage)
    follower = EventFollower(
        redis, keys, follower_name("ops"), sender.handle, concurrency=4, beside=sender.lead
    )
    async with following(follower):
        async with asyncio.timeout(60):
            while not await leads(redis, keys, "ops"):
                await asyncio.sleep(0.01)
        await publish(redis, keys, "a", range(2))
        await wait_until(lambda: destination.calls == 2)
        async with asyncio.timeout(60):
            while (await store.counts())[0] < 2:
                await asyncio.sleep(0.01)
        if lost_by == "another leader":
            await redis.hincrby(follower_key(keys, follower_name("ops")), "token", 1)
        else:
            async with asyncio.timeout(60):
                while not await rewind(redis, keys, follower_name("ops"), "0-1"):
                    await asyncio.sleep(0.01)
        await wait_until(lambda: "a/retrying/1" in destination.sent)
