"""Single commands of many requests: they go to Redis together and are answered each by itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.integration.intake_acts import good
from worker.gateway.submission.queue import PAGE_BYTES, SubmitQueue
from worker.gateway.submission.submission import Submission, SubmitStatus, prepare
from worker.gateway.submission.submitter import Submitter
from worker.queue.ledger.connection import connect
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys


GREATEST = f"{2**64 - 1}-{2**64 - 1}"


async def ids(redis: Redis, stream: str) -> list[str]:
    """The commands of a stream, by their ids."""
    entries = await entries_between(redis, stream, "-", "+")
    return [orjson.loads(fields[b"command"])["id"] for _, fields in entries]


class Calls:
    """What a queue asks Redis for, page by page.

    Attributes:
        pages: how many commands each call had.
    """

    def __init__(self, submitter: Submitter) -> None:
        self.pages: list[int] = []
        self._submitter = submitter

    async def add(self, page: Sequence[Submission]) -> Sequence[int | ResponseError]:
        self.pages.append(len(page))
        return await self._submitter.add_once(page)


async def test_commands_that_come_while_a_call_is_under_way_go_with_the_next(
    redis: Redis, keys: Keys
) -> None:
    calls = Calls(Submitter(redis, keys))
    queue = SubmitQueue(calls.add)
    first = asyncio.create_task(queue.submit(prepare(good(id="0"))))
    while not calls.pages:
        await asyncio.sleep(0)
    rest = [asyncio.create_task(queue.submit(prepare(good(id=str(n))))) for n in range(1, 300)]
    assert set(await asyncio.gather(first, *rest)) == {SubmitStatus.ADDED}
    assert calls.pages == [1, 256, 43]
    assert await ids(redis, keys.commands) == [str(n) for n in range(300)]


async def test_large_commands_are_not_all_of_one_call(redis: Redis, keys: Keys) -> None:
    calls = Calls(Submitter(redis, keys))
    queue = SubmitQueue(calls.add)
    large = [prepare(good(id=str(n)) + b" " * 1_000_000) for n in range(6)]
    await asyncio.gather(*map(queue.submit, large))
    assert calls.pages == [4, 2]
    assert 4 * len(large[0].text) < PAGE_BYTES < 5 * len(large[0].text)


async def test_what_its_stream_refuses_fails_no_other(redis: Redis, keys: Keys) -> None:
    submitter = Submitter(redis, keys)
    known = prepare(good(id="known"))
    await submitter.submit_one(known)
    # After the greatest id that there is it takes no further entry.
    await redis.xadd(keys.commands, {"exhausted": "1"}, id=GREATEST)
    await redis.xdel(keys.commands, GREATEST)
    queue = SubmitQueue(submitter.add_once)
    refused, again, conflict, bulk = await asyncio.gather(
        queue.submit(prepare(good(id="refused"))),
        queue.submit(known),
        queue.submit(prepare(b'{"type": "list_models", "data": {}, "id": "known"}')),
        queue.submit(prepare(good(id="bulk", priority="bulk"))),
        return_exceptions=True,
    )
    assert isinstance(refused, ResponseError)
    assert (again, conflict, bulk) == (
        SubmitStatus.KNOWN,
        SubmitStatus.CONFLICT,
        SubmitStatus.ADDED,
    )
    assert await ids(redis, keys.commands) == ["known"]
    assert await ids(redis, keys.bulk_commands) == ["bulk"]


async def test_nobody_waits_twice_for_a_redis_that_is_gone(redis: Redis, keys: Keys) -> None:
    """Who comes while a call is under way would else wait for it, and then for one of their own."""
    lost = connect("redis://127.0.0.1:1")
    calls = Calls(Submitter(lost, keys))
    queue = SubmitQueue(calls.add)
    begun = asyncio.create_task(queue.submit(prepare(good())))
    while not calls.pages:
        await asyncio.sleep(0)
    waiting = [asyncio.create_task(queue.submit(prepare(good()))) for _ in range(3)]
    for each in (begun, *waiting):
        with pytest.raises(RedisConnectionError):
            await each
    assert calls.pages == [1]
    # And it goes on once there is a Redis.
    calls = Calls(Submitter(redis, keys))
    assert await SubmitQueue(calls.add).submit(prepare(good())) == SubmitStatus.ADDED
    await lost.aclose()


async def test_who_has_gone_keeps_no_other_from_their_answer(redis: Redis, keys: Keys) -> None:
    queue = SubmitQueue(Submitter(redis, keys).add_once)
    tasks = [asyncio.create_task(queue.submit(prepare(good(id=str(n))))) for n in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [found[0], found[2]] == [SubmitStatus.ADDED] * 2
    assert isinstance(found[1], asyncio.CancelledError)


async def test_a_call_that_is_broken_off_leaves_nobody_waiting() -> None:
    """Of the whole process, which stops: whoever waits is answered, and what comes goes on."""
    begun, calls = asyncio.Event(), list[int]()

    async def hang(page: Sequence[Submission]) -> Sequence[int | ResponseError]:
        calls.append(len(page))
        begun.set()
        await asyncio.Event().wait()
        return []

    queue = SubmitQueue(hang)
    first = asyncio.create_task(queue.submit(prepare(good())))
    await begun.wait()
    second = asyncio.create_task(queue.submit(prepare(good())))
    await asyncio.sleep(0)
    assert queue._adding is not None
    queue._adding.cancel()
    for each in (first, second):
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(each, 30)
    assert calls == [1]
    assert queue._adding is None


async def test_where_its_streams_take_nothing_a_request_is_told_by_the_first_refusal(
    redis: Redis, keys: Keys
) -> None:
    await redis.set(keys.commands, "something else")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await Submitter(redis, keys).submit([prepare(good(id="one"))])
    await redis.delete(keys.commands)
    await redis.xadd(keys.commands, {"exhausted": "1"}, id=GREATEST)
    await redis.xdel(keys.commands, GREATEST)
    submitter = Submitter(redis, keys)
    bulk = prepare(good(id="bulk", priority="bulk"))
    # As long as one is taken, each is told by itself.
    told = await submitter.submit([prepare(good(id="one")), bulk])
    assert told == [SubmitStatus.REFUSED, SubmitStatus.ADDED]
    with pytest.raises(ResponseError):
        await submitter.submit([prepare(good(id="one")), bulk])
