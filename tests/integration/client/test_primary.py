"""Connections that lead nowhere and are not told: to what was the primary, or past a firewall."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from tests.failover import running_node, running_pair
from trainmaster_client.address import RedisAddress
from trainmaster_client.cluster import Node
from trainmaster_client.primary import is_of_no_primary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ONCE = Retry(NoBackoff(), 0)
ASYNC_ONCE = AsyncRetry(NoBackoff(), 0)


def test_what_was_the_primary_refuses_a_client_once_and_is_left_for_the_new_one(
    open_client: Callable[..., Any], tmp_path: Path
) -> None:
    with running_pair(tmp_path) as pair:
        client = open_client(pair.url, patience_seconds=5)
        before = client.submit("list_models", {}, id="before")
        pair.fail_over()
        added = client.submit_many({"type": "list_models", "id": f"after-{n}"} for n in range(3))
        assert [*added] == ["after-0", "after-1", "after-2"]
        assert before.entry_id < added[0].entry_id
        # One more, over the connection that has moved.
        opened = pair.connections
        client.submit("list_models", {}, id="later")
        assert pair.connections == opened


def test_who_only_reads_leaves_a_replica_that_lost_its_primary(tmp_path: Path) -> None:
    """It answers no reads where it is told to serve nothing stale, and closes no connection."""
    with running_pair(tmp_path) as pair:
        client = RedisAddress.parse(pair.url).client(retry=ONCE)
        with closing(client):
            client.get("a")
            pair.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
            pair.fail_over()
            with pytest.raises(MasterDownError):
                client.get("a")
            assert client.get("a") is None


def test_a_server_that_refuses_each_command_is_not_left_for_each(tmp_path: Path) -> None:
    """Without replicas, say, it stays the primary: each refusal would else open a connection."""
    with running_pair(tmp_path) as pair:
        client = RedisAddress.parse(pair.url).client(retry=ONCE)
        with closing(client):
            client.get("a")
            pair.ask("CONFIG", "SET", "min-replicas-to-write", 1)
            opened = pair.connections
            for _ in range(100):
                with pytest.raises(ResponseError, match="NOREPLICAS"):
                    client.set("a", 1)
            # One a second; a hundred take a few hundredths of one.
            assert pair.connections < opened + 50


@pytest.mark.parametrize("is_cluster", [False, True], ids=["server", "cluster"])
def test_of_connections_that_are_forgotten_all_at_once_one_costs_a_command(
    tmp_path: Path, *, is_cluster: bool
) -> None:
    """What was idle at that moment is used long after, and would cost one each."""
    with (running_node if is_cluster else running_pair)(tmp_path) as pair:
        url = pair.cluster_url if is_cluster else pair.url
        client = RedisAddress.parse(url).client("{a}:b", socket_timeout=0.3, retry=ONCE)
        pool: Any = client.connection_pool

        def use_all() -> None:
            taken = [pool.get_connection() for _ in range(3)]
            for each in taken:
                pool.release(each)

        with closing(client):
            use_all()
            pair.forget()
            with pytest.raises(RedisTimeoutError):
                client.ping()
            opened = pair.connections
            use_all()
            assert client.ping()
            assert pair.connections == opened + 3


@pytest.mark.parametrize("is_cluster", [False, True], ids=["server", "cluster"])
async def test_so_with_an_event_loop(tmp_path: Path, *, is_cluster: bool) -> None:
    with (running_node if is_cluster else running_pair)(tmp_path) as pair:
        url = pair.cluster_url if is_cluster else pair.url
        options: Any = {"socket_timeout": 0.3, "retry": ASYNC_ONCE}
        client = RedisAddress.parse(url).asyncio_client("{a}:b", **options)
        pool: Any = client.connection_pool

        async def use_all() -> None:
            taken = [await pool.get_connection() for _ in range(3)]
            for each in taken:
                await pool.release(each)

        try:
            await use_all()
            pair.forget()
            with pytest.raises(RedisTimeoutError):
                await client.ping()
            opened = pair.connections
            await use_all()
            assert await client.ping()
            assert pair.connections == opened + 3
        finally:
            await client.aclose()


async def test_a_connection_at_rest_follows_its_slot_to_another_node(tmp_path: Path) -> None:
    """Another connection was told where it is; this one need not be refused first."""
    with running_node(tmp_path) as pair:
        client = RedisAddress.parse(pair.cluster_url).asyncio_client("{a}:b", retry=ASYNC_ONCE)
        pool: Any = client.connection_pool
        try:
            await client.ping()
            moved = Node("127.0.0.1", pair.behind)
            pool.connection_kwargs["owner"].current = moved
            connection = await pool.get_connection()
            await pool.release(connection)
            assert (connection.host, connection.port) == moved
        finally:
            await client.aclose()


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ReadOnlyError("You can't write against a read only replica."), True),
        (MasterDownError("Link with MASTER is down."), True),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (ResponseError("WRONGTYPE Operation against a key"), False),
    ],
)
def test_only_who_may_be_no_primary_is_left(error: ResponseError, found: bool) -> None:
    assert is_of_no_primary(error) is found
