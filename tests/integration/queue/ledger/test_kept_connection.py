"""A connection that is kept for many calls: it outlives what a pool's connections outlive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ResponseError

from worker.queue.ledger.connection import connect
from worker.queue.ledger.kept_connection import KeptConnection

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

ECHO = "return ARGV[1]"


@pytest.fixture
def kept(redis: Redis) -> KeptConnection:
    """A kept connection of the test's client."""
    return KeptConnection(redis)


@pytest.fixture
def echo(redis: Redis) -> AsyncScript:
    """A script that returns its argument."""
    return redis.register_script(ECHO)


async def connections(redis: Redis) -> set[str]:
    """Who has run a script last, by the server's own list."""
    found: list[dict[str, Any]] = await redis.client_list()
    return {each["id"] for each in found if each["cmd"].startswith("evalsha")}


async def test_calls_share_one_connection(
    redis: Redis, kept: KeptConnection, echo: AsyncScript
) -> None:
    assert await kept.run(echo, [], ["first"]) == b"first"
    before = await connections(redis)
    for number in range(20):
        assert await kept.run(echo, [], [number]) == b"%d" % number
    assert await connections(redis) == before


async def test_a_large_argument_is_written_whole(kept: KeptConnection, echo: AsyncScript) -> None:
    """More than the connection's buffer takes at once."""
    text = b"x" * 3_000_000
    assert await kept.run(echo, [], [text]) == text


async def test_a_script_that_the_server_has_forgotten_is_sent_again(
    redis: Redis, kept: KeptConnection, echo: AsyncScript
) -> None:
    await kept.run(echo, [], ["first"])
    await redis.script_flush()
    assert await kept.run(echo, [], ["second"]) == b"second"


async def test_a_connection_that_the_server_has_closed_costs_no_call(
    redis_url: str, redis: Redis
) -> None:
    client = connect(redis_url)
    kept, echo = KeptConnection(client), client.register_script(ECHO)
    await kept.run(echo, [], ["first"])
    for each in await connections(redis):
        await redis.client_kill_filter(_id=each)
    await asyncio.sleep(0.05)
    assert await kept.run(echo, [], ["second"]) == b"second"
    await client.aclose()


async def test_a_reply_that_nobody_waits_for_answers_no_other_call(
    redis: Redis, kept: KeptConnection, echo: AsyncScript
) -> None:
    await kept.run(echo, [], ["before"])
    await redis.client_pause(300)
    broken_off = asyncio.create_task(kept.run(echo, [], ["broken off"]))
    await asyncio.sleep(0.05)
    broken_off.cancel()
    with pytest.raises(asyncio.CancelledError):
        await broken_off
    assert await kept.run(echo, [], ["after"]) == b"after"


async def test_an_error_that_a_script_answers_leaves_the_connection_as_it_is(
    redis: Redis, kept: KeptConnection, echo: AsyncScript
) -> None:
    wrong = redis.register_script("return redis.error_reply('ERR no')")
    await kept.run(echo, [], ["before"])
    for _ in range(2):
        with pytest.raises(ResponseError, match="no"):
            await kept.run(wrong, [], [])
        assert await kept.run(echo, [], ["after"]) == b"after"
