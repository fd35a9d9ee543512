"""`python -m tests.integration.gateway.page.million` in short form; its times are not judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.gateway.page.million import measure

if TYPE_CHECKING:
    from pathlib import Path

TIMES = {"first paint", "a filter", "event to the screen"}


@pytest.mark.long
def test_a_few_commands_are_found_watched_and_cancelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = measure(tmp_path, 3_000, 300, minutes=0.4, seconds=5.0)
    out = capsys.readouterr().out
    assert set(told.missed) <= TIMES, out
    assert "300 of 300 in" in out
    assert all(name in out for name in (*TIMES, "cost of a watcher", "memory of the tab"))
