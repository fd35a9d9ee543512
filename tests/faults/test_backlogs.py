"""Backlogs in short form; how long one waits is measured by the long form alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.backlogs import INTERACTIVE, bulk_backlog
from worker.queue.ledger.keys import CommandStream

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long


@pytest.mark.parametrize("stream", CommandStream, ids=["common", "bulk"])
def test_a_backlog_of_bulk_commands_in_either_stream_ends_whole_and_once(
    tmp_path: Path, stream: CommandStream
) -> None:
    found = bulk_backlog(tmp_path, 106, 5_000, stream, 120, seconds=240)
    assert found.holds, found.line()
    assert found.commands == 5_000 + INTERACTIVE
