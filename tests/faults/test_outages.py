"""Outages in short form; the seed stands in each test's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.outages import (
    api_away,
    bad_deploy,
    due_sets_deleted,
    key_refused,
    redis_away,
    redis_demoted,
    redis_full,
    redis_without_replicas,
    wake_ups_blocked,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.audit import Report

LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("seed", "scenario"),
    [
        pytest.param(204, lambda at, seed: redis_away(at, seed, 160, 4), id="204-redis-away"),
        pytest.param(
            205,
            lambda at, seed: redis_full(at, seed, 160, 3),
            id="205-redis-full",
            marks=LONG,
        ),
        pytest.param(
            214,
            lambda at, seed: redis_without_replicas(at, seed, 160, 3),
            id="214-no-replicas",
            marks=LONG,
        ),
        pytest.param(
            215,
            lambda at, seed: redis_demoted(at, seed, 160, 3),
            id="215-demoted",
            marks=LONG,
        ),
        pytest.param(
            216,
            lambda at, seed: wake_ups_blocked(at, seed, 160),
            id="216-wake-ups",
            marks=LONG,
        ),
        pytest.param(
            218,
            lambda at, seed: due_sets_deleted(at, seed, 160, 3),
            id="218-due-sets",
            marks=LONG,
        ),
        pytest.param(206, lambda at, seed: api_away(at, seed, 60, 2), id="206-api-away"),
        pytest.param(
            213,
            lambda at, seed: bad_deploy(at, seed, 240),
            id="213-bad-deploy",
            marks=LONG,
        ),
        pytest.param(
            214,
            lambda at, seed: key_refused(at, seed, 160, 3),
            id="214-key-refused",
            marks=LONG,
        ),
    ],
)
def test_the_promise_holds_in(
    tmp_path: Path, seed: int, scenario: Callable[[Path, int], Report]
) -> None:
    found = scenario(tmp_path, seed)
    assert found.holds, found.line()
