"""Entries whose content someone deleted or trimmed before they were accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from worker.queue.ledger.keys import GROUP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.queue.intake.validation import Entry

log = structlog.get_logger(__name__)


async def drop_vanished(redis: Redis, entries: Sequence[Entry], stream: str) -> None:
    """Acknowledges entries whose content someone deleted; there is nothing left to validate."""
    ids = [entry.entry_id for entry in entries]
    tell_vanished(ids, stream)
    await redis.xack(stream, GROUP, *ids)


def tell_vanished(entry_ids: Sequence[bytes], stream: str) -> None:
    """Tells of entries that nothing else will ever tell of."""
    if entry_ids:
        log.error(
            "intake.entries_vanished",
            entries=[entry.decode() for entry in entry_ids],
            stream=stream,
            advice="someone deleted or trimmed them before they were accepted: send them again",
        )
