"""Two servers of Redis behind one address, as a managed service or Kubernetes offers them."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from redis import Redis

from tests.console import wait_until
from tests.sentinel import free_port
from tests.socket_server import SocketServer, pass_on
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Pair(SocketServer):
    """The address of the primary; connections stay with the server that they began with."""

    def __init__(self, primary: EmbeddedRedis, other: EmbeddedRedis) -> None:
        self._primary = primary
        self._other = other
        self._deaf = 0

    @property
    def url(self) -> str:
        """Where clients find it."""
        return self._primary.url.replace(f":{self._primary.port}/", f":{self.port}/")

    @property
    def cluster_url(self) -> str:
        """Where clients find it if it is a node of a cluster."""
        return self.url.replace("redis://", "redis+cluster://")

    @property
    def behind(self) -> int:
        """The port of the primary itself."""
        return self._primary.port

    def ask(self, *command: str | int) -> object:
        """Returns what the primary answers, past the address."""
        with Redis.from_url(self._primary.url) as client:
            return client.execute_command(*command)

    def fail_over(self) -> None:
        """Makes the other server the one behind the address, and the primary its replica."""
        with Redis.from_url(self._primary.url) as client:
            # It is read-only from now on; that it never reaches its primary makes no difference.
            client.replicaof("127.0.0.1", 9)
        self._primary, self._other = self._other, self._primary

    def forget(self) -> None:
        """Passes nothing more on of what is connected now, as a firewall that was restarted."""
        self._deaf = self.connections

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        behind, to_behind = await asyncio.open_connection("127.0.0.1", self._primary.port)
        try:
            await asyncio.gather(
                self._pass_on(connection, reader, to_behind), pass_on(behind, writer)
            )
        finally:
            to_behind.close()
            with suppress(OSError, asyncio.CancelledError):
                await to_behind.wait_closed()

    async def _pass_on(
        self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while piece := await reader.read(65_536):
            if connection > self._deaf:
                writer.write(piece)
        writer.close()


@contextmanager
def running_node(folder: Path) -> Iterator[Pair]:
    """Runs a cluster of one node, which tells everybody an address that can forget connections."""
    config = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with EmbeddedRedis(folder / "node", config=config) as node, Pair(node, node) as pair:
        with Redis.from_url(node.url) as client:
            client.config_set("cluster-announce-port", pair.port)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
            wait_until(lambda: _stands(client), "a cluster of one node")
        yield pair


def _stands(client: Any) -> bool:
    return "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO"))


@contextmanager
def running_pair(folder: Path) -> Iterator[Pair]:
    """Runs two servers that let in whoever knows the password of the first."""
    first, second = EmbeddedRedis(folder / "first"), EmbeddedRedis(folder / "second")
    with first, second:
        password = first.url.partition("@")[0].rpartition(":")[2]
        with Redis.from_url(second.url) as client:
            client.config_set("requirepass", password)
        with Pair(first, second) as pair:
            yield pair
