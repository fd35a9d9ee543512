"""Deliveries in short form; the seed stands in each test's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.deliveries import deliveries
from tests.faults.scenarios.reaction_chain import reaction_chain

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.long
@pytest.mark.parametrize("seed", [151])
def test_each_delivery_becomes_its_commands_once_whoever_is_killed(
    tmp_path: Path, seed: int
) -> None:
    found = deliveries(tmp_path, seed, 300, 4)
    assert found.holds, found.line()
    assert found.faults == 4


@pytest.mark.parametrize("seed", [152])
def test_each_push_is_trained_and_attached_once_whoever_is_killed(
    tmp_path: Path, seed: int
) -> None:
    found = reaction_chain(tmp_path, seed, 8, 3)
    assert found.holds, found.line()
    assert found.faults == 3
