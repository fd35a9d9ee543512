"""What `doctor` checks of a Redis Cluster: who holds the namespace, what a failover may lose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from redis.exceptions import ResponseError

from trainmaster_client.cluster import Node, nodes_of, slot_of
from worker.cli.doctor.checks import Finding, Level, permitted

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.redis_address import RedisAddress

_CHECK: Final = "redis.cluster"
_REPLICAS: Final = "redis.replicas"


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What a node of a cluster says of itself and of a slot.

    Attributes:
        is_node: whether the server is a node of a cluster at all.
        node: where the slot's primary is; None where no node serves it.
        replicas: of that node, as the cluster knows them.
        connected: replicas that follow it now.
        required: its min-replicas-to-write; None where it does not tell.
        is_moving: whether the slot is on its way to another node.
    """

    is_node: bool
    node: Node | None = None
    replicas: int = 0
    connected: int = 0
    required: int | None = None
    is_moving: bool = False


async def check_cluster(redis: Redis, keys: Keys, address: RedisAddress) -> list[Finding]:
    """Returns what is found of the cluster; nothing for a server that is no part of one.

    Raises:
        redis.exceptions.RedisError: Redis can't be asked.
    """
    return await permitted(_CHECK, _look(redis, keys, address))


async def _look(redis: Redis, keys: Keys, address: RedisAddress) -> list[Finding]:
    slot = slot_of(keys.prefix)
    facts = await cluster_facts(redis, slot, Node(*address.hosts[0]))
    return judge_cluster(facts, slot, keys.namespace, is_followed=address.is_cluster)


async def cluster_facts(redis: Redis, slot: int, asked: Node) -> ClusterFacts:
    """Returns what the node that a client is connected to says.

    Raises:
        redis.exceptions.RedisError: it can't be asked.
    """
    info = await redis.info()
    if not int(info.get("cluster_enabled", 0)):
        return ClusterFacts(is_node=False)
    slots = await cast("Any", redis).execute_command("CLUSTER SLOTS")
    nodes = nodes_of(slot, slots, asked)
    if not nodes:
        return ClusterFacts(is_node=True)
    return ClusterFacts(
        is_node=True,
        node=nodes[0],
        replicas=len(nodes) - 1,
        connected=int(info.get("connected_slaves", 0)),
        required=await _required_replicas(redis),
        is_moving=await _is_moving(redis, slot),
    )


def judge_cluster(
    facts: ClusterFacts, slot: int, namespace: str, *, is_followed: bool
) -> list[Finding]:
    """Returns what a cluster's state means for a namespace.

    Args:
        facts: of the node that has the slot.
        slot: of the namespace.
        namespace: of the ledger.
        is_followed: whether the URL is one by which failovers are followed.
    """
    if not facts.is_node:
        return []
    if facts.node is None:
        said = f"no node serves slot {slot}, which {namespace} is in"
        advice = "look at CLUSTER SLOTS and CLUSTER NODES; workers wait and go on by themselves"
        return [Finding(_CHECK, Level.FAIL, said, advice)]
    said = f"slot {slot} of {namespace} is at {facts.node}"
    if not is_followed:
        advice = "write redis+cluster:// (by TLS rediss+cluster://) in TRAINMASTER_REDIS_URL"
        told = f"{said}, and a URL of one server follows no failover"
        return [Finding(_CHECK, Level.WARN, told, advice), _judge_replicas(facts)]
    if facts.is_moving:
        told = f"{said} and on its way to another node: workers wait until it is there"
        advice = "finish it: redis-cli --cluster fix"
        return [Finding(_CHECK, Level.WARN, told, advice), _judge_replicas(facts)]
    return [Finding(_CHECK, Level.OK, said), _judge_replicas(facts)]


def _judge_replicas(facts: ClusterFacts) -> Finding:
    if not facts.connected:
        return Finding(
            _REPLICAS,
            Level.WARN,
            f"no replica follows {facts.node}: where it fails, everything waits until it is back",
            "give it a replica: CLUSTER REPLICATE",
        )
    said = f"{facts.connected} of {max(facts.replicas, facts.connected)} replicas follow"
    if facts.required == 0:
        return Finding(
            _REPLICAS,
            Level.WARN,
            f"{said}; min-replicas-to-write is 0: a node that is cut off takes commands that the "
            "failover loses",
            "set min-replicas-to-write 1 and min-replicas-max-lag 10 on each node",
        )
    return Finding(_REPLICAS, Level.OK, said)


async def _required_replicas(redis: Redis) -> int | None:
    try:
        found = await redis.config_get("min-replicas-to-write")
    except ResponseError:
        # Managed servers and tight rights hide it.
        return None
    return next((int(value) for value in found.values() if value), None)


async def _is_moving(redis: Redis, slot: int) -> bool:
    try:
        nodes = await cast("Any", redis).execute_command("CLUSTER NODES")
    except ResponseError:
        return False
    # A node tells of its own moves only.
    moves = [move for node in nodes.values() for move in node["migrations"]]
    return any(move["slot"] == str(slot) and move["state"] == "migrating" for move in moves)
