"""Crash places in short form: those at which something could be lost or done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.crash_places import Action, crash_at, open_fleet
from tests.faults.workload import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.fleet import Fleet


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with open_fleet(tmp_path_factory.mktemp("crash-places")) as opened:
        yield opened


@pytest.fixture(scope="module")
def scene(fleet: Fleet) -> Scene:
    return Scene.prepare(fleet)


@pytest.mark.parametrize(
    ("place", "action"),
    [
        ("celery.after", "kill"),
        ("accept.after", "kill"),
        ("claim.after", "kill"),
        ("post.after", "kill"),
        ("settle.after", "kill"),
        ("post.before", "stop"),
        ("settle.before", "disconnect"),
    ],
)
def test_nothing_is_lost_or_doubled_at(
    fleet: Fleet, scene: Scene, place: str, action: Action
) -> None:
    found = crash_at(fleet, scene, place, action)
    assert found.holds, found.line()
