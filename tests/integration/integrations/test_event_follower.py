"""A follower of the events: in order, at least once, led by one, through whatever Redis does."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.integration.integrations.published import (
    Received,
    event_text,
    following,
    killed,
    publish,
    wait_until,
)
from worker.embedded import EmbeddedRedis
from worker.integrations import event_window, leadership
from worker.integrations.event_follower import LEASE_SECONDS, EventFollower
from worker.integrations.follower_store import NOBODY, follower_status
from worker.integrations.keys import follower_key
from worker.queue.ledger.connection import connect
from worker.queue.ledger.streams import entries_after, entries_between

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from trainmaster_client import Event
    from worker.integrations.lead import Lead
    from worker.queue.ledger.keys import Keys


async def begin(redis: Redis, keys: Keys, name: str = "f") -> None:
    """Has a follower that begins with what comes from now on."""
    follower = EventFollower(redis, keys, name, Received(), concurrency=1)
    async with following(follower):
        await wait_until_led(redis, keys, name)


async def wait_until_led(redis: Redis, keys: Keys, name: str = "f") -> None:
    async with asyncio.timeout(60):
        while not ((status := await follower_status(redis, keys, name)) and status.leader):
            await asyncio.sleep(0.01)


async def wait_until_recorded(redis: Redis, keys: Keys, name: str = "f") -> None:
    """Waits until everything that there is has been recorded as done."""
    async with asyncio.timeout(60):
        while not ((status := await follower_status(redis, keys, name)) and status.waiting == 0):
            await asyncio.sleep(0.01)


async def wait_until_at(redis: Redis, keys: Keys, position: str, name: str = "f") -> None:
    """Waits until everything up to an entry has been recorded as done."""
    async with asyncio.timeout(60):
        while not (
            (status := await follower_status(redis, keys, name)) and status.position == position
        ):
            await asyncio.sleep(0.01)


async def test_a_new_name_begins_with_what_comes_from_now_on(redis: Redis, keys: Keys) -> None:
    await publish(redis, keys, "old", range(3))
    received = Received()
    async with following(EventFollower(redis, keys, "f", received, concurrency=4)):
        await wait_until_led(redis, keys)
        await publish(redis, keys, "new", range(3))
        await wait_until(lambda: len(received.events) == 3)
        await wait_until_recorded(redis, keys)
    assert received.of("new") == [0, 1, 2]
    assert received.of("old") == []


async def test_the_events_of_a_command_are_handled_in_order_and_others_beside_them(
    redis: Redis, keys: Keys
) -> None:
    running: set[str] = set()
    most = 0
    received = Received()

    async def handle(event: Event, text: bytes) -> None:
        nonlocal most
        assert event.command_id not in running
        running.add(event.command_id)
        most = max(most, len(running))
        await asyncio.sleep(random.uniform(0, 0.01))
        running.discard(event.command_id)
        await received(event, text)

    await begin(redis, keys)
    for number in range(20):
        for subject in "abcdefgh":
            await publish(redis, keys, subject, range(number, number + 1))
    async with following(EventFollower(redis, keys, "f", handle, concurrency=5)):
        await wait_until(lambda: len(received.events) == 160)
    assert most == 5
    for subject in "abcdefgh":
        assert received.of(subject) == list(range(20))


async def test_one_process_leads_and_another_goes_on_where_it_died(
    redis: Redis, keys: Keys
) -> None:
    first, second = Received(), Received()
    async with killed(EventFollower(redis, keys, "f", first, concurrency=4)):
        await wait_until_led(redis, keys)
        stand_by = EventFollower(redis, keys, "f", second, concurrency=4)
        async with following(stand_by):
            await publish(redis, keys, "a", range(50))
            await wait_until(lambda: len(first.events) == 50)
            await wait_until_recorded(redis, keys)
            assert second.events == []
    async with following(EventFollower(redis, keys, "f", second, concurrency=4)):
        await publish(redis, keys, "a", range(50, 60))
        await wait_until(lambda: len(second.events) >= 10)
    assert second.of("a") == list(range(50, 60))


async def test_what_a_killed_leader_had_in_hand_is_handled_again_in_order(
    redis: Redis, keys: Keys
) -> None:
    first, second = Received(), Received()

    async def hang(event: Event, text: bytes) -> None:
        await first(event, text)
        if event.command_id == "stuck":
            await asyncio.Event().wait()

    await begin(redis, keys)
    await publish(redis, keys, "before", range(3))
    await publish(redis, keys, "stuck", range(2))
    await publish(redis, keys, "after", range(30))
    async with killed(EventFollower(redis, keys, "f", hang, concurrency=4)):
        await wait_until(lambda: len(first.of("after")) == 30)
        # Of what is done only that counts before which all is done.
        async with asyncio.timeout(60):
            while (status := await follower_status(redis, keys, "f")) and status.waiting != 32:
                await asyncio.sleep(0.01)
    async with following(EventFollower(redis, keys, "f", second, concurrency=4)):
        await wait_until(lambda: len(second.of("after")) == 30)
        await wait_until_recorded(redis, keys)
    assert second.of("stuck") == [0, 1]
    assert second.of("after") == list(range(30))


async def test_what_nobody_wants_moves_the_position_all_the_same(redis: Redis, keys: Keys) -> None:
    received = Received()
    follower = EventFollower(
        redis, keys, "f", received, concurrency=1, wants=lambda event: event.command_id == "wanted"
    )
    async with following(follower):
        await wait_until_led(redis, keys)
        await publish(redis, keys, "other", range(200))
        await publish(redis, keys, "wanted", range(1))
        await redis.xadd(keys.events, {"odd": "nothing of ours"})
        await redis.xadd(keys.events, {"event": "not JSON"})
        await wait_until(lambda: received.events)
        await wait_until_recorded(redis, keys)
    assert received.events == [("wanted", 0)]


async def test_an_event_whose_handler_fails_each_time_is_set_aside_and_told(
    redis: Redis, keys: Keys
) -> None:
    received = Received()

    async def handle(event: Event, text: bytes) -> None:
        if event.data["number"] == 1:
            raise KeyError("of the handler")
        await received(event, text)

    async with following(EventFollower(redis, keys, "f", handle, concurrency=1)):
        await wait_until_led(redis, keys)
        with structlog.testing.capture_logs() as logs:
            await publish(redis, keys, "a", range(3))
            await wait_until(lambda: len(received.events) == 2)
            await wait_until_recorded(redis, keys)
    ((_, parked),) = await entries_between(redis, f"{keys.prefix}parked:f", "-", "+")
    assert b'"number":1' in parked[b"event"]
    assert b"KeyError" in parked[b"error"]
    assert "follower.event_parked" in {line["event"] for line in logs}


async def test_of_the_events_that_are_set_aside_the_last_are_kept(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handle(event: Event, text: bytes) -> None:
        del event, text
        raise KeyError("of the handler")

    monkeypatch.setattr(leadership, "MOST_PARKED", 3)
    monkeypatch.setattr(leadership, "TRIES", 1)
    parked = f"{keys.prefix}parked:f"
    async with following(EventFollower(redis, keys, "f", handle, concurrency=1)):
        await wait_until_led(redis, keys)
        await publish(redis, keys, "a", range(5))
        await wait_until_recorded(redis, keys)
    texts = [fields[b"event"] for _, fields in await entries_between(redis, parked, "-", "+")]
    assert [orjson.loads(each)["data"]["number"] for each in texts] == [2, 3, 4]


async def begin_and_lose(redis: Redis, keys: Keys) -> None:
    """Has a follower begin before 30 events, of which 25 are trimmed unread."""
    await begin(redis, keys)
    await publish(redis, keys, "lost", range(25))
    await publish(redis, keys, "kept", range(5))
    await redis.xtrim(keys.events, maxlen=5, approximate=False)


async def test_events_that_were_trimmed_unread_are_told_by_log_and_state(
    redis: Redis, keys: Keys
) -> None:
    await begin_and_lose(redis, keys)
    received = Received()
    with structlog.testing.capture_logs() as logs:
        async with following(EventFollower(redis, keys, "f", received, concurrency=1)):
            await wait_until(lambda: len(received.events) == 5)
            await wait_until_recorded(redis, keys)
    (told,) = [line for line in logs if line["event"] == "follower.events_missed"]
    assert told["events"] == 25
    status = await follower_status(redis, keys, "f")
    assert status is not None
    assert status.missed == 25
    assert status.missed_at_ms is not None


async def test_what_is_found_missing_while_a_position_is_recorded_counts_too(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin_and_lose(redis, keys)
    received = Received()
    follower = EventFollower(redis, keys, "f", received, concurrency=1)
    lead = follower.store.lead

    async def record_late(token: int, **told: Any) -> Any:
        if token != NOBODY:
            await wait_until(lambda: len(received.events) == 5)
        return await lead(token, **told)

    monkeypatch.setattr(follower.store, "lead", record_late)
    async with following(follower):
        await wait_until_recorded(redis, keys)
    status = await follower_status(redis, keys, "f")
    assert status is not None
    assert status.missed == 25


async def test_what_is_trimmed_while_slow_handlers_leave_no_room_is_told(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower that had read all there was may be as far behind as any, a moment later."""
    monkeypatch.setattr(event_window, "MOST_ENTRIES", 2)
    subjects: list[str] = []
    go_on = asyncio.Event()

    async def handle(event: Event, _text: bytes) -> None:
        subjects.append(event.command_id)
        if event.command_id != "quick":
            await go_on.wait()

    async with following(EventFollower(redis, keys, "f", handle, concurrency=2)):
        await wait_until_led(redis, keys)
        await publish(redis, keys, "quick", range(1))
        await wait_until_recorded(redis, keys)
        await publish(redis, keys, "slow", range(1))
        await publish(redis, keys, "slower", range(1))
        await wait_until(lambda: len(subjects) == 3)
        await publish(redis, keys, "quick", range(1, 11))
        await redis.xtrim(keys.events, maxlen=3, approximate=False)
        go_on.set()
        await wait_until(lambda: len(subjects) == 6)
        await wait_until_recorded(redis, keys)
    status = await follower_status(redis, keys, "f")
    assert status is not None
    assert status.missed == 7


async def test_what_is_trimmed_while_the_connection_is_lost_is_told(
    redis: Redis, redis_url: str, keys: Keys
) -> None:
    """A follower that had read all there was, and waits for more."""
    received = Received()
    async with (
        connect(redis_url) as lost,
        following(EventFollower(lost, keys, "f", received, concurrency=1)),
    ):
        await wait_until_led(redis, keys)
        await publish(redis, keys, "a", range(1))
        await wait_until_recorded(redis, keys)
        reads: list[Any] = []
        async with asyncio.timeout(60):
            while not reads:
                reads = [each for each in await redis.client_list() if each["cmd"] == "xread"]
        async with redis.pipeline(transaction=True) as pipe:
            for each in reads:
                pipe.client_kill_filter(_id=each["id"])
            for number in range(1, 6):
                pipe.xadd(keys.events, {"event": event_text("a", number)})
            pipe.xtrim(keys.events, maxlen=2, approximate=False)
            await pipe.execute()
        await wait_until(lambda: received.of("a") == [0, 4, 5])
        await wait_until_recorded(redis, keys)
    status = await follower_status(redis, keys, "f")
    assert status is not None
    assert status.missed == 3


async def test_a_follower_that_someone_wrote_over_is_told_as_far_as_it_can_be_read(
    redis: Redis, keys: Keys
) -> None:
    """Or one of several sinks would hide all, and each scrape of a gateway's metrics would fail."""
    names = ("until", "number", "seen", "missed", "missed_at", "leader")
    for position in (b"somewhere", b"\xff", b"1-x"):
        for name, value in (("position", position), *((each, b"\xff") for each in names)):
            await redis.hset(follower_key(keys, "f"), name, value)
        status = await follower_status(redis, keys, "f")
        assert status is not None
        assert (status.leader, status.position, status.missed) == ("", "0-0", 0)


async def test_a_follower_is_behind_by_the_age_of_what_it_has_not_done(
    redis: Redis, keys: Keys
) -> None:
    """Not by the time in which nothing happened before that."""
    now_ms = (await redis.time())[0] * 1000
    await redis.xadd(keys.events, {"event": "{}"}, id=f"{now_ms - 7_200_000}-0")
    await begin(redis, keys)
    status = await follower_status(redis, keys, "f")
    assert status is not None
    assert (status.waiting, status.behind_seconds) == (0, 0)
    await redis.xadd(keys.events, {"event": "{}"}, id=f"{now_ms - 60_000}-0")
    seconds, microseconds = await redis.time()
    status = await follower_status(redis, keys, "f")
    later, _ = await redis.time()
    assert status is not None
    assert status.waiting == 1
    event_at = now_ms / 1000 - 60
    assert seconds + microseconds / 1e6 - event_at - 0.001 <= status.behind_seconds
    assert status.behind_seconds <= later + 1 - event_at


async def test_a_stream_that_was_trimmed_behind_its_readers_lost_nothing(
    redis: Redis, keys: Keys
) -> None:
    """Nor one of which somebody deleted entries, nor one that is trimmed to nothing."""
    received = Received()
    async with following(EventFollower(redis, keys, "f", received, concurrency=1)):
        await wait_until_led(redis, keys)
        await publish(redis, keys, "a", range(30))
        deleted = await redis.xadd(keys.events, {"event": "x"})
        assert isinstance(deleted, bytes)
        # Before it is read, it would be one that was missed.
        await wait_until_at(redis, keys, deleted.decode())
        await redis.xdel(keys.events, deleted)
        assert len(received.events) == 30
        await redis.xtrim(keys.events, maxlen=0, approximate=False)
        await publish(redis, keys, "b", range(5))
        await wait_until(lambda: len(received.events) == 35)
    async with following(EventFollower(redis, keys, "f", received, concurrency=1)):
        await publish(redis, keys, "c", range(5))
        await wait_until(lambda: len(received.events) == 40)
    status = await follower_status(redis, keys, "f")
    assert status is not None
    assert status.missed == 0


async def test_a_stream_that_somebody_deleted_is_followed_from_its_new_beginning(
    redis: Redis, keys: Keys
) -> None:
    received = Received()
    async with following(EventFollower(redis, keys, "f", received, concurrency=1)):
        await wait_until_led(redis, keys)
        # In the future: the new stream's entries come before these.
        await redis.xadd(keys.events, {"event": "x"}, id="9999999999999-0")
        await wait_until_recorded(redis, keys)
        await redis.delete(keys.events)
        await publish(redis, keys, "new", range(5))
        await wait_until(lambda: len(received.of("new")) >= 5)
    assert received.of("new") == [0, 1, 2, 3, 4]


async def test_a_follower_lives_through_the_death_of_redis(tmp_path: Path, keys: Keys) -> None:
    received = Received()
    config = {"appendonly": "yes", "appendfsync": "always"}
    with EmbeddedRedis(tmp_path / "redis", config=config) as server:
        redis = connect(server.url)
        try:
            async with following(EventFollower(redis, keys, "f", received, concurrency=4)):
                await wait_until_led(redis, keys)
                for turn in range(3):
                    # With a connection of its own, for those of the follower may be dead.
                    producer = connect(server.url)
                    await publish(producer, keys, "a", range(turn * 10, turn * 10 + 10))
                    await producer.aclose()
                    await wait_until(partial(received.has_more_than, turn * 10))
                    server.kill()
                    server.start()
                await wait_until(lambda: len(set(received.events)) == 30)
                looker = connect(server.url)
                await wait_until_recorded(looker, keys)
                await looker.aclose()
        finally:
            await redis.aclose()
    assert list(dict.fromkeys(received.of("a"))) == list(range(30))


async def test_a_leader_that_was_replaced_hands_nothing_more_over(redis: Redis, keys: Keys) -> None:
    first, second = Received(), Received()
    leads: list[Lead] = []

    async def beside(lead: Lead) -> None:
        leads.append(lead)
        await asyncio.Event().wait()

    async with following(EventFollower(redis, keys, "f", first, concurrency=1, beside=beside)):
        await wait_until_led(redis, keys)
        # Another one has taken the lead, and is silent.
        await redis.hincrby(follower_key(keys, "f"), "token", 1)
        await wait_until(lambda: not leads[0].holds)
        await publish(redis, keys, "a", range(3))
        async with following(EventFollower(redis, keys, "f", second, concurrency=1)):
            await wait_until(lambda: len(first.events) + len(second.events) >= 3)
    assert [first.of("a"), second.of("a")] in ([[0, 1, 2], []], [[], [0, 1, 2]])


async def test_a_stop_lets_handlers_end_and_records_what_they_did(redis: Redis, keys: Keys) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()
    handled: list[Any] = []

    async def handle(event: Event, _text: bytes) -> None:
        begun.set()
        await goes_on.wait()
        handled.append(event.data["number"])

    async with following(EventFollower(redis, keys, "f", handle, concurrency=1)) as stop:
        await wait_until_led(redis, keys)
        await publish(redis, keys, "a", range(2))
        await begun.wait()
        stop.set()
        await asyncio.sleep(0.1)
        goes_on.set()
    assert handled == [0]
    received = Received()
    async with following(EventFollower(redis, keys, "f", received, concurrency=1)):
        await wait_until(lambda: received.events)
    assert received.of("a") == [1]


async def test_a_handler_that_redis_fails_is_tried_for_as_long_as_it_takes(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is set aside for that, however often it happens."""
    monkeypatch.setattr(leadership, "next_pause", lambda _: 0.001)
    received = Received()
    failures = 2 * leadership.TRIES

    async def handle(event: Event, text: bytes) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise RedisConnectionError("away")
        await received(event, text)

    async with following(EventFollower(redis, keys, "f", handle, concurrency=1)):
        await wait_until_led(redis, keys)
        await publish(redis, keys, "a", range(2))
        await wait_until(lambda: len(received.events) == 2)
        await wait_until_recorded(redis, keys)
    assert received.of("a") == [0, 1]
    assert not await redis.exists(f"{keys.prefix}parked:f")


async def test_an_event_is_tried_so_often_before_it_is_set_aside_and_not_at_once(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "LONGEST_PAUSE_SECONDS", 0.05)
    tried: list[float] = []

    async def handle(event: Event, text: bytes) -> None:
        del event, text
        tried.append(asyncio.get_running_loop().time())
        raise KeyError("of the handler")

    async with following(EventFollower(redis, keys, "f", handle, concurrency=1)):
        await wait_until_led(redis, keys)
        with structlog.testing.capture_logs():
            await publish(redis, keys, "a", range(1))
            await wait_until_recorded(redis, keys)
        ((_, parked),) = await entries_between(redis, f"{keys.prefix}parked:f", "-", "+")
    assert len(tried) == leadership.TRIES
    assert parked[b"tries"] == b"%d" % leadership.TRIES
    assert all(after - before >= 0.02 for before, after in pairwise(tried))


async def test_what_is_read_again_after_trouble_is_not_handed_over_again(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next read begins at what is done, and what is in hand comes after that."""
    received = Received()
    go_on = asyncio.Event()
    broken = False
    read = entries_after

    async def read_or_break(*args: Any, **named: Any) -> Any:
        nonlocal broken
        found = await read(*args, **{**named, "block_ms": 20})
        if received.events and not broken:
            broken = True
            raise RedisConnectionError("away")
        return found

    async def handle(event: Event, text: bytes) -> None:
        await received(event, text)
        await go_on.wait()

    monkeypatch.setattr(leadership, "entries_after", read_or_break)
    async with following(EventFollower(redis, keys, "f", handle, concurrency=4)):
        await wait_until_led(redis, keys)
        for subject in "abc":
            await publish(redis, keys, subject, range(2))
        await wait_until(lambda: len(received.events) == 3 and broken)
        await publish(redis, keys, "d", range(1))
        await wait_until(lambda: "d" in {subject for subject, _ in received.events})
        go_on.set()
        await wait_until_recorded(redis, keys)
    assert sorted(received.events) == [
        *(("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 0), ("c", 1), ("d", 0))
    ]
    status = await follower_status(redis, keys, "f")
    assert status is not None
    assert status.missed == 0


async def test_a_defect_ends_the_follower_with_its_error(redis: Redis, keys: Keys) -> None:
    """Or its position would stand still without a word."""

    class DefectError(BaseException):
        pass

    async def handle(event: Event, text: bytes) -> None:
        del event, text
        raise DefectError

    follower = EventFollower(redis, keys, "f", handle, concurrency=1)
    task = asyncio.create_task(follower.run(asyncio.Event()))
    await wait_until_led(redis, keys)
    await publish(redis, keys, "a", range(1))
    with pytest.raises(DefectError):
        await asyncio.wait_for(task, 60)
    status = await follower_status(redis, keys, "f")
    assert status is not None
    # What was not done is left to the next leader, at once.
    assert (status.leader, status.waiting) == ("", 1)


async def test_who_can_not_ask_for_the_lead_asks_again(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.integrations.event_follower.STAND_BY_SECONDS", 0.02)
    received = Received()
    follower = EventFollower(redis, keys, "f", received, concurrency=1)
    lead, refused = follower.store.lead, 0

    async def refuse(*args: Any, **named: Any) -> Any:
        nonlocal refused
        if refused < 3:
            refused += 1
            raise RedisConnectionError("away")
        return await lead(*args, **named)

    monkeypatch.setattr(follower.store, "lead", refuse)
    with structlog.testing.capture_logs() as logs:
        async with following(follower):
            await wait_until_led(redis, keys)
            await publish(redis, keys, "a", range(1))
            await wait_until(lambda: received.events)
    events = [line["event"] for line in logs]
    assert events.count("redis.lost") == 1
    assert events.count("redis.back") == 1


async def test_a_lease_is_trusted_from_when_it_was_asked_for(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis counts it from some moment before its answer; another may lead from then on."""
    leads: list[float] = []

    async def beside(lead: Lead) -> None:
        leads.append(lead._until)

    follower = EventFollower(redis, keys, "f", Received(), concurrency=1, beside=beside)
    ask, asked = follower.store.lead, list[float]()

    async def note(*args: Any, **named: Any) -> Any:
        asked.append(time.monotonic())
        return await ask(*args, **named)

    monkeypatch.setattr(follower.store, "lead", note)
    async with following(follower):
        await wait_until(lambda: leads)
    assert leads[0] <= asked[0] + LEASE_SECONDS - leadership.LEASE_MARGIN_SECONDS


def has_more_than(begun: list[str], events: int) -> bool:
    return len(begun) > events


async def test_no_more_is_read_than_may_be_in_hand(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By number or by bytes, in steps of a batch."""
    monkeypatch.setattr(leadership, "BATCH", 2)
    for name, most in (("MOST_ENTRIES", 4), ("MOST_BYTES", 600)):
        begun: list[str] = []
        go_on = asyncio.Event()

        async def handle(
            event: Event, _text: bytes, begun: list[str] = begun, go_on: asyncio.Event = go_on
        ) -> None:
            begun.append(event.command_id)
            await go_on.wait()

        with monkeypatch.context() as patch:
            patch.setattr(event_window, name, most)
            async with following(EventFollower(redis, keys, name, handle, concurrency=20)):
                await wait_until_led(redis, keys, name)
                for subject in "abcdefghij":
                    await publish(redis, keys, subject, range(1))
                await wait_until(partial(has_more_than, begun, 2))
                await asyncio.sleep(0.1)
                assert len(begun) <= 5, name
                go_on.set()
                await wait_until_recorded(redis, keys, name)
        assert sorted(begun) == list("abcdefghij")


async def test_a_follower_that_has_read_all_waits_for_more_and_does_not_ask_again_and_again(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = Received()
    follower = EventFollower(redis, keys, "f", received, concurrency=1)
    read, asked = follower.store.read, 0

    async def count(position: str, most: int) -> Any:
        nonlocal asked
        asked += 1
        return await read(position, most)

    monkeypatch.setattr(follower.store, "read", count)
    async with following(follower):
        await wait_until_led(redis, keys)
        await publish(redis, keys, "a", range(1))
        await wait_until(lambda: received.events)
        before = asked
        await asyncio.sleep(0.5)
        assert asked - before <= 2
