"""A short storm of faults and cancellations; the long one is the scenario `http-storm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.http_storm import http_storm

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("tls", [False, True])
def test_nothing_is_sent_twice_mistold_or_left_behind(tmp_path: Path, *, tls: bool) -> None:
    found = http_storm(tmp_path, 8, 1_500, tls=tls)
    assert found.holds, found.line()
    assert found.faults > 500
    assert found.details["answered"] > 500
    # How many are still under way when they are cancelled depends on the machine.
    assert found.details["cancelled"] > 20
