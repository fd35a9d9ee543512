"""Connections that follow one hash slot of a Redis Cluster.

All keys of a namespace share one slot, so one primary holds them: a client needs that node, and no
other. Each connection asks the cluster which one it is before it connects, as connections by
Sentinel do, and asks again once that node is lost, has handed the slot on, or says that the cluster
is down. So scripts, blocking reads and pipelines go out as to a single server; redis-py's own
client for clusters chooses a node for each command by its keys, and takes no script in a pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.retry
import redis.connection
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from trainmaster_client.packing import pack_safely

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A node that is cut off costs so long each time the owner is looked for; then others are asked.
_ASK_SECONDS: Final = 2.0
_ASK: Final = "CLUSTER SLOTS"
_ONCE: Final = Retry(NoBackoff(), 0)
_ASYNC_ONCE: Final = redis.asyncio.retry.Retry(NoBackoff(), 0)
_TROUBLE: Final = (RedisConnectionError, RedisTimeoutError, OSError)
_REFUSED: Final = (AuthenticationError, AuthorizationError)
# By the server's setting cluster-preferred-endpoint-type: the asked one's own, or none that is set.
_UNKNOWN_HOSTS: Final = frozenset({"", "?"})


class Node(NamedTuple):
    """A server of a cluster."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def slot_of(key: str) -> int:
    """Returns the hash slot of a key, 0 to 16383."""
    return int(key_slot(key.encode()))


class SlotOwner:
    """Which node serves a slot, as far as is known; all connections of a pool share one.

    Args:
        slot: of the keys.
        seeds: nodes that can be asked first.
        options: how nodes are reached, as redis-py names it: user, password, TLS.
    """

    def __init__(self, slot: int, seeds: Sequence[Node], options: Mapping[str, Any]) -> None:
        self.slot = slot
        self.current: Node | None = None
        self._seeds = tuple(seeds)
        self._known: tuple[Node, ...] = ()
        self._lost: Node | None = None
        self._options = {
            **options,
            "socket_timeout": _ASK_SECONDS,
            "socket_connect_timeout": _ASK_SECONDS,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}(slot={self.slot}, current={self.current})"

    def lost(self, node: Node) -> None:
        """The node can't be reached, or can't serve the slot now: who does is asked anew."""
        self._lost = node
        if self.current == node:
            self.current = None

    def moved(self, error: MovedError, by: Node) -> Node:
        """Learns from a node whom it sends us to; returns that."""
        self.current = Node(error.host or by.host, error.port)
        return self.current

    def find(self) -> Node:
        """Returns the node that serves the slot, from the first node that can be asked.

        Raises:
            redis.exceptions.ConnectionError: no node can be asked, or none serves the slot.
            redis.exceptions.ResponseError: what answers is no cluster.
        """
        search = _Search(self)
        for node in self._to_ask():
            client = redis.Redis(host=node.host, port=node.port, retry=_ONCE, **self._options)
            pack_safely(client).response_callbacks.clear()
            try:
                return search.answered(node, client.execute_command(_ASK))
            except (*_TROUBLE, ResponseError) as exc:
                search.failed(node, exc)
            finally:
                client.close()
        raise search.error() from search.cause

    async def find_async(self) -> Node:
        """Is `find` for an event loop."""
        search = _Search(self)
        for node in self._to_ask():
            client = redis.asyncio.Redis(
                host=node.host, port=node.port, retry=_ASYNC_ONCE, **self._options
            )
            client.response_callbacks.clear()
            try:
                return search.answered(node, await client.execute_command(_ASK))
            except (*_TROUBLE, ResponseError) as exc:
                search.failed(node, exc)
            finally:
                await client.aclose()
        raise search.error() from search.cause

    def learn(self, asked: Node, slots: Any) -> Node | None:
        """Takes in what a node answered; returns the slot's primary, None where it names none."""
        self._known = tuple(
            dict.fromkeys(_node_of(each, asked) for _, _, *nodes in slots for each in nodes)
        )
        primary, *_ = nodes_of(self.slot, slots, asked) or (None,)
        if primary is not None:
            self.current = primary
        return primary

    def _to_ask(self) -> list[Node]:
        # A node that was just lost may still take itself for the owner.
        nodes = dict.fromkeys((*self._known, *self._seeds))
        return sorted(nodes, key=lambda node: node == self._lost)


@dataclass(slots=True)
class _Search:
    """What came of asking node after node."""

    owner: SlotOwner
    cause: Exception | None = None
    answers: int = 0

    def answered(self, node: Node, slots: Any) -> Node:
        found = self.owner.learn(node, slots)
        if found is None:
            self.answers += 1
            raise RedisConnectionError(f"{node} knows no node for slot {self.owner.slot}")
        return found

    def failed(self, node: Node, exc: Exception) -> None:
        """Notes why a node is of no use; raises what would be the same at each of them."""
        if isinstance(exc, _REFUSED):
            raise exc
        if isinstance(exc, ResponseError) and not isinstance(exc, ClusterDownError):
            if "cluster support disabled" in str(exc):
                told = f"{node} is no node of a cluster: write redis:// or rediss:// in its URL"
                raise ResponseError(told) from exc
            raise exc
        self.cause = exc

    def error(self) -> RedisConnectionError:
        if self.answers:
            return RedisConnectionError(
                f"CLUSTERDOWN no node of the cluster serves slot {self.owner.slot} now"
            )
        return RedisConnectionError(f"no node of the cluster can be asked: {self.cause}")


def nodes_of(slot: int, slots: Any, asked: Node) -> tuple[Node, ...]:
    """Returns the primary of a slot and its replicas, none where nobody serves it.

    Args:
        slot: that is looked for.
        slots: the reply to CLUSTER SLOTS.
        asked: the node that gave it.
    """
    for first, last, *nodes in slots:
        if first <= slot <= last:
            return tuple(_node_of(each, asked) for each in nodes)
    return ()


def _node_of(told: Any, asked: Node) -> Node:
    """Returns a node of the reply to CLUSTER SLOTS: host, port, id, and what else it tells."""
    host, port, *rest = told
    name = _text(host)
    if name in _UNKNOWN_HOSTS:
        more = rest[1] if len(rest) > 1 else []
        pairs = more if isinstance(more, dict) else dict(zip(more[::2], more[1::2], strict=True))
        ip = {_text(key): _text(value) for key, value in pairs.items()}.get("ip", "")
        name = ip if name and ip else asked.host
    return Node(name, int(port))


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.decode() if isinstance(value, bytes) else str(value)


class ClusterConnection(redis.connection.Connection):
    """A connection to whichever node serves a slot; for threads."""

    def __init__(self, *, owner: SlotOwner, **options: Any) -> None:
        super().__init__(**options)
        self._owner = owner

    def connect(self) -> None:
        """Connects, to another node where the slot has another owner by now."""
        if self._is_open:
            if self._owner.current in (None, self._node):
                return
            self.disconnect()
        try:
            super().connect()
        except _TROUBLE:
            self._owner.lost(self._node)
            raise

    def _connect(self) -> Any:
        # Here, for a command that finds the connection closed does not call `connect`.
        self.host, self.port = self._owner.current or self._owner.find()
        try:
            return super()._connect()
        except OSError:
            self._owner.lost(self._node)
            raise

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Returns a reply; that the slot is served elsewhere ends the connection."""
        if not self._is_open:
            # An earlier reply of the same pipeline has ended it.
            raise RedisConnectionError("the connection has closed")
        try:
            return super().read_response(*args, **options)
        except MovedError as exc:
            node = self._owner.moved(exc, self._node)
            self.disconnect()
            raise RedisConnectionError(f"slot {self._owner.slot} has moved to {node}") from exc
        except AskError as exc:
            raise TryAgainError(f"slot {self._owner.slot} is on its way to another node") from exc
        except (ReadOnlyError, ClusterDownError) as exc:
            self._owner.lost(self._node)
            self.disconnect()
            if isinstance(exc, ReadOnlyError):
                raise RedisConnectionError(f"{self._node} is a replica now") from exc
            raise

    @property
    def _node(self) -> Node:
        return Node(self.host, self.port)

    @property
    def _is_open(self) -> bool:
        sock: Any = self._sock
        return sock is not None


class ClusterSSLConnection(ClusterConnection, redis.connection.SSLConnection):
    """The same by TLS."""


class AsyncClusterConnection(redis.asyncio.connection.Connection):
    """A connection to whichever node serves a slot; for an event loop."""

    def __init__(self, *, owner: SlotOwner, **options: Any) -> None:
        super().__init__(**options)
        self._owner = owner

    async def connect(self) -> None:
        """Connects, to another node where the slot has another owner by now."""
        if self.is_connected:
            if self._owner.current in (None, self._node):
                return
            await self.disconnect(nowait=True)
        if self._owner.current is None:
            # Here, for redis-py makes one error of all that `_connect` raises.
            await self._owner.find_async()
        try:
            await super().connect()
        except _TROUBLE:
            self._owner.lost(self._node)
            raise

    async def _connect(self) -> None:
        # For a command that finds the connection closed does not call `connect`.
        self.host, self.port = self._owner.current or await self._owner.find_async()
        try:
            await super()._connect()
        except OSError:
            self._owner.lost(self._node)
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Returns a reply; that the slot is served elsewhere ends the connection."""
        if not self.is_connected:
            # An earlier reply of the same pipeline has ended it.
            raise RedisConnectionError("the connection has closed")
        try:
            return await super().read_response(*args, **options)
        except MovedError as exc:
            node = self._owner.moved(exc, self._node)
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"slot {self._owner.slot} has moved to {node}") from exc
        except AskError as exc:
            raise TryAgainError(f"slot {self._owner.slot} is on its way to another node") from exc
        except (ReadOnlyError, ClusterDownError) as exc:
            self._owner.lost(self._node)
            await self.disconnect(nowait=True)
            if isinstance(exc, ReadOnlyError):
                raise RedisConnectionError(f"{self._node} is a replica now") from exc
            raise

    @property
    def _node(self) -> Node:
        return Node(self.host, self.port)


class AsyncClusterSSLConnection(AsyncClusterConnection, redis.asyncio.connection.SSLConnection):
    """The same by TLS."""
