"""Server-sent events: all of them once and in order, for watchers that come, go, and lag."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.console import TIMEOUT_SECONDS
from tests.stream_events import event_text
from worker.embedded import EmbeddedRedis
from worker.gateway.events import stream as event_stream
from worker.gateway.events import watchers
from worker.gateway.events.messages import LastEventIdError
from worker.gateway.events.stream import EventStream
from worker.gateway.events.watchers import EventFilter
from worker.integrations.patterns import Patterns
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from redis.asyncio import Redis


@dataclass
class Watching:
    """What one watcher has got, parsed as browsers do."""

    messages: list[dict[str, str]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    ended: bool = False

    @property
    def ids(self) -> list[str]:
        return [each["id"] for each in self.messages if "id" in each]

    @property
    def subjects(self) -> list[str]:
        return [orjson.loads(each["data"])["subject"] for each in self.messages if "id" in each]

    def take(self, piece: bytes) -> None:
        assert piece.endswith(b"\n\n"), "each piece is whole messages"
        for block in piece.decode().removesuffix("\n\n").split("\n\n"):
            lines = [line.partition(":") for line in block.split("\n")]
            fields = {name: value.removeprefix(" ") for name, _, value in lines if name}
            self.comments += [value.strip() for name, _, value in lines if not name]
            if "data" in fields:
                self.messages.append(fields)


async def until(holds: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)
    assert what


@asynccontextmanager
async def watching(stream: EventStream, *told: Any) -> AsyncIterator[Watching]:
    """One watcher in a task of their own, until the block ends."""
    seen = Watching()

    async def watch() -> None:
        async with aclosing(cast("Any", stream.events(*told))) as pieces:
            async for piece in pieces:
                seen.take(piece)
        seen.ended = True

    task = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def add(redis: Redis, keys: Keys, command_id: str, event_type: str, **told: Any) -> str:
    text = event_text(command_id, event_type, **told)
    return cast("bytes", await redis.xadd(keys.events, {"event": text})).decode()


@pytest.fixture
async def stream(redis: Redis, keys: Keys) -> AsyncIterator[EventStream]:
    made = EventStream(redis, keys, heartbeat_seconds=0.2)
    yield made
    await made.close()
    assert made.watchers == 0


async def test_an_event_comes_with_its_entry_its_type_and_its_text_in_one_line(
    stream: EventStream, redis: Redis, keys: Keys
) -> None:
    entry_id = await add(redis, keys, "a", "train.succeeded", correlationid="c")
    # By hand, and over several lines; browsers end a line at a carriage return, too.
    loose = '{"id": "1", "type": "x\\ny.z", "subject": "b", "time": "",%s "data": {}}'
    for line_end in ("\r\n", "\r"):
        await redis.xadd(keys.events, {"event": loose % line_end})
    await redis.xadd(keys.events, {"other": "x"})
    async with watching(stream, None, "0-0") as seen:
        await until(lambda: len(seen.messages) == 3, "all events")
    first, *others = seen.messages
    assert first == {
        "id": entry_id,
        "event": "train.succeeded",
        "data": event_text("a", "train.succeeded", correlationid="c").decode(),
    }
    for other in others:
        assert other["event"] == "xy.z"
        assert "\r" not in other["data"]
        assert orjson.loads(other["data"]) == orjson.loads(loose % "")


async def test_without_an_id_only_what_comes_from_now_on_is_told(
    stream: EventStream, redis: Redis, keys: Keys
) -> None:
    await add(redis, keys, "old", "train.accepted")
    async with watching(stream) as seen:
        await until(lambda: "heartbeat" in seen.comments, "the watcher to have joined")
        await add(redis, keys, "new", "train.accepted")
        await until(lambda: bool(seen.messages), "the event")
        assert seen.subjects == ["new"]


async def test_who_comes_again_with_an_id_gets_what_came_since_and_goes_on(
    stream: EventStream, redis: Redis, keys: Keys
) -> None:
    ids = [await add(redis, keys, f"c{number}", "train.accepted") for number in range(1_200)]
    for known in (ids[700], ids[-1], "0-0"):
        left = ids[ids.index(known) + 1 :] if known in ids else list(ids)
        async with watching(stream, None, known) as seen:
            await until(lambda seen=seen, left=left: len(seen.ids) >= len(left), "history")  # type: ignore[misc]
            ids.append(await add(redis, keys, "late", "train.accepted"))
            await until(lambda seen=seen: ids[-1] in seen.ids, "what comes then")  # type: ignore[misc]
            assert seen.ids == [*left, ids[-1]]
            assert all(each["event"] == "train.accepted" for each in seen.messages), "and no gap"


async def test_watchers_who_come_while_events_come_miss_none_and_get_none_twice(
    stream: EventStream, redis: Redis, keys: Keys
) -> None:
    ids: list[str] = []

    async def write() -> None:
        # One after the other, for others look at what there is.
        for number in range(1_500):
            ids.append(await add(redis, keys, f"c{number}", "train.accepted"))  # noqa: PERF401

    writing = asyncio.create_task(write())
    seen: list[Watching] = []
    async with asyncio.TaskGroup() as group:

        async def watch(number: int) -> None:
            await until(lambda: len(ids) > 100 * number, "more events")
            async with watching(stream, None, "0-0") as one:
                seen.append(one)
                await until(lambda: writing.done() and len(one.ids) >= 1_500, "all events")

        for number in range(8):
            group.create_task(watch(number))
    await writing
    for one in seen:
        assert one.ids == ids


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (EventFilter(Patterns(["train.*"])), ["a", "c"]),
        (EventFilter(Patterns(["*.failed", "attach.accepted"])), ["b", "c"]),
        (EventFilter(subject="b"), ["b"]),
        (EventFilter(correlation_id="x"), ["a", "b"]),
        (EventFilter(Patterns(["train.*"]), correlation_id="x"), ["a"]),
        (EventFilter(command_types=frozenset({"attach"})), ["b"]),
        (EventFilter(command_types=frozenset()), []),
    ],
)
async def test_only_what_is_wanted_is_told_of_the_past_and_from_now_on(
    stream: EventStream, redis: Redis, keys: Keys, wanted: EventFilter, left: list[str]
) -> None:
    async def write() -> None:
        await add(redis, keys, "a", "train.accepted", correlationid="x")
        await add(redis, keys, "b", "attach.accepted", correlationid="x")
        await add(redis, keys, "c", "train.failed")

    await write()
    async with watching(stream, wanted, "0-0") as seen, watching(stream) as other:
        await until(lambda: "heartbeat" in seen.comments + other.comments, "both to have joined")
        await until(lambda: len(seen.ids) == len(left), "the past")
        await write()
        await until(lambda: len(seen.ids) == 2 * len(left) and len(other.ids) == 3, "the rest")
        assert seen.subjects == left + left


async def test_a_watcher_who_does_not_keep_up_is_dropped_and_can_come_again(
    stream: EventStream, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchers, "MOST_EVENTS", 10)
    slow = Watching()
    pieces = cast("Any", stream.events(None, None))
    async with watching(stream) as quick:
        # They read once they have joined, and then no more.
        while "heartbeat" not in slow.comments:
            slow.take(await anext(pieces))
        await until(lambda: "heartbeat" in quick.comments, "the other one")
        ids = [await add(redis, keys, f"c{number}", "train.accepted") for number in range(50)]
        await until(lambda: quick.ids == ids, "the other one to get all")
        async for piece in pieces:
            slow.take(piece)
    last = slow.messages[-1]
    assert last["event"] == "trainmaster.dropped"
    assert "id" not in last, "or it would come again with the wrong one"
    assert "too slow" in last["data"]
    known = (slow.ids or ["0-0"])[-1]
    async with watching(stream, None, known) as again:
        await until(lambda: slow.ids + again.ids == ids, "the rest")


async def test_a_watcher_of_large_events_is_bounded_by_their_bytes(
    stream: EventStream, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchers, "MOST_BYTES", 100_000)
    pieces = cast("Any", stream.events(None, None))
    slow = Watching()
    while "heartbeat" not in slow.comments:
        slow.take(await anext(pieces))
    async with watching(stream) as quick:
        await until(lambda: "heartbeat" in quick.comments, "the other one")
        # One that is larger than all that may wait is told all the same.
        await add(redis, keys, "large", "train.succeeded", data={"result": "x" * 200_000})
        await until(lambda: len(quick.ids) == 1, "the other one")
        slow.take(await anext(pieces))
        assert slow.subjects == ["large"]
        for number in range(4):
            await add(redis, keys, f"c{number}", "train.succeeded", data={"result": "x" * 40_000})
        await until(lambda: len(quick.ids) == 5, "the other one")
        async for piece in pieces:
            slow.take(piece)
    assert slow.messages[-1]["event"] == "trainmaster.dropped"


async def test_a_watcher_who_keeps_up_is_not_dropped_however_much_comes_in_all(
    stream: EventStream, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchers, "MOST_BYTES", 100_000)
    seen, ids = Watching(), list[str]()
    async with (
        aclosing(cast("Any", stream.events(None, None))) as pieces,
        watching(stream) as other,
    ):
        while "heartbeat" not in seen.comments:
            seen.take(await anext(pieces))
        await until(lambda: "heartbeat" in other.comments, "the other one")
        for number in range(6):
            told = {"result": "x" * 40_000}
            ids.append(await add(redis, keys, f"c{number}", "train.succeeded", data=told))
            if number % 2:
                # Both wait by now, which is as much as may.
                await until(lambda: other.ids == ids, "the other one to get them")
                while len(seen.ids) < len(ids):
                    seen.take(await anext(pieces))
    assert seen.ids == ids


async def test_streams_end_at_once_when_the_process_stops(redis: Redis, keys: Keys) -> None:
    stream = EventStream(redis, keys, heartbeat_seconds=3600)
    # Given one for whom something waits, and one who has not joined the others yet
    slow, seen = cast("Any", stream.events(None, "0-0")), Watching()
    async with watching(stream, None, "0-0") as quick:
        for number in range(3):
            await add(redis, keys, f"c{number}", "train.accepted")
            while len(seen.ids) <= number:
                seen.take(await anext(slow))
        await add(redis, keys, "last", "train.accepted")
        await until(lambda: len(quick.ids) == 4, "what waits for the other one")
        late = cast("Any", stream.events(None, "0-0"))
        await anext(late)
        # When the process stops
        stream.end()
        # Then none of them waits for the next sign of life
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async for piece in slow:
                seen.take(piece)
            assert [piece async for piece in late] == []
        await until(lambda: quick.ended, "the other one to end")
    assert seen.ids == quick.ids
    await stream.close()


async def test_it_is_told_that_events_are_no_longer_kept(
    stream: EventStream, redis: Redis, keys: Keys
) -> None:
    ids = [await add(redis, keys, f"c{number}", "train.accepted") for number in range(10)]
    await redis.xtrim(keys.events, maxlen=5, approximate=False)
    async with watching(stream, None, ids[2]) as seen:
        await until(lambda: seen.ids == ids[5:], "what is left")
        assert seen.messages[0]["event"] == "trainmaster.gap"
        assert ids[5] in seen.messages[0]["data"]
    async with watching(stream, None, f"{2**64 - 1}-{2**64 - 1}") as lost:
        await until(lambda: bool(lost.messages), "the notice")
        assert lost.messages[0]["event"] == "trainmaster.gap"
        ids.append(await add(redis, keys, "late", "train.accepted"))
        await until(lambda: lost.ids == ids[-1:], "what comes from now on")


@pytest.mark.parametrize("after", ["", "x", "1", "1-", "-1", "1-x", "1 - 1", f"{2**64}-0", "１-0"])
async def test_an_id_that_no_event_has_is_refused_at_once(stream: EventStream, after: str) -> None:
    with pytest.raises(LastEventIdError, match="like 1700000000000-0"):
        await anext(stream.events(None, after))


async def test_a_reader_that_outlives_its_cancellation_costs_nobody_an_event(
    stream: EventStream, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py may lose a cancellation, and the next watcher has come meanwhile."""
    known = await add(redis, keys, "known", "train.accepted")
    newest = stream.newest
    cancelled, go_on, second_asks = asyncio.Event(), asyncio.Event(), asyncio.Event()
    asked = 0

    async def slow_newest() -> str:
        nonlocal asked
        asked += 1
        found = await newest()
        if asked > 1:
            second_asks.set()
            await go_on.wait()
            return await newest()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            # The next one is there before this one goes on.
            await second_asks.wait()
        return found

    monkeypatch.setattr(stream, "newest", slow_newest)
    async with watching(stream):
        await until(lambda: asked == 1, "the first reader")
    await cancelled.wait()
    async with watching(stream, None, known) as watched:
        await until(second_asks.is_set, "the second reader")
        await asyncio.sleep(0.1)  # what the first one still does, it does now
        new = await add(redis, keys, "new", "train.accepted")
        go_on.set()
        await until(lambda: watched.ids == [new], "the event")


async def test_a_reader_that_stumbles_reads_on(
    stream: EventStream, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "_AGAIN_SECONDS", 0.01)
    async with watching(stream) as watched:
        await until(lambda: "heartbeat" in watched.comments, "the watcher")
        hand_out = watchers.Audience.hand_out
        failures = iter([RuntimeError("once")])

        def stumble(reader: Any, entries: Any) -> None:
            if entries and (error := next(failures, None)) is not None:
                raise error
            hand_out(reader, entries)

        monkeypatch.setattr(watchers.Audience, "hand_out", stumble)
        await add(redis, keys, "new", "train.accepted")
        await until(lambda: watched.subjects == ["new"], "the event")


async def test_nothing_is_read_while_nobody_watches(
    stream: EventStream, redis: Redis, keys: Keys
) -> None:
    async with watching(stream) as first:
        await until(lambda: "heartbeat" in first.comments, "the watcher")
        reader = stream._audience
        assert reader is not None
        assert reader.task is not None
        async with watching(stream, None, "0-0") as second:
            await until(lambda: "heartbeat" in second.comments, "the other one")
            assert stream._audience is reader, "one reader for all"
            assert stream.watchers == 2
    await until(reader.task.done, "the reader to end")
    await add(redis, keys, "meanwhile", "train.accepted")
    async with watching(stream) as third:
        await until(lambda: "heartbeat" in third.comments, "one who comes later")
        await add(redis, keys, "new", "train.accepted")
        await until(lambda: third.subjects == ["new"], "the event")


async def test_watchers_outlive_a_redis_that_restarts(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    with server:
        redis, keys = connect(server.url), Keys("outlived")
        stream = EventStream(redis, keys, heartbeat_seconds=0.2)
        async with watching(stream) as seen:
            await until(lambda: "heartbeat" in seen.comments, "the watcher")
            first = await add(redis, keys, "before", "train.accepted")
            await until(lambda: seen.ids == [first], "the event before")
            server.stop()
            await until(lambda: seen.comments[-3:] == ["stalled"] * 3, "signs of life meanwhile")
            server.start()
            await until(lambda: seen.comments[-1] == "heartbeat", "word that events come again")
            second = await add(redis, keys, "after", "train.accepted")
            await until(lambda: seen.ids == [first, second], "the event after")
        await stream.close()
        await redis.aclose()


async def test_watchers_are_told_that_a_redis_came_back_emptied(
    stream: EventStream, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "_AGAIN_SECONDS", 0.05)
    async with watching(stream) as seen:
        await until(lambda: "heartbeat" in seen.comments, "the watcher")
        first = await add(redis, keys, "before", "train.accepted")
        await until(lambda: seen.ids == [first], "the event before")

        async def lose(*_told: Any, **_more: Any) -> Any:
            raise RedisConnectionError

        with monkeypatch.context() as away:
            away.setattr(event_stream, "entries_after", lose)
            await add(redis, keys, "ends the wait", "train.accepted")
            await until(lambda: seen.comments[-1] == "stalled", "word of the outage")
            await redis.delete(keys.events)
            # By a clock that is behind that of the one before.
            await redis.xadd(keys.events, {"event": event_text("new", "train.accepted")}, id="1-1")
        await until(lambda: seen.messages[-1]["event"] == "trainmaster.gap", "word of the gap")
        await redis.xadd(keys.events, {"event": event_text("next", "train.accepted")}, id="1-2")
        await until(lambda: seen.subjects[-1] == "next", "what comes then")


async def test_a_redis_that_goes_away_costs_who_comes_again_no_event(
    stream: EventStream, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "_AGAIN_SECONDS", 0.05)
    ids = [await add(redis, keys, f"c{number}", "train.accepted") for number in range(5)]
    left = 10

    async def lose(*told: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        if left > 0:
            raise RedisConnectionError
        return await entries_between(*told, **more)

    monkeypatch.setattr(event_stream, "entries_between", lose)
    async with watching(stream, None, ids[0]) as seen:
        await until(lambda: seen.ids == ids[1:], "what came since")
        # Proxies take a connection for dead on which nothing comes for longer.
        assert "stalled" in seen.comments
        assert all(each["event"] == "train.accepted" for each in seen.messages), "and no gap"
        ids.append(await add(redis, keys, "late", "train.accepted"))
        await until(lambda: seen.ids == ids[1:], "what comes then")
