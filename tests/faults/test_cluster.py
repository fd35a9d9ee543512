"""Failovers of a Redis Cluster in short form; the seed stands in the test's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.cluster import cluster_failover

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long


@pytest.mark.parametrize("seed", [230])
def test_no_failover_of_a_cluster_loses_what_the_replica_had(tmp_path: Path, seed: int) -> None:
    found = cluster_failover(tmp_path, seed, 300, 2)
    assert found.holds, found.line()
