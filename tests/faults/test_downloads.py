"""Servers of files that break off or never answer, in short form; the seed stands in the name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.downloads import remote_bodies, silent_downloads

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long


@pytest.mark.parametrize("seed", [106])
def test_bodies_that_break_off_are_sent_whole_or_read_again_though_workers_die(
    tmp_path: Path, seed: int
) -> None:
    found = remote_bodies(tmp_path, seed, 100, kills=2, seconds=400)
    assert found.holds, found.line()
    assert found.faults > 50


@pytest.mark.parametrize("seed", [107])
def test_commands_go_on_though_more_downloads_than_places_wait_for_a_silent_server(
    tmp_path: Path, seed: int
) -> None:
    found = silent_downloads(tmp_path, seed, 60, rounds=2)
    assert found.holds, found.line()
