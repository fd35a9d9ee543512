"""Colliding ids in short form; the seed stands in the test's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.ids import colliding_ids

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long


@pytest.mark.parametrize("seed", [105])
def test_commands_and_items_of_the_same_ids_end_once_each_though_workers_die(
    tmp_path: Path, seed: int
) -> None:
    found = colliding_ids(tmp_path, seed, 100, kills=1, seconds=400)
    assert found.holds, found.line()
    assert found.faults == 2
