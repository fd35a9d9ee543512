"""What is told of commands that were accepted together."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.queue.telemetry import SentCommand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.queue.intake.validation import Entry
    from worker.queue.ledger.models import NewCommand
    from worker.queue.telemetry import Listener


def tell_received(
    telemetry: Listener,
    batch: Sequence[tuple[Entry, NewCommand]],
    destination: str,
    begun: float,
) -> None:
    """Tells those who want to know of each command that is new.

    Args:
        telemetry: whoever is told.
        batch: accepted together.
        destination: the stream that they came in.
        begun: when the first one was looked at, in seconds of a clock that never goes back.
    """
    if not batch or not telemetry.hears("received"):
        return
    sent = [
        SentCommand(
            new.command_id,
            new.command_type,
            new.lane,
            entry.origin,
            context={} if new.command is None else new.command.context(),
        )
        for entry, new in batch
    ]
    telemetry.received(sent, destination, time.monotonic() - begun)
