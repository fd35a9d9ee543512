"""Rules of what is told of commands that were accepted together."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.integration.ledger_acts import new_command
from worker.queue.intake.received import tell_received
from worker.queue.intake.validation import Entry
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.queue.telemetry import SentCommand


class Hearing(Listener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[list[str], str, float]] = []

    def received(self, batch: Sequence[SentCommand], destination: str, seconds: float) -> None:
        self.heard.append(([each.command_id for each in batch], destination, seconds))


def test_it_is_told_who_came_from_where_and_how_many_seconds_that_took() -> None:
    told = Hearing()
    pair = Entry(b"1-0", {}), new_command(b"1-0", "a")
    tell_received(told, [pair], "commands", time.monotonic() - 100)
    ((ids, destination, seconds),) = told.heard
    assert (ids, destination) == (["a"], "commands")
    assert 100 <= seconds < 1_000
