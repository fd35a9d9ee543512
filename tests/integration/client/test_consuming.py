"""Groups of consumers: each event is handled by one of them, and not forgotten."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.integration.client.told import Told
from trainmaster_client import (
    AsyncClient,
    Client,
    ConsumerOptions,
    Event,
    RedisRefusedError,
)
from trainmaster_client.consuming import Group
from trainmaster_client.names import Names
from trainmaster_client.steps import Ask, Listen, Patience, insist
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


GROUP = "service"
FROM_START = ConsumerOptions(from_start=True)
SOON = ConsumerOptions(from_start=True, idle_seconds=0.3, retry_seconds=0.01, tries=3)


def consume(client: Any, options: ConsumerOptions, count: int, name: str | None = None) -> Any:
    """Handles so many events and returns them."""
    consumer = client.consumer(GROUP, options, name=name)
    seen: list[Event] = []

    def handle(event: Event) -> None:
        seen.append(event)
        if len(seen) == count:
            consumer.stop()

    consumer.run(handle)
    return seen


def test_each_event_is_handled_and_then_acknowledged(client: Any, told: Told) -> None:
    for number in range(120):
        told.tell("train.accepted", f"c-{number}")
    two_days_ago = time.time() * 1000 - 2 * 86_400_000
    told.redis.zadd(told.names.handled(GROUP), {"long-ago": two_days_ago})
    seen = consume(client, FROM_START, 120)
    assert [event.command_id for event in seen] == [f"c-{number}" for number in range(120)]
    known = told.redis.zrange(told.names.handled(GROUP), 0, -1)
    assert sorted(known) == sorted(event.id.encode() for event in seen), "of a day"
    assert not any(event.redelivered for event in seen)
    assert told.pending(GROUP) == 0
    assert told.consumers(GROUP) == [], "it has left"


def test_a_new_group_begins_with_what_comes_from_now_on(client: Any, told: Told) -> None:
    told.tell("train.accepted", "before")
    consumer = client.consumer(GROUP)
    seen: list[str] = []

    def handle(event: Event) -> None:
        seen.append(event.command_id)
        consumer.stop()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(consumer.run, handle)
        while not told.redis.exists(told.names.events()) or not told.redis.xinfo_groups(
            told.names.events()
        ):
            time.sleep(0.01)
        told.tell("train.accepted", "after")
        running.result()
    assert seen == ["after"]


def test_what_is_not_wanted_is_acknowledged_unseen(client: Any, told: Told) -> None:
    for each in ("train.accepted", "train.failed", "predict.failed"):
        told.tell(each, "a")
    told.redis.xadd(told.names.events(), {"other": "no event"})
    told.tell("train.failed", "last")
    wanted = ConsumerOptions(types=["train.failed"], from_start=True)
    seen = consume(client, wanted, 2)
    assert [event.command_id for event in seen] == ["a", "last"]
    assert told.pending(GROUP) == 0


def test_an_event_that_comes_twice_is_handled_once(client: Any, told: Told) -> None:
    told.tell("train.accepted", "a")
    told.tell("train.accepted", "b")
    assert len(consume(client, FROM_START, 2)) == 2
    told.tell("train.accepted", "a")
    told.tell("train.accepted", "c")
    assert [event.command_id for event in consume(client, FROM_START, 1)] == ["c"]
    assert told.pending(GROUP) == 0


def test_two_groups_each_have_every_event(client: Any, told: Told) -> None:
    told.tell("train.accepted", "a")
    assert len(consume(client, FROM_START, 1)) == 1
    other = client.consumer("another", FROM_START)
    seen: list[str] = []

    def handle(event: Event) -> None:
        seen.append(event.command_id)
        other.stop()

    other.run(handle)
    assert seen == ["a"]


def test_a_handler_that_fails_is_tried_again_and_its_event_parked_at_last(
    client: Any, told: Told
) -> None:
    told.tell("train.failed", "bad", error={"code": "x"})
    told.tell("train.accepted", "once")
    told.tell("train.accepted", "good")
    consumer = client.consumer(GROUP, SOON)
    tries: list[str] = []

    def handle(event: Event) -> None:
        tries.append(event.command_id)
        if event.command_id == "bad":
            raise ValueError("no way")
        if event.command_id == "once" and tries.count("once") == 1:
            raise OSError("at first")
        if event.command_id == "good":
            consumer.stop()

    consumer.run(handle)
    assert tries == ["bad"] * 3 + ["once"] * 2 + ["good"]
    assert told.pending(GROUP) == 0
    (parked,) = told.parked(GROUP)
    assert json.loads(parked[b"event"])["subject"] == "bad"
    assert (parked[b"error"], parked[b"tries"]) == (b"ValueError: no way", b"3")


def test_what_a_consumer_had_when_it_stopped_another_one_handles(client: Any, told: Told) -> None:
    for number in range(5):
        told.tell("train.accepted", f"c-{number}")
    first = consume(client, SOON, 2, name="first")
    assert told.pending(GROUP) == 3
    second = consume(client, SOON, 3, name="second")
    handled = [event.command_id for event in (*first, *second)]
    assert handled == [f"c-{number}" for number in range(5)]
    assert all(event.redelivered for event in second)
    assert told.pending(GROUP) == 0


def test_a_consumer_that_comes_back_with_its_name_goes_on_at_once(client: Any, told: Told) -> None:
    for number in range(4):
        told.tell("train.accepted", f"c-{number}")
    patient = ConsumerOptions(from_start=True, idle_seconds=3_600)
    consume(client, patient, 1, name="mine")
    assert [event.command_id for event in consume(client, patient, 3, name="mine")] == [
        "c-1",
        "c-2",
        "c-3",
    ]


def test_a_consumer_that_runs_again_begins_with_what_it_had_in_hand(
    client: Any, told: Told
) -> None:
    """Whatever ended the run before: an interrupt, or an outage longer than its patience."""
    for number in range(3):
        told.tell("train.accepted", f"c-{number}")
    patient = ConsumerOptions(from_start=True, idle_seconds=3_600)
    consumer = client.consumer(GROUP, patient)
    seen: list[str] = []

    class InterruptedRunError(BaseException):
        pass

    def handle(event: Event) -> None:
        seen.append(event.command_id)
        if len(seen) == 2:
            raise InterruptedRunError
        if event.command_id in {"c-2", "c-3"}:
            consumer.stop()

    with pytest.raises(InterruptedRunError):
        consumer.run(handle)
    told.tell("train.accepted", "c-3")
    consumer.run(handle)
    assert seen == ["c-0", "c-1", "c-1", "c-2"]


KILLED = """
import os, signal, sys
from trainmaster_client import Client, ConsumerOptions
def handle(event):
    print(event.command_id, flush=True)
    if event.command_id == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
options = ConsumerOptions(from_start=True, idle_seconds=0.2, deliveries=3)
Client(sys.argv[1], namespace=sys.argv[2]).consumer("service", options).run(handle)
"""


def test_an_event_that_ends_each_consumer_is_parked_and_the_others_are_handled(
    client: Any, told: Told, redis_url: str
) -> None:
    told.tell("train.accepted", "before")
    told.tell("train.accepted", "deadly")
    told.tell("train.accepted", "behind")
    command = [sys.executable, "-c", KILLED, redis_url, told.names.namespace]
    for number in range(3):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert done.stdout.split() == ["before", "deadly"][number > 0 :]
        # Until what it held counts as forgotten: a quicker successor would begin with the next one.
        time.sleep(0.4)
    options = ConsumerOptions(from_start=True, idle_seconds=0.2, deliveries=3)
    assert [event.command_id for event in consume(client, options, 1)] == ["behind"]
    (parked,) = told.parked(GROUP)
    assert json.loads(parked[b"event"])["subject"] == "deadly"
    assert b"ended without a word 3 times" in parked[b"error"]
    assert told.pending(GROUP) == 0


def test_a_slow_consumer_keeps_what_it_has_read(client: Any, told: Told, redis_url: str) -> None:
    """Its last events wait for longer than after which others take over."""
    for number in range(8):
        told.tell("train.accepted", f"c-{number}")
    options = ConsumerOptions(from_start=True, idle_seconds=0.8)
    slow = client.consumer(GROUP, options, name="slow")
    quick = Client(redis_url, namespace=told.names.namespace).consumer(GROUP, options, name="quick")
    handled: list[tuple[str, str]] = []

    def slowly(event: Event) -> None:
        handled.append(("slow", event.command_id))
        time.sleep(0.3)
        if event.command_id == "c-7":
            slow.stop()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(slow.run, slowly)
        while not handled:
            time.sleep(0.01)
        other = threading.Thread(
            target=quick.run, args=(lambda event: handled.append(("quick", event.command_id)),)
        )
        other.start()
        running.result()
        quick.stop()
        other.join()
    assert handled == [("slow", f"c-{number}") for number in range(8)]


def test_what_another_consumer_took_over_meanwhile_is_left_to_it(client: Any, told: Told) -> None:
    for number in range(3):
        told.tell("train.accepted", f"c-{number}")
    options = ConsumerOptions(from_start=True, idle_seconds=0.4)
    consumer = client.consumer(GROUP, options, name="stopped")
    handled: list[str] = []

    def handle(event: Event) -> None:
        handled.append(event.command_id)
        if event.command_id == "c-0":
            # As if this process had stood still, and another one had begun with the next event.
            time.sleep(0.2)
            entry = told.redis.xpending_range(told.names.events(), GROUP, "-", "+", 3)[1]
            told.redis.xclaim(told.names.events(), GROUP, "other", 0, [entry["message_id"]])
        if event.command_id == "c-2":
            consumer.stop()

    consumer.run(handle)
    assert handled == ["c-0", "c-2"]
    assert told.pending(GROUP) == 1


def test_consumers_that_died_with_nothing_in_hand_are_taken_out_of_the_group(
    client: Any, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainmaster_client.consuming._FORGOTTEN_MS", 50)
    told.tell("train.accepted", "a")
    consume(client, FROM_START, 1)
    for name in ("dead", "holding"):
        told.redis.xgroup_createconsumer(told.names.events(), GROUP, name)
    told.tell("train.accepted", "b")
    told.redis.xreadgroup(GROUP, "holding", {told.names.events(): ">"})
    time.sleep(0.2)
    told.tell("train.accepted", "c")
    consume(client, FROM_START, 1)
    assert told.consumers(GROUP) == ["holding"]


def test_a_consumer_outlives_a_restart_of_redis(
    open_client: Callable[..., Any], tmp_path: Path
) -> None:
    with EmbeddedRedis(tmp_path) as server:
        told = Told(server.url, "trainmaster")
        told.tell("train.accepted", "a")
        client = open_client(server.url)
        consumer = client.consumer(GROUP, FROM_START)
        seen: list[str] = []

        def handle(event: Event) -> None:
            seen.append(event.command_id)
            if event.command_id == "b":
                consumer.stop()

        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(consumer.run, handle)
            while not seen:
                time.sleep(0.01)
            server.kill()
            server.start()
            told.redis.close()
            told.tell("train.accepted", "b")
            running.result()
        assert seen == ["a", "b"]
        assert told.pending(GROUP) == 0
        told.close()


def test_an_event_that_comes_twice_in_one_batch_is_handled_once(client: Any, told: Told) -> None:
    for each in ("a", "a", "b"):
        told.tell("train.accepted", each)
    assert [event.command_id for event in consume(client, FROM_START, 2)] == ["a", "b"]
    assert told.pending(GROUP) == 0


def test_one_type_may_be_said_without_a_list(client: Any, told: Told) -> None:
    for each in ("accepted", "failed"):
        told.tell(f"train.{each}", "a")
    options = ConsumerOptions(types="failed", from_start=True)
    assert [event.state for event in consume(client, options, 1)] == ["failed"]


@pytest.mark.parametrize("lost", ["stream", "group"])
def test_a_group_that_is_lost_while_a_consumer_runs_begins_where_it_was(
    client: Any, told: Told, lost: str
) -> None:
    told.tell("train.accepted", "before the group")
    consumer = client.consumer(GROUP)
    seen: list[str] = []

    def handle(event: Event) -> None:
        seen.append(event.command_id)
        if event.command_id == "a":
            # With b and c in hand. Whoever is first makes the group anew, and the stream.
            if lost == "stream":
                told.redis.delete(told.names.events())
                for each in ("b", "c"):
                    told.tell("train.accepted", each)
            else:
                told.redis.xgroup_destroy(told.names.events(), GROUP)
            told.tell("train.accepted", "d")
        if event.command_id == "d":
            consumer.stop()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(consumer.run, handle)
        while not told.redis.xinfo_groups(told.names.events()):
            time.sleep(0.01)
        pipe = told.redis.pipeline()
        for each in ("a", "b", "c"):
            pipe.xadd(told.names.events(), {"event": told.text("train.accepted", each)})
        pipe.execute()
        running.result()
    assert seen == ["a", "b", "c", "d"]


def test_who_stops_after_the_stream_is_gone_just_ends(client: Any, told: Told) -> None:
    told.tell("train.accepted", "a")
    consumer = client.consumer(GROUP, FROM_START)

    def handle(_: Event) -> None:
        told.redis.delete(told.names.events())
        consumer.stop()

    consumer.run(handle)


def test_what_a_dead_consumer_had_is_found_behind_what_a_slow_one_holds(
    client: Any, told: Told
) -> None:
    stream = told.names.events()
    told.redis.xgroup_create(stream, GROUP, "0", mkstream=True)
    for number in range(30):
        told.tell("train.accepted", f"c-{number}")
    told.redis.xreadgroup(GROUP, "slow", {stream: ">"}, count=25)
    read: Any = told.redis.xreadgroup(GROUP, "dead", {stream: ">"}, count=5)
    # It has been silent for an hour; the slow one has just said that it keeps its own.
    ids = [entry for entry, _ in read[0][1]]
    told.redis.xclaim(stream, GROUP, "dead", 0, ids, idle=3_600_000, justid=True)
    options = ConsumerOptions(idle_seconds=600)
    seen = consume(client, options, 5)
    assert [event.command_id for event in seen] == [f"c-{number}" for number in range(25, 30)]


def test_what_was_read_in_an_outage_is_read_again_however_often_it_fails() -> None:
    group = Group(Names("trainmaster"), GROUP, "me", ConsumerOptions())
    starts: list[str] = []
    steps = insist(Patience(60), group.next_events)
    step = next(steps)
    while len(starts) < 3:
        match step:
            case Listen(command):
                starts.append(command[-1])
                text = orjson.dumps({
                    "id": "i",
                    "type": "a.b",
                    "subject": "",
                    "time": "",
                    "data": {},
                })
                step = steps.send([[b"s", [[b"5-0", [b"event", text]]]]])
            case Ask():
                step = steps.throw(ConnectionError())
            case _:
                step = steps.send(None)
    assert starts == ["0-0"] * 3


def test_an_event_is_parked_as_it_is_whatever_it_and_the_error_hold(
    client: Any, told: Told
) -> None:
    text = b'{"id":"i","type":"a.b","subject":"s","time":"","data":{"x":%s}}'
    text %= b"[" * 900 + b"]" * 900  # deeper than what can be written
    told.redis.xadd(told.names.events(), {"event": text})
    consumer = client.consumer(GROUP, ConsumerOptions(from_start=True, tries=1))

    def handle(_: Event) -> None:
        consumer.stop()
        raise ValueError("no such file: \udcff")

    consumer.run(handle)
    (parked,) = told.parked(GROUP)
    assert (parked[b"event"], parked[b"error"]) == (text, b"ValueError: no such file: ?")


def test_an_error_of_redis_shows_nothing_of_what_was_sent(client: Any, told: Told) -> None:
    told.tell("train.accepted", "private")
    told.redis.set(told.names.parked(GROUP), "no stream")
    consumer = client.consumer(GROUP, ConsumerOptions(from_start=True, tries=1))
    with pytest.raises(RedisRefusedError) as caught:
        consumer.run(lambda _: 1 / 0)
    assert str(caught.value).startswith("Redis: WRONGTYPE")


@pytest.mark.parametrize("wrong", ["batch", "tries", "deliveries", "idle_seconds"])
def test_options_that_lose_events_or_hand_them_to_two_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        ConsumerOptions(**{wrong: 0})  # type: ignore[arg-type]


SIGNALLED = """
import signal, sys
from trainmaster_client import Client, ConsumerOptions
options = ConsumerOptions(from_start=True, tries=100, retry_seconds=1e-9)
consumer = Client(sys.argv[1], namespace=sys.argv[2]).consumer("service", options)
left = 500
# On a busy machine the next signal comes before the one before it is handled.
sys.setrecursionlimit(10_000)
def stop(*_):
    global left
    left -= 1
    consumer.stop()
    if left <= 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, stop)
def handle(event):
    signal.setitimer(signal.ITIMER_REAL, 1e-5, 1e-5)
    raise ValueError
consumer.run(handle)
while left > 0:
    pass
signal.signal(signal.SIGALRM, signal.SIG_IGN)
"""


def test_signals_that_stop_a_consumer_may_come_at_any_moment_and_twice(
    told: Told, redis_url: str
) -> None:
    told.tell("train.accepted", "a")
    command = [sys.executable, "-c", SIGNALLED, redis_url, told.names.namespace]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_who_is_stopped_while_redis_is_away_ends_at_once(
    open_client: Callable[..., Any], tmp_path: Path
) -> None:
    with EmbeddedRedis(tmp_path) as server:
        client = open_client(server.url, patience_seconds=3_600)
        consumer = client.consumer(GROUP, FROM_START)
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(consumer.run, lambda _: None)
            with Told(server.url, "trainmaster").redis as redis:
                while not redis.exists("{trainmaster}:events"):
                    time.sleep(0.01)
            server.kill()
            consumer.stop()
            running.result(timeout=60)


async def test_a_cancelled_consumer_ends_and_its_event_is_handled_by_another(
    redis_url: str, told: Told
) -> None:
    told.tell("train.accepted", "a")
    began = asyncio.Event()

    async def handle(_: Event) -> None:
        began.set()
        await asyncio.sleep(3_600)

    async with AsyncClient(redis_url, namespace=told.names.namespace) as client:
        running = asyncio.create_task(client.consumer(GROUP, SOON).run(handle))
        await began.wait()
        running.cancel()
        await asyncio.wait({running}, timeout=30)
        assert running.cancelled()
        other = client.consumer(GROUP, SOON)
        seen: list[str] = []

        async def note(event: Event) -> None:
            seen.append(event.command_id)
            other.stop()

        await other.run(note)
    assert seen == ["a"]


async def test_who_follows_events_ends_though_a_call_swallowed_the_cancellation(
    redis_url: str, namespace: str
) -> None:
    """As redis-py does at times; a loop that goes on could be stopped by kill -9 only."""
    asleep = asyncio.Event()

    async def follow() -> None:
        try:
            asleep.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
        async with AsyncClient(redis_url, namespace=namespace) as client:
            async for _ in client.events(follow=True):
                pass

    task = asyncio.create_task(follow())
    await asleep.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=30)
    assert task.cancelled()


def test_a_consumer_with_a_name_of_its_own_stays_in_its_group(client: Any, told: Told) -> None:
    """Its next process may be reading already when this one leaves."""
    told.tell("train.accepted", "a")
    consume(client, FROM_START, 1, name="mine")
    assert told.consumers(GROUP) == ["mine"]
