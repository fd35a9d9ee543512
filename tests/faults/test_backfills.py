"""Killed backfills in short form; the seed stands in the test's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.backfills import backfills

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", [104])
def test_readers_and_workers_may_be_killed_yet_each_item_has_one_result(
    tmp_path: Path, seed: int
) -> None:
    found = backfills(tmp_path, seed, 6_000, kills=2, seconds=400)
    assert found.holds, found.line()
    assert found.faults == 6
