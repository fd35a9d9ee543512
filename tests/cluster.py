"""A Redis Cluster of real servers: primaries, and replicas of the one that holds a key."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from redis import Redis
from redis.exceptions import RedisError

from tests.faults.fleet import wait_until
from tests.sentinel import free_port
from trainmaster_client.cluster import slot_of
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PATIENCE_SECONDS = 180
SLOTS = 16_384


@dataclass
class Cluster:
    """Servers of one cluster; they are told to meet, and who serves what, by commands alone."""

    nodes: list[EmbeddedRedis]
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """What a worker is told: two nodes, of which none need be the one that it wants."""
        places = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])
        return f"redis+cluster://:{self.password}@{places}"

    def client(self, node: EmbeddedRedis) -> Redis:
        """Returns a client of one node."""
        return Redis(port=node.port, password=self.password, socket_timeout=10)

    def ask(self, node: EmbeddedRedis, *command: Any) -> Any:
        """Returns a node's own reply to a command."""
        with self.client(node) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def ports_of(self, key: str) -> list[int]:
        """Returns the port of the primary of a key's slot, and those of its replicas.

        As the first node that answers sees it.
        """
        slot = slot_of(key)
        for node in self.nodes:
            if node.process is None:
                continue
            for first, last, *places in self.ask(node, "CLUSTER SLOTS"):
                if first <= slot <= last:
                    return [int(place[1]) for place in places]
        return []

    def at(self, port: int) -> EmbeddedRedis:
        """Returns the node at a port."""
        return next(node for node in self.nodes if node.port == port)

    def primary(self, key: str) -> EmbeddedRedis:
        """Returns the node that serves a key."""
        return self.at(self.ports_of(key)[0])

    def follow(self, replica: EmbeddedRedis, primary: EmbeddedRedis) -> None:
        """Makes a node without slots a replica, and waits until it follows."""
        name = self.ask(primary, "CLUSTER", "MYID")
        # A node that has just been met is not known to all at once.
        wait_until(
            lambda: name in self.ask(replica, "CLUSTER", "NODES"), PATIENCE_SECONDS, "they know"
        )
        self.ask(replica, "CLUSTER", "REPLICATE", name)

        def follows() -> bool:
            with self.client(replica) as client:
                info = cast("dict[str, Any]", client.info("replication"))
            return (info["role"], info["master_link_status"]) == ("slave", "up")

        wait_until(follows, PATIENCE_SECONDS, "a replica")
        # And everyone has heard so: only then can it be elected.
        wait_until(
            lambda: all(f"{replica.port}" in self._replicas(node) for node in self.nodes),
            PATIENCE_SECONDS,
            "all know the replica",
        )

    def _replicas(self, node: EmbeddedRedis) -> list[str]:
        lines = self.ask(node, "CLUSTER", "NODES").decode().splitlines()
        return [
            line.split()[1].partition("@")[0].rpartition(":")[2]
            for line in lines
            if "slave" in line.split()[2]
        ]


@contextmanager
def cluster(
    folder: Path,
    *,
    replicas_of: str = "",
    replicas: int = 1,
    config: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """Yields three primaries, and replicas of that which holds a key."""
    password = secrets.token_urlsafe(24)
    count = 3 + (replicas if replicas_of else 0)
    nodes = []
    for number in range(count):
        node = EmbeddedRedis(
            folder / f"node-{number}",
            config={
                "requirepass": password,
                "masterauth": password,
                "cluster-enabled": "yes",
                "cluster-port": str(free_port()),
                "cluster-node-timeout": "1500",
                "repl-diskless-sync-delay": "0",
                **(config or {}),
            },
        )
        node._password = password
        nodes.append(node)
    made = Cluster(nodes, password)
    with ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node)
        _form(made)
        if replicas_of:
            for replica in nodes[3:]:
                made.follow(replica, made.primary(replicas_of))
        yield made


def _form(made: Cluster) -> None:
    first, *others = made.nodes
    share = SLOTS // 3
    for number, node in enumerate(made.nodes):
        made.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        if number < 3:
            last = SLOTS - 1 if number == 2 else (number + 1) * share - 1
            made.ask(node, "CLUSTER", "ADDSLOTSRANGE", number * share, last)
    for node in others:
        bus = made.ask(node, "CONFIG", "GET", "cluster-port")
        port = next(iter(bus.values())) if isinstance(bus, dict) else bus[1]
        made.ask(first, "CLUSTER", "MEET", "127.0.0.1", node.port, port)

    def stands(node: EmbeddedRedis) -> bool:
        try:
            info = made.ask(node, "CLUSTER", "INFO").decode()
        except RedisError:
            return False
        return "cluster_state:ok" in info and f"cluster_known_nodes:{len(made.nodes)}" in info

    wait_until(lambda: all(map(stands, made.nodes)), PATIENCE_SECONDS, "the cluster stands")
