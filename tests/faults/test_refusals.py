"""Refusals in the middle of scripts in short form; the seed stands in the test's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.refusals import streams_used_up

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long


@pytest.mark.parametrize("seed", [107])
def test_nothing_is_lost_or_told_twice_while_redis_refuses_what_scripts_do(
    tmp_path: Path, seed: int
) -> None:
    found = streams_used_up(tmp_path, seed, 200, 3, seconds=2)
    assert found.holds, found.line()
