"""Storms in short form; the seed stands in each test's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from tests.faults.scenarios.doubts import resolved_doubts
from tests.faults.scenarios.storms import crashes
from tests.faults.scenarios.trainings import trainings

if TYPE_CHECKING:
    from pathlib import Path

LONG = pytest.mark.long


@pytest.mark.parametrize("seed", [101])
def test_workers_redis_and_poison_may_kill_yet_each_command_ends_once(
    tmp_path: Path, seed: int
) -> None:
    found = crashes(
        tmp_path, seed, 500, 40, kill_every_seconds=2, redis_every_seconds=6, poison=2, seconds=400
    )
    assert found.holds, found.line()
    assert found.faults > 2


@pytest.mark.parametrize(
    ("seed", "shown"), [(102, "listed"), pytest.param(103, "hidden", marks=LONG)]
)
def test_no_training_is_made_twice_though_posts_fail_and_workers_die(
    tmp_path: Path, seed: int, shown: Literal["listed", "hidden"]
) -> None:
    found = trainings(tmp_path, seed, 45, shown)
    assert found.holds, found.line()
    assert found.faults > 2


@pytest.mark.parametrize("seed", [104])
def test_each_doubt_that_a_person_settles_comes_to_one_training(tmp_path: Path, seed: int) -> None:
    found = resolved_doubts(tmp_path, seed, 45)
    assert found.holds, found.line()
    assert found.details["adopted"] > 2
    assert found.details["settled"] > found.details["adopted"] + 2
