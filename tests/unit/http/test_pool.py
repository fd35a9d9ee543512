"""Rules of a pool: who waits is served in order, and nobody leaves anything behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

import worker.http.pool
from tests.stub_api import Answer, StubApi, reply
from tests.unit.http.asking import PATIENT, comes_true, exchange, open_descriptors, opened, route_to
from worker.http.failures import NOT_SENT, NotWrittenError, UnresolvedNameError
from worker.http.pool import TICK_SECONDS, ConnectionPool
from worker.http.timeouts import KEEP_ALIVE_SECONDS

if TYPE_CHECKING:
    from worker.http.opening import AddressInfo

pytestmark = pytest.mark.asyncio

HANGS = Answer(then="hang")
LATE = replace(reply(200, b"ok"), delay_seconds=0.02)


@pytest.fixture
def stub(stub_of_each: StubApi) -> StubApi:
    return stub_of_each


def is_empty(pool: ConnectionPool, limit: int) -> bool:
    """Tells whether nothing is in use: every permit is back, and nobody waits."""
    return pool._free == limit and not [each for each in pool._waiters if not each.done()]


async def until_recorded(stub: StubApi, count: int) -> None:
    assert await comes_true(lambda: len(stub.recorded) >= count)


async def test_of_many_at_once_no_more_than_the_limit_are_connected(stub: StubApi) -> None:
    stub.default = LATE
    async with opened(stub.url, limit=4) as pool:
        replies = await asyncio.gather(*(exchange(pool, "POST", body=b"{}") for _ in range(60)))
        assert is_empty(pool, 4)
    assert [each.body for each in replies] == [b"ok"] * 60
    assert stub.connections == 4


async def test_who_came_first_is_served_first(stub: StubApi) -> None:
    async with opened(stub.url, limit=1) as pool:
        await asyncio.gather(*(exchange(pool, target=f"/{number}") for number in range(60)))
    assert [each.target for each in stub.recorded] == [f"/{number}" for number in range(60)]


async def test_nobody_overtakes_who_waits(stub: StubApi) -> None:
    """Who comes just as a connection gets free goes behind those who wait for one."""
    stub.default = LATE
    async with opened(stub.url, limit=1) as pool:
        first = await exchange(pool, target="/first", accepts=False)
        waiting = asyncio.create_task(exchange(pool, target="/waited"))
        await asyncio.sleep(0)
        first.accept()
        await asyncio.gather(exchange(pool, target="/late"), waiting)
    assert [each.target for each in stub.recorded] == ["/first", "/waited", "/late"]


@pytest.mark.parametrize("moment", ["waiting", "granted"])
async def test_who_is_cancelled_takes_no_permit_along(stub: StubApi, moment: str) -> None:
    async with opened(stub.url, limit=1) as pool:
        first = await exchange(pool, target="/first", accepts=False)
        given_up = asyncio.create_task(exchange(pool, target="/given up"))
        waits = asyncio.create_task(exchange(pool, target="/waits"))
        await asyncio.sleep(0)
        if moment == "granted":
            first.accept()
        given_up.cancel()
        first.accept()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        await asyncio.wait_for(waits, 30)
        assert is_empty(pool, 1)
    assert [each.target for each in stub.recorded] == ["/first", "/waits"]


async def test_who_waits_in_vain_is_told_that_nothing_was_sent(stub: StubApi) -> None:
    stub.default = HANGS
    impatient = replace(PATIENT, pool=0.1, connect=0.1)
    async with opened(stub.url, limit=1) as pool:
        busy = asyncio.create_task(exchange(pool))
        await until_recorded(stub, 1)
        with pytest.raises(httpx.PoolTimeout):
            await exchange(pool, timeouts=impatient)
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        assert is_empty(pool, 1)
    assert len(stub.recorded) == 1


async def test_a_connection_at_rest_is_closed_before_servers_do(
    stub: StubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.http.pool, "KEEP_ALIVE_SECONDS", 0.2)
    async with opened(stub.url) as pool:
        await exchange(pool)
        assert len(pool._connections) == len(pool._idle) == 1
        assert await comes_true(lambda: not pool._connections and not pool._idle)
        assert await comes_true(lambda: pool._timer is None), "nobody is left to look after"
        await exchange(pool)
    assert [each.connection for each in stub.recorded] == [1, 2]


async def test_connections_at_rest_wake_nobody_until_they_are_closed(stub: StubApi) -> None:
    """A worker that has nothing to do sleeps, whatever it has open."""
    async with opened(stub.url) as pool:
        await exchange(pool)
        timer = pool._timer
        await exchange(pool)
        await asyncio.sleep(10 * TICK_SECONDS)
        assert timer is not None
        assert pool._timer is timer


@pytest.mark.parametrize("first", ["long", "short"])
async def test_a_timeout_that_is_shorter_than_others_comes_in_time_all_the_same(
    stub: StubApi, first: str
) -> None:
    """The timer may be set for later by then, and on its way another phase may begin."""
    short = replace(PATIENT, read=0.2)
    async with opened(stub.url) as pool:
        await exchange(pool, timeouts=PATIENT if first == "long" else short)
        stub.default = Answer(then="hang")
        begun = asyncio.get_running_loop().time()
        with pytest.raises(httpx.ReadTimeout):
            await exchange(pool, "POST", timeouts=short)
        assert asyncio.get_running_loop().time() - begun < KEEP_ALIVE_SECONDS / 2


async def test_a_connection_that_has_rested_for_too_long_is_not_used_though_the_loop_stood_still(
    stub: StubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Routers forget it without a word; whoever runs the loop only now and then has no timer."""
    monkeypatch.setattr(worker.http.pool, "KEEP_ALIVE_SECONDS", 0.05)
    async with opened(stub.url) as pool:
        await exchange(pool)
        time.sleep(0.1)  # noqa: ASYNC251 - that is what this is about
        await exchange(pool)
        assert is_empty(pool, 4)
    assert [each.connection for each in stub.recorded] == [1, 2]


async def test_the_connection_that_was_used_last_is_used_next(stub: StubApi) -> None:
    """So that those which a burst has opened fall asleep."""
    stub.default = LATE
    async with opened(stub.url) as pool:
        await asyncio.gather(*(exchange(pool) for _ in range(4)))
        for _ in range(8):
            await exchange(pool)
    assert len({each.connection for each in stub.recorded[4:]}) == 1


async def test_a_read_goes_out_again_once_and_on_a_new_connection(stub: StubApi) -> None:
    """All that were at rest may have ended with the one that did."""
    stub.default = LATE
    async with opened(stub.url) as pool:
        await asyncio.gather(*(exchange(pool) for _ in range(4)))
        stub.default = Answer(then="close")
        with pytest.raises(httpx.ReadError):
            await exchange(pool)
        assert is_empty(pool, 4)
    assert len(stub.recorded) == 4 + 2
    assert stub.recorded[-1].connection == 5


async def test_a_read_that_could_not_go_out_again_was_sent_all_the_same(stub: StubApi) -> None:
    async with opened(stub.url) as pool:
        await exchange(pool)
        asked = asyncio.create_task(exchange(pool))
        stub.default = replace(Answer(then="close"), delay_seconds=0.2)
        await until_recorded(stub, 2)
        pool._dialer._addresses = [(*pool._dialer._addresses[0][:4], ("127.0.0.1", 1))]
        with pytest.raises(httpx.ReadError, match="then, once more: "):
            await asked
        assert is_empty(pool, 4)


async def test_the_time_for_all_of_it_holds_for_the_second_connection_too(stub: StubApi) -> None:
    """Or what stands too late carries the request in vain."""
    lookups = 0

    async def resolve(host: str, port: int) -> list[AddressInfo]:
        nonlocal lookups
        lookups += 1
        await asyncio.sleep(60 if lookups > 1 else 0)
        loop = asyncio.get_running_loop()
        return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))

    pool = ConnectionPool(route_to(stub.url), limit=4, resolve=resolve)
    await exchange(pool)
    stub.default = Answer(then="close")
    async with asyncio.timeout(10):
        with pytest.raises(httpx.ReadError, match="then, once more: no connection in time"):
            await exchange(pool, timeouts=replace(PATIENT, total=0.3))
    assert is_empty(pool, 4)
    await pool.aclose()


async def test_a_response_that_is_dropped_gives_its_permit_back(stub: StubApi) -> None:
    async with opened(stub.url, limit=1) as pool:
        response = await exchange(pool, accepts=False)
        assert not is_empty(pool, 1)
        del response
        assert await comes_true(lambda: is_empty(pool, 1))
        await exchange(pool)
    assert [each.connection for each in stub.recorded] == [1, 2], "nobody had found it to be good"


async def test_a_pool_that_is_closed_ends_what_is_under_way_and_begins_nothing(
    stub: StubApi,
) -> None:
    """Who waited was not sent; of what was sent, the outcome is unknown, a read's too."""
    descriptors = open_descriptors()
    async with opened(stub.url, limit=2) as pool:
        await exchange(pool)
        stub.default = HANGS
        asked = [asyncio.create_task(exchange(pool, method)) for method in ("GET", "POST")]
        await until_recorded(stub, 3)
        waiting = [asyncio.create_task(exchange(pool)) for _ in range(3)]
        await asyncio.sleep(0)
    ends = await asyncio.gather(*asked, *waiting, exchange(pool), return_exceptions=True)
    assert [isinstance(each, NOT_SENT) for each in ends] == [False] * 2 + [True] * 4
    assert [type(each) for each in ends[:2]] == [httpx.ReadError] * 2
    assert len(stub.recorded) == 3
    assert not pool._connections
    gc.collect()
    assert await comes_true(lambda: open_descriptors() <= descriptors + 2)


async def test_who_waits_for_a_name_while_the_pool_is_closed_is_told_and_not_cancelled(
    stub: StubApi,
) -> None:
    """Nobody has cancelled it: whoever waits for its result would take that for their own end."""
    looks_up = asyncio.Event()

    async def resolve(_host: str, _port: int) -> list[AddressInfo]:
        looks_up.set()
        await asyncio.sleep(60)
        return []

    pool = ConnectionPool(route_to(stub.url), limit=4, resolve=resolve)
    asked = [asyncio.create_task(exchange(pool)) for _ in range(3)]
    await looks_up.wait()
    asked[2].cancel()
    await pool.aclose()
    ends = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in ends] == [NotWrittenError] * 2 + [asyncio.CancelledError]
    assert is_empty(pool, 4)


async def test_a_name_without_any_address_is_one_that_can_t_be_resolved(stub: StubApi) -> None:
    async def resolve(_host: str, _port: int) -> list[AddressInfo]:
        await asyncio.sleep(0)
        return []

    pool = ConnectionPool(route_to(stub.url), limit=4, resolve=resolve)
    with pytest.raises(UnresolvedNameError, match="has no address"):
        await exchange(pool)
    await pool.aclose()


async def test_a_connection_that_opens_while_its_pool_is_closed_is_closed(stub: StubApi) -> None:
    async with opened(stub.url) as pool:
        asked = asyncio.create_task(exchange(pool))
        while not pool._connections and not asked.done():
            await asyncio.sleep(0)
    with pytest.raises(NOT_SENT):
        await asked
    assert not stub.recorded
    assert not pool._connections
