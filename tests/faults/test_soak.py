"""The soak in short form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.soak import Trend, soak

if TYPE_CHECKING:
    from pathlib import Path


def test_a_trend_is_that_of_what_follows_the_warming_up() -> None:
    warming = [(float(at), 100.0 - at) for at in range(30)]
    flat = Trend.of(warming + [(float(at), 50.0) for at in range(30, 100)])
    assert (flat.per_hour, flat.grown) == (0.0, 0.0)
    growing = Trend.of(warming + [(float(at), float(at)) for at in range(30, 100)])
    assert growing.per_hour == pytest.approx(3600)
    assert growing.grown == pytest.approx(69)


@pytest.mark.long
def test_a_gateway_under_a_steady_load_does_not_grow(tmp_path: Path) -> None:
    found = soak(tmp_path, 1, minutes=4)
    assert found.holds, found.line()
