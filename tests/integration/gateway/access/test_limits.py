"""How much a caller may ask for: requests a second, and what counts as waiting."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ResponseError
from starlette.requests import Request

from worker.gateway.access import limits
from worker.gateway.access.callers import Caller
from worker.gateway.access.limits import Backlog, RequestRates
from worker.gateway.access.tokens import Scope, Token
from worker.gateway.problems import ProblemError

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys


def caller(name: str) -> Caller:
    none: frozenset[str] = frozenset()
    return Caller(Token(name * 12, name, frozenset({Scope.READ}), none, none, 1))


async def headers_of(rates: RequestRates, of: Caller) -> dict[str, str]:
    """Takes a request; returns what its answer is to tell."""
    request = Request({"type": "http", "headers": []})
    await rates.take(request, of)
    found: dict[str, str] = request.state.rate_headers
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day, by which requests are counted."""
    now = [1000.9]
    monkeypatch.setattr(limits, "time", SimpleNamespace(time=lambda: now[0]))
    return now


async def test_each_token_has_so_many_requests_in_each_second_and_is_told_its_rest(
    redis: Redis, keys: Keys, clock: list[float]
) -> None:
    rates = RequestRates(redis, keys, 2)
    a, b = caller("a"), caller("b")
    told = [(await headers_of(rates, a))["ratelimit"] for _ in range(2)]
    assert told == ['"token";r=1;t=1', '"token";r=0;t=1']
    for _ in range(2):
        with pytest.raises(ProblemError, match="2 requests a second") as refused:
            await headers_of(rates, a)
    assert (refused.value.status, refused.value.code) == (429, "too_many_requests")
    assert refused.value.headers == {
        "Retry-After": "1",
        "ratelimit": '"token";r=0;t=1',
        "ratelimit-policy": '"token";q=2;w=1',
    }
    # Another token, and whoever needs none, count by themselves; so does another gateway's process.
    for other in (b, Caller()):
        assert (await headers_of(rates, other))["ratelimit"] == '"token";r=1;t=1'
    again = RequestRates(redis, keys, 2)
    assert (await headers_of(again, b))["ratelimit"] == '"token";r=0;t=1'
    clock[0] = 1001.0
    assert (await headers_of(rates, a))["ratelimit"] == '"token";r=1;t=1'


async def test_what_was_counted_is_not_kept(redis: Redis, keys: Keys) -> None:
    """There is a key for each token and second: kept, they would fill the server."""
    await headers_of(RequestRates(redis, keys, 5), caller("a"))
    found = [key async for key in redis.scan_iter(match=f"{keys.prefix}*")]
    assert len(found) == 1
    assert 0 < await redis.pttl(found[0]) <= 2000


async def test_without_a_limit_nothing_is_counted(redis: Redis, keys: Keys) -> None:
    request = Request({"type": "http", "headers": []})
    for _ in range(100):
        await RequestRates(redis, keys, 0).take(request, caller("a"))
    assert not hasattr(request.state, "rate_headers")
    assert [key async for key in redis.scan_iter(match=f"{keys.prefix}*")] == []


async def test_all_that_waits_counts_wherever_it_stands(redis: Redis, keys: Keys) -> None:
    """Unread ones in either stream and in the list of pushed ones; open ones in each due set."""
    for stream in (keys.commands, keys.bulk_commands):
        await redis.xadd(stream, {"command": "{}"})
    await redis.lpush(keys.inbox, "{}")
    for due in (keys.due_interactive, keys.due_bulk, keys.due_suspect):
        await redis.zadd(due, {"one": 1})
    await Backlog(redis, keys, 7).check()
    with pytest.raises(ProblemError, match="6 commands waiting") as refused:
        await Backlog(redis, keys, 6).check()
    assert (refused.value.status, refused.value.code) == (429, "backlog_full")
    await Backlog(redis, keys, 0).check()


async def test_the_backlog_is_looked_at_twice_a_second_however_many_ask(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: now))
    backlog = Backlog(redis, keys, 1)
    await backlog.check()
    await redis.lpush(keys.inbox, "{}")
    now += 0.4
    await backlog.check()
    now += 0.2
    with pytest.raises(ProblemError):
        await backlog.check()
    await redis.delete(keys.inbox)
    with pytest.raises(ProblemError):
        await backlog.check()
    now += 0.6
    await backlog.check()


async def test_a_look_at_the_backlog_that_failed_is_none(redis: Redis, keys: Keys) -> None:
    """Or commands would be let in by what was counted before an outage."""
    backlog = Backlog(redis, keys, 1)
    await redis.set(keys.inbox, "no list")
    for _ in range(2):
        with pytest.raises(ResponseError):
            await backlog.check()
