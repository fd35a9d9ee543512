"""Bad endpoints beside a good one in short form; the seed stands in the test's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.sinks import sinks

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long


@pytest.mark.parametrize("seed", [108])
def test_no_endpoint_loses_an_event_or_its_order_whatever_others_do_and_who_is_killed(
    tmp_path: Path, seed: int
) -> None:
    found = sinks(tmp_path, seed, rounds=1, seconds=20, kills=2)
    assert found.holds, found.line()
