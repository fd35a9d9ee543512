"""Clocks and long pauses in short form; the seed stands in each test's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.clocks import clock_back, fast_clock, long_retry_after
from tests.moved_clock import NEEDED, can_move

if TYPE_CHECKING:
    from pathlib import Path

movable = pytest.mark.skipif(not can_move(), reason=NEEDED)

pytestmark = pytest.mark.long


def test_a_pause_of_a_day_is_cut_and_lifted_by_a_person_501(tmp_path: Path) -> None:
    found = long_retry_after(tmp_path, 501, 300)
    assert found.holds, found.line()


@movable
def test_work_goes_on_though_the_clock_of_redis_goes_back_502(tmp_path: Path) -> None:
    found = clock_back(tmp_path, 502, 240)
    assert found.holds, found.line()


@movable
def test_no_deadline_fails_for_a_worker_whose_clock_is_fast_503(tmp_path: Path) -> None:
    found = fast_clock(tmp_path, 503, 240)
    assert found.holds, found.line()
