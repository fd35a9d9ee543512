"""Who did what: what an entry holds, when there is none, and that it costs no act anything."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from worker.queue.ledger import actions
from worker.queue.ledger.actions import MAX_DETAILS_BYTES, Action, ActionLog
from worker.queue.ledger.connection import connect
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys


@pytest.fixture
def log(redis: Redis, keys: Keys) -> ActionLog:
    """The log of the test's namespace."""
    return ActionLog(redis, keys)


async def told(log: ActionLog, **choice: Any) -> list[Action]:
    return [each async for each in log.list(**choice)]


async def act(
    log: ActionLog, who: str = "ann", what: str = "lane.resume", on: str = "bulk"
) -> None:
    async with log.recorded(who, what, on) as entry:
        entry.done()


async def test_an_act_that_is_done_is_told_with_who_when_and_what(log: ActionLog) -> None:
    begun = time.time() * 1000
    async with log.recorded("ann", "commands.cancel", filter={"type": "train"}) as entry:
        entry.done(outcomes={"cancelled": 1})
        entry.done(outcomes={"cancelled": 2})
    (found,) = await told(log)
    assert (found.who, found.act, found.subject) == ("ann", "commands.cancel", None)
    assert found.details == {"filter": {"type": "train"}, "outcomes": {"cancelled": 2}}
    assert abs(found.at_ms - begun) < 60_000


async def test_what_is_refused_or_only_tried_is_not_told(log: ActionLog) -> None:
    async with log.recorded("ann", "command.cancel", "nobody"):
        pass
    with suppress(LookupError):
        async with log.recorded("ann", "command.cancel", "nobody"):
            raise LookupError
    with suppress(ResponseError):
        async with log.recorded("ann", "command.cancel", "one"):
            raise ResponseError("OOM command not allowed when used memory > 'maxmemory'.")
    async with log.recorded("ann", "dead_letters.purge", dry_run=True) as entry:
        entry.done()
    with suppress(RedisConnectionError):
        async with log.recorded("ann", "dead_letters.purge", dry_run=True):
            raise RedisConnectionError
    assert await told(log) == []


async def test_half_an_act_is_told_with_as_much_as_was_done(log: ActionLog) -> None:
    with suppress(RedisConnectionError):
        async with log.recorded("ann", "commands.cancel") as entry:
            entry.done(outcomes={"cancelled": 16})
            raise RedisConnectionError
    (found,) = await told(log)
    assert found.details == {"outcomes": {"cancelled": 16}, "broken_off": True}


@pytest.mark.parametrize(
    "error", [RedisConnectionError(), TimeoutError(), asyncio.CancelledError()]
)
async def test_an_act_whose_reply_got_lost_may_be_done_and_is_told(
    log: ActionLog, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        async with log.recorded("ann", "holds.release"):
            raise error
    (found,) = await told(log)
    assert found.details == {"outcome": "unknown"}


async def test_an_entry_that_is_refused_makes_no_act_fail(
    log: ActionLog, redis: Redis, keys: Keys
) -> None:
    await redis.set(keys.actions, "no stream")
    with capture_logs() as lines:
        await act(log)
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("action.unrecorded", "error")
    assert (line["who"], line["act"], line["subject"]) == ("ann", "lane.resume", "bulk")
    assert "another type" in line["error"]


async def test_an_act_that_never_reached_redis_is_no_alarm(keys: Keys) -> None:
    away = connect("redis://127.0.0.1:1")
    log = ActionLog(away, keys)
    with capture_logs() as lines, pytest.raises(RedisConnectionError):
        async with log.recorded("ann", "holds.release"):
            await away.ping()
    await away.aclose()
    assert [(line["event"], line["log_level"]) for line in lines] == [("action.unrecorded", "info")]


async def test_nobody_waits_for_the_entry_of_an_act_that_is_done(
    log: ActionLog, redis: Redis, redis_url: str
) -> None:
    other = connect(redis_url)
    begun = time.monotonic()
    await redis.client_pause(30_000, all=False)
    try:
        with capture_logs() as lines:
            await act(log)
    finally:
        await other.client_unpause()
        await other.aclose()
    assert time.monotonic() - begun < 10
    assert [line["event"] for line in lines] == ["action.unrecorded"]


async def test_what_is_long_is_cut_and_the_oldest_are_forgotten(
    log: ActionLog, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {f"name-{number}": ["é" * 5000] * 5000 for number in range(100)}
    async with log.recorded("w" * 5000, "commands.cancel", "s" * 5000, filter=long) as entry:
        entry.done(ids=[f"id-{number}" for number in range(10_000)], note="n" * 201)
    (found,) = await told(log)
    ((_, fields),) = await entries_between(redis, keys.actions, "-", "+")
    assert len(fields[b"details"]) <= MAX_DETAILS_BYTES
    assert (len(found.who), len(found.subject or "")) == (512, 512)
    assert found.details["ids"] == ["id-0", "id-1", "id-2", "… 9997 more"]
    assert found.details["note"].endswith("n…")
    monkeypatch.setattr(actions, "MAX_ACTIONS", 100)
    for _ in range(300):
        await act(log)
    assert await redis.xlen(keys.actions) <= 200


async def test_acts_are_listed_by_who_by_act_by_subject_by_time_and_page_by_page(
    log: ActionLog, redis: Redis, keys: Keys
) -> None:
    await redis.xadd(keys.actions, {"something": "of others"})
    await act(log, "ann", "command.cancel", "one")
    await act(log, "bob", "command.cancel", "two")
    await act(log, "bob", "lane.resume", "bulk")
    last, middle, first = await told(log)
    assert [each.subject for each in (first, middle, last)] == ["one", "two", "bulk"]
    assert await told(log, who="ann") == [first]
    assert await told(log, act="command.cancel") == [middle, first]
    assert await told(log, subject="two", who="bob") == [middle]
    assert await told(log, before=last.id) == [middle, first]
    assert await told(log, before="0-0") == []
    assert await told(log, since_ms=last.at_ms + 60_000) == []
    assert len(await told(log, since_ms=first.at_ms)) == 3
    assert len(await told(log, since_ms=-1)) == 3
