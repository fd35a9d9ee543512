"""Misleading replies in short form; the seed stands in each test's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.api_replies import odd_statuses, unasked_replies

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", [106])
def test_no_command_ends_with_what_was_sent_for_another(tmp_path: Path, seed: int) -> None:
    found = unasked_replies(tmp_path, seed, 400, seconds=400)
    assert found.holds, found.line()
    assert found.details["lies"] > 50


@pytest.mark.parametrize("seed", [107])
def test_nothing_is_created_twice_whatever_status_a_creation_is_answered_with(
    tmp_path: Path, seed: int
) -> None:
    found = odd_statuses(tmp_path, seed, 15, seconds=400)
    assert found.holds, found.line()
    assert found.details["odd"] > 5
