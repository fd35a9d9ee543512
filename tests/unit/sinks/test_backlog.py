"""What waits of a sink, without Redis: how much of it there may be, and whose turn it is."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from trainmaster_client import Event
from worker.integrations.lead import NotHandledError
from worker.sinks import backlog as bounds
from worker.sinks.backlog import Backlog
from worker.sinks.deferred import CommandQueue, DeferredEvent


def waiting(subject: str = "a", number: int = 1, size: int = 1) -> DeferredEvent:
    entry_id = f"{number}-0"
    return DeferredEvent(entry_id, Event(entry_id, {"subject": subject}), b"x" * size)


def go_on() -> None:
    """The follower is not to stop."""


async def has_room(backlog: Backlog, size: int = 1) -> bool:
    """Tells whether an event of so many bytes may wait now."""
    entering = asyncio.ensure_future(backlog.wait_for_room(size, go_on))
    for _ in range(5):
        await asyncio.sleep(0)
    entering.cancel()
    return entering.done() and not entering.cancelled()


def due(backlog: Backlog) -> list[str]:
    """Takes all that is due, in its order."""
    found = []
    while (each := backlog.next_due()) is not None:
        found.append(each[0])
    return found


async def test_no_more_events_wait_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_WAITING", 2)
    backlog = Backlog()
    queue = backlog.append(waiting(number=1))
    assert await has_room(backlog)
    backlog.append(waiting(number=2))
    assert not await has_room(backlog)
    backlog.settle(queue)
    assert len(backlog) == 1
    assert await has_room(backlog)


async def test_no_more_bytes_wait_than_there_may_be_but_one_event_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "MOST_WAITING_BYTES", 100)
    backlog = Backlog()
    assert await has_room(backlog, 1_000), "or an event of that size would wait for ever"
    queue = backlog.append(waiting(number=1, size=60))
    assert await has_room(backlog, 40)
    assert not await has_room(backlog, 41)
    backlog.append(waiting(number=2, size=40))
    backlog.settle(queue)
    assert await has_room(backlog, 60)
    assert not await has_room(backlog, 61)


async def test_who_waits_for_room_gets_it_once_an_event_is_settled_or_ends_with_the_follower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "MOST_WAITING", 1)
    backlog = Backlog()
    queue = backlog.append(waiting())
    ends = False

    def check() -> None:
        if ends:
            raise NotHandledError

    entering = [asyncio.ensure_future(backlog.wait_for_room(1, check)) for _ in range(2)]
    await asyncio.sleep(0)
    backlog.settle(queue)
    async with asyncio.timeout(60):
        await asyncio.gather(*entering)
    backlog.append(waiting(number=2))
    late = asyncio.ensure_future(backlog.wait_for_room(1, check))
    await asyncio.sleep(0)
    ends = True
    backlog.settled.set()
    for each in (late, backlog.wait_for_room(1, check)):
        with pytest.raises(NotHandledError):
            await asyncio.wait_for(each, 60)


async def test_what_is_due_comes_in_the_order_of_its_times_and_each_once() -> None:
    backlog, now = Backlog(), time.monotonic()
    assert backlog.due_seconds == math.inf
    for subject, at in (("a", now - 1), ("b", now - 2), ("c", now + 60)):
        backlog.schedule(subject, backlog.append(waiting(subject), CommandQueue(due=at)))
    assert due(backlog) == ["b", "a"]
    assert 50 < backlog.due_seconds <= 60
    backlog.schedule_all()
    assert due(backlog) == ["a", "b", "c"]
    assert due(backlog) == []


async def test_what_is_tried_at_this_moment_or_was_put_off_again_is_not_due() -> None:
    backlog, now = Backlog(), time.monotonic()
    queue = backlog.append(waiting(), CommandQueue(due=now - 1))
    backlog.schedule("a", queue)
    queue.running = True
    assert due(backlog) == []
    queue.running = False
    backlog.schedule("a", queue)
    queue.due = now + 60
    backlog.schedule("a", queue)
    assert due(backlog) == []


async def test_a_queue_is_scheduled_after_a_try_or_forgotten_with_its_last_event() -> None:
    backlog = Backlog()
    queue = backlog.append(waiting(number=1), CommandQueue(tries=3, since_ms=5))
    backlog.append(waiting(number=2))
    queue.running = True
    backlog.settle(queue)
    assert (queue.tries, queue.since_ms) == (0, 0), "those were of the first one"
    backlog.wake.clear()
    backlog.release("a", queue)
    assert backlog.wake.is_set()
    assert due(backlog) == ["a"]
    backlog.settle(queue)
    assert "a" in backlog
    backlog.release("a", queue)
    assert "a" not in backlog
    assert not backlog


async def test_an_event_waits_once_however_often_it_is_told_to() -> None:
    backlog = Backlog()
    queue = backlog.append(waiting(number=1, size=7))
    assert backlog.append(waiting(number=1, size=7)) is queue
    backlog.append(waiting(number=2))
    assert len(backlog) == len(queue.entries) == 2
    assert backlog.holds(waiting(number=2))
    assert not backlog.holds(waiting(number=3))
    assert not backlog.holds(waiting("b", number=1))


async def test_the_next_probe_is_of_the_command_that_was_tried_longest_ago() -> None:
    backlog = Backlog()
    for subject in "abc":
        backlog.append(waiting(subject))
    probed = []
    for _ in range(4):
        subject, _ = backlog.oldest()
        probed.append(subject)
        backlog.put_last(subject)
    assert probed == ["a", "b", "c", "a"]
