"""Who serves a slot: what nodes answer, whom to ask next, and what a partition is."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import MovedError

from trainmaster_client import AsyncPartitions, Client, Partitions, partition_of
from trainmaster_client.cluster import Node, SlotOwner, nodes_of, slot_of

ASKED = Node("seed", 7000)


def reply(*hosts: Any, metadata: Any = ()) -> list[Any]:
    """Returns what a node says of all slots: a primary, then replicas."""
    return [[0, 16383, *([host, 7001 + n, b"id", metadata] for n, host in enumerate(hosts))]]


def test_all_keys_of_a_namespace_are_in_the_slot_of_its_prefix() -> None:
    assert (
        slot_of("{trainmaster}:") == slot_of("{trainmaster}:command:{x}") == slot_of("trainmaster")
    )
    # As CLUSTER KEYSLOT says it.
    assert slot_of("123456789") == 12739


@pytest.mark.parametrize(
    ("host", "metadata", "node"),
    [
        (b"10.0.0.1", [], "10.0.0.1:7001"),
        (b"::1", [], "[::1]:7001"),
        (b"node-1.example.com", [b"ip", b"10.0.0.1"], "node-1.example.com:7001"),
        (None, [b"ip", b"10.0.0.1"], "seed:7001"),
        (b"", [], "seed:7001"),
        (b"?", {b"ip": b"10.0.0.1"}, "10.0.0.1:7001"),
        (b"?", [], "seed:7001"),
    ],
)
def test_a_node_is_where_the_cluster_says_or_where_it_was_asked(
    host: Any, metadata: Any, node: str
) -> None:
    """Behind NAT nodes tell no host, by cluster-preferred-endpoint-type unknown-endpoint."""
    (found,) = nodes_of(5, reply(host, metadata=metadata), ASKED)
    assert str(found) == node


def test_a_slot_that_nobody_serves_has_no_node() -> None:
    assert nodes_of(5, [[6, 7, [b"a", 1, b"id", []]]], ASKED) == ()


def test_a_node_that_was_lost_is_asked_last_of_all_that_are_known() -> None:
    owner = SlotOwner(5, [ASKED], {})
    assert owner.learn(ASKED, reply(b"a", b"b")) == Node("a", 7001)
    assert repr(owner) == "SlotOwner(slot=5, current=a:7001)"
    owner.lost(Node("a", 7001))
    assert repr(owner) == "SlotOwner(slot=5, current=None)"
    assert owner._to_ask() == [Node("b", 7002), ASKED, Node("a", 7001)]


def test_whoever_moved_away_tells_where_to() -> None:
    owner = SlotOwner(5, [ASKED], {})
    assert owner.moved(MovedError("5 10.0.0.2:7002"), ASKED) == Node("10.0.0.2", 7002)
    assert owner.moved(MovedError("5 ::1:7002"), ASKED) == Node("::1", 7002)
    assert owner.moved(MovedError("5 :7002"), ASKED) == Node("seed", 7002)


def test_an_owner_shows_no_password() -> None:
    assert "geheim" not in repr(SlotOwner(5, [ASKED], {"password": "geheim"}))


@pytest.mark.parametrize(("command_id", "partition"), [("a", "apac"), ("c", "eu"), ("größe", "us")])
def test_the_partition_of_an_id_is_the_documented_one(command_id: str, partition: str) -> None:
    """Programs in other languages choose by the same rule, so it never changes."""
    assert partition_of(command_id, ["eu", "us", "apac"]) == partition
    assert partition_of(command_id, ["us", "apac", "eu"]) == partition


def test_a_further_partition_takes_its_share_and_moves_nothing_else() -> None:
    ids = [f"id-{number}" for number in range(3_000)]
    before = {each: partition_of(each, ["a", "b"]) for each in ids}
    after = {each: partition_of(each, ["a", "b", "c"]) for each in ids}
    moved = {each for each in ids if before[each] != after[each]}
    assert {after[each] for each in moved} == {"c"}
    assert 900 < len(moved) < 1_100
    assert 1_400 < list(before.values()).count("a") < 1_600


def test_partitions_have_namespaces_that_differ() -> None:
    with pytest.raises(ValueError, match="two clients have the namespace 'a'"):
        Partitions.of("redis://127.0.0.1:9", ["a", "a"])
    with pytest.raises(ValueError, match="one client at least"):
        AsyncPartitions([])
    with pytest.raises(ValueError, match="one reply_to"):
        Partitions([
            Client("redis://127.0.0.1:9", namespace="a", reply_to="x"),
            Client("redis://127.0.0.1:9", namespace="b"),
        ])
