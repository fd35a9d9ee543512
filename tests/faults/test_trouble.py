"""Leases and races in short form; the seed stands in each test's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.crash_places import crash_at, open_fleet
from tests.faults.scenarios.leases import frozen, lost_wake_ups, tripled
from tests.faults.scenarios.races import cancels, rate_limit, retry_after, stops
from tests.faults.scenarios.waits import waiting_trainings
from tests.faults.workload import Scene

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.audit import Report

LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("seed", "scenario"),
    [
        pytest.param(201, lambda at, seed: frozen(at, seed, 120, 1), id="201-frozen-worker"),
        pytest.param(
            202,
            lambda at, seed: lost_wake_ups(at, seed, 120),
            id="202-lost-wake-ups",
            marks=LONG,
        ),
        pytest.param(
            203,
            lambda at, seed: tripled(at, seed, 200),
            id="203-three-of-each",
            marks=LONG,
        ),
        pytest.param(207, lambda at, seed: cancels(at, seed, 100), id="207-cancels", marks=LONG),
        pytest.param(208, lambda at, seed: stops(at, seed, 120, 4), id="208-stops"),
        pytest.param(
            212,
            lambda at, seed: retry_after(at, seed, 300, 6),
            id="212-retry-after",
            marks=LONG,
        ),
        pytest.param(
            209,
            lambda at, seed: rate_limit(at, seed, 50, 5),
            id="209-rate-limit",
            marks=LONG,
        ),
    ],
)
def test_the_promise_holds_in(
    tmp_path: Path, seed: int, scenario: Callable[[Path, int], Report]
) -> None:
    found = scenario(tmp_path, seed)
    assert found.holds, found.line()


@pytest.mark.long
def test_waits_for_many_trainings_outlive_their_workers_210(tmp_path: Path) -> None:
    found = waiting_trainings(tmp_path, 210, 150, 8, kill_every_seconds=4)
    assert found.holds, found.line()


def test_the_suite_sees_a_broken_fence(tmp_path: Path) -> None:
    def is_seen(run: int) -> bool:
        found = frozen(tmp_path / str(run), 211 + run, 120, 1, MUTATION="fencing")
        return bool(found.doubled)

    # On a busy machine what the frozen worker had in hand may end by a timeout of its own.
    assert any(is_seen(run) for run in range(4))


def test_the_suite_sees_a_post_before_its_intent(tmp_path: Path) -> None:
    def is_seen(run: int) -> bool:
        with open_fleet(tmp_path / str(run), MUTATION="intent") as fleet:
            return bool(crash_at(fleet, Scene.prepare(fleet), "post.after", "kill").doubled)

    # The first POST may be one that the API refuses a second time, an attachment above all.
    assert any(is_seen(run) for run in range(6))


def test_the_suite_sees_an_acknowledgement_before_its_accept(tmp_path: Path) -> None:
    with open_fleet(tmp_path, MUTATION="acknowledgement") as fleet:
        scene = Scene.prepare(fleet)
        assert crash_at(fleet, scene, "accept.before", "kill", seconds=12).lost
