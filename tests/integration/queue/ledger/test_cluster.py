"""A Redis Cluster: the node that has the namespace is found, and found again when it changes."""

from __future__ import annotations

import json
import secrets
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from kombu import Connection
from pydantic import SecretStr
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TryAgainError
from redis.retry import Retry

from tests.cluster import PATIENCE_SECONDS, Cluster, cluster
from tests.console import Console, running_worker
from tests.faults.fleet import wait_until
from tests.gateway_process import serving_gateway
from tests.unread_item import DATA
from trainmaster_client import Client, RedisRefusedError
from trainmaster_client.cluster import Node, slot_of
from worker.app import celery_settings
from worker.queue.ledger.connection import connect
from worker.redis_address import RedisAddress
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMESPACE = "trainmaster"
PREFIX = f"{{{NAMESPACE}}}:"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), replicas_of=PREFIX) as made:
        yield made


@pytest.fixture
def console(nodes: Cluster) -> Console:
    return Console(
        nodes.url,
        NAMESPACE,
        TRAINMASTER_BEARER_TOKEN="of-nobody",
        ENCORD_DOMAIN="http://127.0.0.1:9",
        TRAINMASTER_LOG_FORMAT="json",
        TRAINMASTER_SWEEP_SECONDS="0.25",
        TRAINMASTER_LEASE_SECONDS="3",
    )


def submit(client: Client, name: str, count: int) -> list[str]:
    """Submits commands that all end, and waits for them."""
    commands = [{"type": "predict", "id": f"{name}-{n}", "data": DATA} for n in range(count)]
    ids = client.submit_many(commands)
    endings = client.wait_all(ids, timeout=PATIENCE_SECONDS)
    assert {each.state for each in endings.values()} == {"failed"}
    return [str(each) for each in ids]


def test_worker_and_client_follow_the_namespace_over_failovers(
    nodes: Cluster, console: Console, tmp_path: Path
) -> None:
    """One that is asked for, and one because the primary was killed."""
    log = tmp_path / "worker.log"
    with running_worker(console, log) as worker, Client(nodes.url) as client:
        ids = submit(client, "before", 20)
        # A replica is told of only once its primary has met it.
        wait_until(lambda: len(nodes.ports_of(PREFIX)) == 2, PATIENCE_SECONDS, "a replica")
        first, second = (nodes.at(port) for port in nodes.ports_of(PREFIX))
        nodes.ask(second, "CLUSTER", "FAILOVER")
        wait_until(lambda: nodes.primary(PREFIX) is second, PATIENCE_SECONDS, "a failover")
        ids += submit(client, "asked-for", 20)
        # What Celery's remote control and its wake-ups leave is looked at below. What is sent while
        # its consumer connects anew reaches nobody, so ask until it answers, some seconds later.
        wait_until(lambda: _ping(nodes.url) == ["pong"], PATIENCE_SECONDS, "Celery's answer")
        wait_until(
            lambda: len(nodes.ports_of(PREFIX)) == 2 and _is_in_step(nodes),
            PATIENCE_SECONDS,
            "the former primary follows",
        )
        second.end(signal.SIGKILL)
        ids += submit(client, "killed", 20)
        assert nodes.primary(PREFIX) is first
        assert worker.poll() is None
        with nodes.client(first) as reader:
            events = [json.loads(each[b"event"]) for _, each in reader.xrange(f"{PREFIX}events")]
        second.start()
        nodes.follow(second, first)
    ends = Counter(event["subject"] for event in events if event["type"].endswith(".failed"))
    assert ends == Counter(ids)
    assert nodes.password not in log.read_text()
    assert not _keys_elsewhere(nodes)


def _ping(url: str) -> list[str]:
    """Returns what workers answer to Celery's remote control, by the broker's own transport."""
    settings = Settings(redis_url=SecretStr(url), namespace=NAMESPACE)
    with Celery("asks", set_as_current=False) as app:
        app.conf.update(celery_settings(settings))
        try:
            replies = app.control.ping(timeout=1) or []
        except RedisConnectionError:
            return []
    return [str(answer["ok"]) for reply in replies for answer in reply.values()]


def _is_in_step(nodes: Cluster) -> bool:
    with nodes.client(nodes.primary(PREFIX)) as client:
        info: dict[str, Any] = client.info("replication")
    return bool(info["connected_slaves"] == 1 and info["slave0"]["state"] == "online")


def _keys_elsewhere(nodes: Cluster) -> list[bytes]:
    """Returns keys that are none of the namespace's, Celery's among them."""
    found = []
    for node in nodes.nodes:
        with nodes.client(node) as client:
            found += [key for key in client.scan_iter() if not key.startswith(PREFIX.encode())]
    return found


def test_the_console_finds_the_node_and_tells_which_it_is(nodes: Cluster, console: Console) -> None:
    assert console.run("submit", "list_models", "--id=told").code == 0
    assert console.run("list").code == 0
    found = {
        each["check"]: each
        for each in (json.loads(line) for line in console.run("doctor", "--json").out.splitlines())
    }
    slot, port = slot_of(PREFIX), nodes.ports_of(PREFIX)[0]
    assert found["redis.cluster"]["level"] == "ok"
    assert found["redis.cluster"]["message"] == f"slot {slot} of trainmaster is at 127.0.0.1:{port}"
    assert found["redis.replicas"]["level"] == "warn"
    assert "min-replicas-to-write" in found["redis.replicas"]["advice"]


def test_a_gateway_finds_the_node(nodes: Cluster, tmp_path: Path) -> None:
    with serving_gateway(nodes.url, "by-http", gateway_folder=tmp_path) as gateway:
        command = {"type": "list_models", "id": "one", "data": {}}
        assert gateway.http.post("/v1/commands", json=command).status_code == 202
    with nodes.client(nodes.primary("{by-http}:")) as client:
        assert client.xlen("{by-http}:commands") == 1
        client.delete(*client.keys("{by-http}:*"))


def test_a_url_of_one_server_that_is_the_wrong_node_is_told_what_to_write(
    nodes: Cluster, console: Console
) -> None:
    other = next(node for node in nodes.nodes if node.port not in nodes.ports_of(PREFIX))
    url = f"redis://:{nodes.password}@127.0.0.1:{other.port}"
    said = console.run("list", environment={"TRAINMASTER_REDIS_URL": url})
    assert said.code == 1
    assert "redis+cluster://" in said.err
    assert len(said.err.splitlines()) == 1
    with Client(url) as client, pytest.raises(RedisRefusedError, match=r"redis\+cluster://"):
        client.status("x")


def test_a_server_that_is_no_node_of_a_cluster_is_told(redis_url: str, console: Console) -> None:
    url = redis_url.replace("redis://", "redis+cluster://")
    said = console.run("list", environment={"TRAINMASTER_REDIS_URL": url})
    assert said.code == 1
    assert "no node of a cluster" in said.err
    with Client(url) as client, pytest.raises(RedisRefusedError, match="no node of a cluster"):
        client.status("x")


def test_a_wrong_password_is_a_line(nodes: Cluster, console: Console) -> None:
    said = console.run(
        "list",
        environment={"TRAINMASTER_REDIS_URL": nodes.url.replace(nodes.password, "wr0ng-s3cret")},
    )
    assert said.code == 1
    assert len(said.err.splitlines()) == 1
    assert "password" in said.err
    assert "s3cret" not in said.err


def test_the_broker_asks_for_its_node_as_the_user_of_the_url(nodes: Cluster) -> None:
    secret = secrets.token_urlsafe(24)
    for node in nodes.nodes:
        nodes.ask(node, "ACL", "SETUSER", "taker", "on", f">{secret}", "~*", "&*", "+@all")
    url = nodes.url.replace(f":{nodes.password}@", f"taker:{secret}@")
    broker = RedisAddress.parse(url).broker(PREFIX)
    options = {**broker.options, "global_keyprefix": PREFIX}
    with Connection(
        broker.url, transport=broker.transport, transport_options=options
    ) as connection:
        channel: Any = connection.default_channel
        assert channel.client.ping()
        # kombu leaves its sockets to the garbage collector.
        channel.pool.disconnect()


def test_a_call_that_is_tried_again_by_redis_py_itself_is_at_the_right_node(nodes: Cluster) -> None:
    """It sends again over the connection that was closed, without a word to the pool."""
    wrong = next(node for node in nodes.nodes if node.port not in nodes.ports_of(PREFIX))
    client = RedisAddress.parse(nodes.url).client(PREFIX, retry=Retry(ConstantBackoff(0.01), 2))
    owner = client.connection_pool.connection_kwargs["owner"]
    owner.current = Node("127.0.0.1", wrong.port)
    client.set(f"{PREFIX}tried", "again")
    assert client.get(f"{PREFIX}tried") == b"again"
    assert owner.current.port == nodes.ports_of(PREFIX)[0]
    client.delete(f"{PREFIX}tried")
    client.close()


async def test_a_script_runs_whole_or_not_at_all_while_its_slot_is_moved_key_by_key(
    nodes: Cluster,
) -> None:
    """The script finds a key in a row that has gone to the other node already."""
    key = "{moved}:row"
    redis = connect(nodes.url, key)
    script = redis.register_script(
        "redis.call('HSET', KEYS[1], 'written', 1) return redis.call('GET', ARGV[1])"
    )
    await redis.hset(key, "written", "0")
    await redis.set("{moved}:other", "there")
    slot = slot_of(key)
    source = nodes.primary(key)
    target = next(node for node in nodes.nodes[:3] if node is not source)
    names = {node: nodes.ask(node, "CLUSTER", "MYID") for node in (source, target)}
    nodes.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    nodes.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    migrate = ("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH", nodes.password, "KEYS")
    nodes.ask(source, *migrate, "{moved}:other")
    with pytest.raises(TryAgainError):
        await script(keys=[key], args=["{moved}:other"])
    assert await redis.hget(key, "written") == b"0"
    nodes.ask(source, *migrate, key)
    for node in (target, source):
        nodes.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", names[target])
    # The first call is told that the slot has moved; whoever calls again is at the new node.
    with pytest.raises(RedisConnectionError):
        await script(keys=[key], args=["{moved}:other"])
    assert await script(keys=[key], args=["{moved}:other"]) == b"there"
    assert await redis.hget(key, "written") == b"1"
    await redis.aclose()
