"""kombu's transport for Redis, with connections that follow one slot of a Redis Cluster.

kombu has none for clusters. It needs none here: every key of ours begins with the namespace in
braces, Celery's too (`global_keyprefix`), so all lie on one node. Messages to all workers go by
publish and subscribe, which nodes pass on to each other.
"""

from __future__ import annotations

from typing import Any, Final

from kombu.transport import redis as kombu_redis

from trainmaster_client.cluster import ClusterConnection, ClusterSSLConnection, Node, SlotOwner

_OF_NODES: Final = ("username", "password")


class Channel(kombu_redis.Channel):
    """A channel whose connections go to the node that serves the slot now."""

    from_transport_options = (
        *kombu_redis.Channel.from_transport_options,
        "cluster_nodes",
        "cluster_slot",
    )
    cluster_nodes: tuple[tuple[str, int], ...] = ()
    cluster_slot = 0
    connection_class = ClusterConnection
    connection_class_ssl = ClusterSSLConnection

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        options = {
            name: value
            for name, value in params.items()
            if name in _OF_NODES or name.startswith("ssl_")
        }
        options["ssl"] = issubclass(params["connection_class"], ClusterSSLConnection)
        nodes = [Node(*node) for node in self.cluster_nodes]
        # One for each pool, as each holds connections of one thread.
        return {**params, "owner": SlotOwner(self.cluster_slot, nodes, options)}


class Transport(kombu_redis.Transport):
    """A transport over such channels."""

    Channel = Channel
