"""The sender of a sink: what it sends at a time, what it puts off, and what it reports."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.integration.integrations.published import event_text, wait_until
from tests.integration.sinks.serving import QUICK
from trainmaster_client.events import event_of
from worker.integrations.follower_store import NOBODY, FollowerStore
from worker.integrations.lead import Lead, NotHandledError
from worker.queue.ledger.outage import Outage
from worker.sinks import backlog as bounds
from worker.sinks import sender as module
from worker.sinks.deferred import SinkStore
from worker.sinks.destinations import Answer, DeliveryError
from worker.sinks.keys import follower_name
from worker.sinks.sender import Sender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from trainmaster_client import Event
    from worker.queue.ledger.keys import Keys
    from worker.sinks.delivery_policy import DeliveryPolicy


class Destination:
    """Refuses the commands that it is told to, and may keep whoever sends waiting."""

    def __init__(self, *refused: str) -> None:
        self.refused = set(refused)
        self.asked: list[str] = []
        self.sent: list[tuple[str, int]] = []
        self.error = DeliveryError("no")
        self.open = asyncio.Event()
        self.open.set()
        self.running: list[str] = []
        self.most = 0

    async def send(self, event: Event, text: bytes) -> Answer:
        assert text
        subject = event.command_id
        self.asked.append(subject)
        self.running.append(subject)
        self.most = max(self.most, len(self.running))
        try:
            await self.open.wait()
            if subject in self.refused:
                raise self.error
        finally:
            self.running.remove(subject)
        self.sent.append((subject, event.data["number"]))
        return Answer("taken")

    async def close(self) -> None:
        await asyncio.sleep(0)


class Sink:
    """A sender that leads, without a follower: events are handed to it by the test."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self.store = SinkStore(redis, keys, "ops")
        self._entries = 0

    @asynccontextmanager
    async def leading(
        self,
        destination: Destination,
        concurrency: int = 4,
        policy: DeliveryPolicy = QUICK,
        sender: Sender | None = None,
    ) -> AsyncIterator[Sink]:
        follower = FollowerStore(self._redis, self._keys, follower_name("ops"))
        taken = await follower.lead(NOBODY, lease_ms=1, holder="me")
        self.lead = Lead(taken.token, time.monotonic() + 3_600)
        self.sender = sender or Sender(
            "ops",
            destination,
            self.store,
            concurrency=concurrency,
            policy=policy,
            outage=Outage(),
        )
        task = asyncio.create_task(self.sender.lead(self.lead))
        try:
            yield self
        finally:
            self.lead.ending.set()
            task.cancel()
            await asyncio.wait({task})

    def handle(self, subject: str, number: int = 0) -> asyncio.Task[None]:
        """Hands over an event, as the follower does."""
        self._entries += 1
        text = event_text(subject, number)
        event = event_of(b"%d-0" % self._entries, {b"event": text})
        assert event is not None
        return asyncio.create_task(self.sender.handle(event, text))

    async def waiting(self) -> int:
        """Returns how many events wait in Redis."""
        return (await self.store.counts())[0]

    async def until_waiting(self, events: int) -> None:
        async with asyncio.timeout(60):
            while await self.waiting() != events:
                await asyncio.sleep(0.01)


@pytest.fixture
def sink(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Sink:
    monkeypatch.setattr(module, "REPORT_SECONDS", 0.02)
    return Sink(redis, keys)


async def test_what_redis_did_not_take_of_the_counts_is_reported_later(
    sink: Sink, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = Destination("b")
    refuses = True
    pipeline = redis.pipeline
    is_asked, may_fail = asyncio.Event(), asyncio.Event()

    async def fail(*_: Any, **__: Any) -> Any:
        is_asked.set()
        await may_fail.wait()
        raise RedisConnectionError("away")

    def refuse(*args: Any, **named: Any) -> Any:
        pipe = pipeline(*args, **named)
        if refuses:
            monkeypatch.setattr(pipe, "execute", fail)
        return pipe

    async with sink.leading(destination, policy=replace(QUICK, first_seconds=60.0)):
        monkeypatch.setattr(redis, "pipeline", refuse)
        await sink.handle("a", 0)
        await is_asked.wait()
        # What comes while a report is under way is counted beside what that was to tell.
        for number in (1, 2):
            await sink.handle("a", number)
        await sink.handle("b")
        refuses = False
        may_fail.set()
        async with asyncio.timeout(60):
            while (state := await sink.store.state()).delivered < 3:
                await asyncio.sleep(0.01)
    assert (state.delivered, state.failed, state.last_error) == (3, 1, "no")
    now_ms = time.time() * 1000
    for at_ms in (state.last_delivered_at_ms, state.last_error_at_ms):
        assert now_ms - 60_000 < at_ms <= now_ms


async def test_what_is_tried_again_leaves_half_of_the_slots_to_what_is_new(sink: Sink) -> None:
    destination = Destination(*"abcdef")
    async with sink.leading(destination, policy=replace(QUICK, down_after=100)):
        await asyncio.gather(*map(sink.handle, "abcdef"))
        destination.open.clear()
        await wait_until(lambda: len(destination.running) == 2)
        new = [sink.handle(subject) for subject in "xy"]
        await wait_until(lambda: {"x", "y"} <= set(destination.running))
        assert len(destination.running) == 4
        destination.refused.clear()
        destination.open.set()
        await asyncio.gather(*new)
        await sink.until_waiting(0)
    assert sorted(destination.sent) == [(subject, 0) for subject in "abcdefxy"]


async def test_a_sink_of_one_slot_tries_again_too(sink: Sink) -> None:
    destination = Destination("a")
    async with sink.leading(destination, concurrency=1):
        await sink.handle("a", 0)
        await sink.handle("a", 1)
        destination.refused.clear()
        await sink.until_waiting(0)
    assert destination.sent == [("a", 0), ("a", 1)]
    assert destination.most == 1


async def test_an_endpoint_that_is_down_is_asked_by_one_command_after_the_other(
    sink: Sink,
) -> None:
    """What comes meanwhile waits in the stream: nothing more is copied, nothing more is sent."""
    destination = Destination(*"abc", "new")
    policy = replace(QUICK, down_after=3, probe_seconds=0.02, longest_probe_seconds=0.02)
    async with sink.leading(destination, policy=policy):
        await asyncio.gather(*map(sink.handle, "abc"))
        new = sink.handle("new")
        begun = len(destination.asked)
        await wait_until(lambda: len(destination.asked) >= begun + 6)
        probes = destination.asked[begun : begun + 6]
        assert sorted(probes[:3]) == ["a", "b", "c"]
        assert probes[3:] == probes[:3]
        destination.open.clear()
        await wait_until(lambda: bool(destination.running))
        await asyncio.sleep(0.1)
        assert len(destination.running) == 1
        assert not new.done()
        assert await sink.waiting() == 3
        destination.refused.clear()
        destination.open.set()
        await new
        await sink.until_waiting(0)
    assert sorted(destination.sent) == [(subject, 0) for subject in ("a", "b", "c", "new")]


async def test_no_more_events_are_put_off_than_may_wait(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_WAITING", 2)
    destination = Destination("a", "b", "c")
    async with sink.leading(destination, policy=replace(QUICK, down_after=100)):
        await asyncio.gather(*map(sink.handle, "ab"))
        third, behind = sink.handle("c"), sink.handle("a", 1)
        await wait_until(lambda: "c" in destination.asked)
        await asyncio.sleep(0.1)
        assert await sink.waiting() == 2
        assert not third.done()
        assert not behind.done()
        sink.lead.ending.set()
        for each in (third, behind):
            with pytest.raises(NotHandledError):
                await asyncio.wait_for(each, 60)


async def test_a_sink_that_is_paused_by_its_endpoint_sends_nothing_until_somebody_resumes_it(
    sink: Sink,
) -> None:
    destination = Destination("a", "b")
    destination.error = DeliveryError("gone" + "!" * 2_000, gone=True)
    async with sink.leading(destination):
        await sink.handle("a")
        held = sink.handle("b")
        async with asyncio.timeout(60):
            while not (state := await sink.store.state()).paused:
                await asyncio.sleep(0.01)
        assert "the endpoint wants no more events: gone!" in state.paused
        assert len(state.paused) == 500
        assert state.paused_at_ms > 0
        await asyncio.sleep(0.3)
        assert destination.asked == ["a"]
        destination.refused.clear()
        await sink.store.resume(int(time.time() * 1000))
        await held
        await sink.until_waiting(0)
    assert sorted(destination.sent) == [("a", 0), ("b", 0)]


async def test_who_leads_again_begins_with_what_redis_knows(sink: Sink) -> None:
    destination = Destination("a")
    async with sink.leading(destination, policy=replace(QUICK, first_seconds=3_600.0)):
        await sink.handle("a", 0)
        await sink.handle("a", 1)
    destination.refused.clear()
    async with sink.leading(destination):
        await sink.handle("a", 2)
        await sink.until_waiting(0)
    assert destination.sent == [("a", 0), ("a", 1), ("a", 2)]


async def test_a_process_that_leads_again_knows_nothing_of_its_first_time(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint counts as up, and nothing is sent before it is known what waits."""
    hour = 3_600.0
    policy = replace(
        QUICK, first_seconds=hour, down_after=1, probe_seconds=hour, longest_probe_seconds=hour
    )
    destination = Destination("a")
    async with sink.leading(destination, policy=policy):
        await sink.handle("a", 0)
    destination.refused.clear()
    load, may_load = sink.store.load, asyncio.Event()

    async def load_late() -> Any:
        await may_load.wait()
        return await load()

    monkeypatch.setattr(sink.store, "load", load_late)
    async with sink.leading(destination, sender=sink.sender):
        handed = [sink.handle("a", 1), sink.handle("b")]
        await asyncio.sleep(0.05)
        assert destination.sent == []
        may_load.set()
        await asyncio.gather(*handed)
        await sink.until_waiting(0)
    assert [number for subject, number in destination.sent if subject == "a"] == [0, 1]
    assert ("b", 0) in destination.sent
