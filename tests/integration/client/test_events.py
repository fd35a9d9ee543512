"""Events as a client reads them, and what it knows of commands."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from schemas.enums import EventState
from tests.integration.client.told import Told
from trainmaster_client import ConsumerOptions, State
from trainmaster_client.driver import Driver
from trainmaster_client.reading import PAGE, Cursor, Pace, entries_of_one
from trainmaster_client.steps import Listen, Patience
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainmaster_client.steps import Steps


# With an integer that only Python's own module reads, which takes more than others can.
UNREADABLE = [
    b'{"id":"i","type":"a.b","subject":"s","time":"","data":{"n":%d,"x":%s}}' % (10**20, x)
    for x in (b'"\\ud800"', b"NaN", b"[" * 100_000 + b"]" * 100_000)
]


def test_the_client_knows_every_state_that_workers_tell() -> None:
    assert {str(each) for each in State} == {str(each) for each in EventState}


def test_events_come_oldest_first_and_say_what_they_are(client: Any, told: Told) -> None:
    told.tell("train.accepted", "a")
    told.tell("train.failed", "a", error={"code": "not_found", "message": "no"}, attempts=1)
    first, second = client.events()
    assert (first.type, first.command_type, first.state) == ("train.accepted", "train", "accepted")
    assert not first.is_end
    assert second.is_end
    assert second.command_id == "a"
    assert second.error["code"] == "not_found"
    assert second.time == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert [each.id for each in client.events(after=first.entry_id)] == [second.id]
    assert list(client.events(after=second.entry_id)) == []


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        ([], ["train.accepted", "train.failed", "predict.failed", "trainer.x"]),
        (["train"], ["train.accepted", "train.failed"]),
        (["failed"], ["train.failed", "predict.failed"]),
        (["train.failed"], ["train.failed"]),
        (["predict", "accepted"], ["train.accepted", "predict.failed"]),
        (["trai"], []),
        ("failed", ["train.failed", "predict.failed"]),
    ],
)
def test_only_events_of_the_wanted_types_come(
    client: Any, told: Told, types: list[str] | str, wanted: list[str]
) -> None:
    for each in ("train.accepted", "train.failed", "predict.failed", "trainer.x"):
        told.tell(each, "a")
    assert [event.type for event in client.events(types)] == wanted


def test_a_page_without_an_event_that_is_wanted_is_not_the_last(client: Any, told: Told) -> None:
    """Of a thousand items and one failure, the failure may stand behind them all."""
    with told.redis.pipeline(transaction=False) as pipe:
        for _ in range(PAGE + 1):
            pipe.xadd(told.names.events(), {"event": told.text("predict.succeeded", "a")})
        pipe.execute()
    told.tell("train.failed", "b")
    assert [event.command_id for event in client.events(["failed"])] == ["b"]


def test_what_others_put_into_the_stream_is_passed_over(client: Any, told: Told) -> None:
    stream = told.names.events()
    for text in (b"", b"{", b"[]", b"{}", b'{"id":1,"type":"a.b","subject":"","time":"","data":1}'):
        told.redis.xadd(stream, {"event": text})
    whole: dict[str, Any] = {"id": "1", "type": "a.b", "subject": "s", "time": "t", "data": {}}
    lacking = [{name: whole[name] for name in whole if name != each} for each in whole]
    for text in (*UNREADABLE, *map(orjson.dumps, lacking)):
        told.redis.xadd(stream, {"event": text})
    told.redis.xadd(stream, {"other": "x"})
    told.tell("train.accepted", "a")
    assert [event.command_id for event in client.events()] == ["a"]
    consumer = client.consumer("service", ConsumerOptions(from_start=True))
    consumer.run(lambda _: consumer.stop())
    assert told.pending("service") == 0


def test_integers_of_any_length_come_whole(client: Any, told: Told) -> None:
    text = b'{"id":"i","type":"a.succeeded","subject":"a","time":"","data":{"result":%d}}'
    told.redis.xadd(told.names.events(), {"event": text % 10**30})
    (event,) = client.events()
    assert event.result == 10**30


def test_large_events_come_a_few_at_a_time(redis_url: str, told: Told) -> None:
    """A slow network brings no more within the time that a reply has, and would bring none."""
    for number in range(40):
        told.tell("train.succeeded", f"c-{number}", result="a" * 200_000)
    sizes: list[int] = []

    def measured(steps: Steps[None]) -> Steps[None]:
        step = next(steps)
        with suppress(StopIteration):
            while True:
                reply = yield step
                if isinstance(step, Listen):
                    sizes.append(sum(len(fields[b"event"]) for _, fields in entries_of_one(reply)))
                step = steps.send(reply)

    def read_all(cursor: Cursor) -> Steps[None]:
        more = True
        while more:
            events, more = yield from cursor.page(block=False)
            found.extend(event.command_id for event in events)

    found: list[str] = []
    driver = Driver(redis_url, told.names.prefix)
    driver.run(measured(read_all(Cursor(told.names.events(), (), "0-0", Patience(0)))))
    driver.close()
    assert found == [f"c-{number}" for number in range(40)]
    assert max(sizes) <= 1_048_576


def test_after_a_read_that_failed_fewer_events_are_asked_for() -> None:
    pace = Pace()
    for fewer in (1, 1):
        reading = pace.read("XREAD")
        next(reading)
        with pytest.raises(RedisTimeoutError):
            reading.throw(RedisTimeoutError())
        assert pace.count == fewer


def test_events_end_with_the_newest_of_their_beginning(client: Any, told: Told) -> None:
    """Or they would never end where workers tell more meanwhile."""
    told.tell("train.accepted", "a")
    found = []
    for event in client.events():
        found.append(event.command_id)
        assert len(found) < 10
        told.tell("train.accepted", "later")
    assert found == ["a"]


def test_events_are_followed_without_a_gap(client: Any, told: Told) -> None:
    after = told.tell("train.accepted", "before")
    following = client.events(after=after, follow=True)
    told.tell("train.accepted", "a")
    assert next(following).command_id == "a"
    timer = threading.Timer(0.3, told.tell, ("train.accepted", "b"))
    timer.start()
    assert next(following).command_id == "b"
    timer.join()
    following.close()


def test_who_follows_outlives_a_restart_of_redis_and_is_told_of_it(
    open_client: Callable[..., Any], tmp_path: Path
) -> None:
    with EmbeddedRedis(tmp_path) as server:
        client = open_client(server.url)
        told = Told(server.url, "trainmaster")
        told.tell("train.accepted", "a")
        told.close()
        troubles: list[BaseException] = []
        following = client.events(follow=True, on_trouble=troubles.append)
        assert next(following).command_id == "a"
        # A server ends with the thread that started it, so the wait is in the other one.
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(next, following)
            server.kill()
            while not troubles:
                time.sleep(0.01)
            server.start()
            told = Told(server.url, "trainmaster")
            told.tell("train.accepted", "b")
            told.close()
            assert waiting.result().command_id == "b"
        assert len(troubles) == 1
        following.close()


def test_a_reply_stream_has_its_own_events(client: Any, told: Told) -> None:
    told.tell("train.accepted", "a")
    text = orjson.dumps({"id": "i", "type": "x.y", "subject": "b", "time": "", "data": {}})
    told.redis.xadd(told.names.events("mine"), {"event": text})
    assert [event.command_id for event in client.events(reply_to="mine")] == ["b"]
