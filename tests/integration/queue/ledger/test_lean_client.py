"""A client of its own around redis-py's pool: each command has its own reply, whatever happens."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.queue.ledger.connection import connect
from worker.queue.ledger.lean_client import LeanRedis
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

ECHO = "return ARGV[1]"


@asynccontextmanager
async def lean(url: str, **options: Any) -> AsyncIterator[Redis]:
    client = connect(url, **options)
    try:
        yield client
    finally:
        await client.aclose()


def in_use(client: Redis) -> int:
    pool: Any = client.connection_pool
    return len(pool._in_use_connections)


async def waits(client: Redis, key: str, seconds: int) -> Any:
    return await client.blpop([key], seconds)


async def killed(redis: Redis, client: Redis) -> None:
    """Has the server close the connections of a client that rest."""
    pool: Any = client.connection_pool
    ports = [each._writer.get_extra_info("sockname")[1] for each in pool._available_connections]
    for port in ports:
        await redis.client_kill_filter(addr=f"127.0.0.1:{port}")
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "rediss://host",
        "sentinel://one,two/0?service=ledger",
        "redis+cluster://one,two",
        "rediss+cluster://one,two",
    ],
)
async def test_the_ledger_connects_with_it_wherever_redis_is(url: str) -> None:
    async with lean(url, key="{trainmaster}:") as client:
        assert isinstance(client, LeanRedis)


async def test_one_after_the_other_shares_a_connection(redis_url: str) -> None:
    async with lean(redis_url) as client:
        echo = client.register_script(ECHO)
        for number in range(20):
            assert await echo(args=[number]) == b"%d" % number
        pool: Any = client.connection_pool
        assert (len(pool._available_connections), in_use(client)) == (1, 0)


async def test_many_at_once_have_each_their_own_reply(redis_url: str) -> None:
    async with lean(redis_url) as client:
        echo = client.register_script(ECHO)
        found = await asyncio.gather(*(echo(args=[number]) for number in range(50)))
        assert found == [b"%d" % number for number in range(50)]
        assert in_use(client) == 0


async def test_more_connections_than_may_be_are_refused(redis_url: str) -> None:
    async with lean(redis_url, max_connections=2) as client:
        waiting = [asyncio.create_task(waits(client, f"none-{n}", 1)) for n in range(2)]
        while in_use(client) < 2:
            await asyncio.sleep(0)
        with pytest.raises(RedisConnectionError, match="Too many connections"):
            await client.ping()
        assert await asyncio.gather(*waiting) == [None, None]
        assert await client.ping()


async def test_replies_are_parsed_as_redis_py_parses_them(redis: Redis, redis_url: str) -> None:
    plain = RedisAddress.parse(redis_url).asyncio_client()
    await redis.zadd("scores", {"a": 1.5, "b": 2})
    await redis.hset("hash", mapping={"a": "1"})
    await redis.xadd("stream", {"a": "1"})
    async with lean(redis_url) as client:
        assert await some_of_each_kind(client) == await some_of_each_kind(plain)
    await plain.aclose()
    await redis.delete("scores", "hash", "stream", "hash:1")


async def some_of_each_kind(client: Redis) -> list[Any]:
    return [
        await client.zrange("scores", 0, -1, withscores=True),
        await client.hgetall("hash"),
        await client.xrange("stream"),
        (await client.xinfo_stream("stream"))["length"],
        (await client.info("server"))["redis_mode"],
        await client.exists("hash"),
        await client.set("hash:1", 1),
    ]


async def test_a_large_argument_is_written_whole(redis_url: str) -> None:
    """More than the connection's buffer takes at once."""
    text = b"x" * 3_000_000
    async with lean(redis_url) as client:
        assert await client.register_script(ECHO)(args=[text]) == text


async def test_a_script_that_the_server_has_forgotten_is_sent_again(
    redis: Redis, redis_url: str
) -> None:
    async with lean(redis_url) as client:
        echo = client.register_script(ECHO)
        await echo(args=["first"])
        await redis.script_flush()
        assert await echo(args=["second"]) == b"second"


async def test_a_connection_that_the_server_has_closed_costs_no_call(
    redis: Redis, redis_url: str
) -> None:
    async with lean(redis_url) as client:
        await client.ping()
        await killed(redis, client)
        assert await client.ping()


async def test_a_connection_that_is_lost_under_way_is_told_and_given_back(
    redis: Redis, redis_url: str
) -> None:
    """Once, for nothing is sent again here: who called knows what a second run means."""
    async with lean(redis_url) as client:
        await client.ping()
        waiting = asyncio.create_task(waits(client, "none", 60))
        while not (await redis.info("clients"))["blocked_clients"]:
            await asyncio.sleep(0.01)
        pool: Any = client.connection_pool
        (busy,) = pool._in_use_connections
        port = busy._writer.get_extra_info("sockname")[1]
        await redis.client_kill_filter(addr=f"127.0.0.1:{port}")
        with pytest.raises(RedisConnectionError):
            await waiting
        assert in_use(client) == 0
        assert await client.ping()


@pytest.mark.parametrize("how", ["cancelled", "too late"])
async def test_a_reply_that_nobody_waits_for_answers_no_other_call(
    redis: Redis, redis_url: str, how: str
) -> None:
    async with lean(redis_url) as client:
        echo = client.register_script(ECHO)
        await echo(args=["before"])
        (connection,) = client.connection_pool._available_connections
        if how == "too late":
            connection.socket_timeout = 0.1
        broken_off = asyncio.create_task(waits(client, "late", 60))
        while not in_use(client):
            await asyncio.sleep(0)
        if how == "cancelled":
            await asyncio.sleep(0.05)
            broken_off.cancel()
        with pytest.raises(asyncio.CancelledError if how == "cancelled" else RedisTimeoutError):
            await broken_off
        await redis.rpush("late", "its reply")
        assert await echo(args=["after"]) == b"after"
        assert in_use(client) == 0
    await redis.delete("late")


async def test_a_refusal_leaves_the_connection_as_it_is(redis_url: str) -> None:
    async with lean(redis_url) as client:
        wrong = client.register_script("return redis.error_reply('ERR no')")
        echo = client.register_script(ECHO)
        await echo(args=["before"])
        (connection,) = client.connection_pool._available_connections
        for _ in range(2):
            with pytest.raises(ResponseError, match="no"):
                await wrong()
            assert await echo(args=["after"]) == b"after"
        assert client.connection_pool._available_connections == [connection]
