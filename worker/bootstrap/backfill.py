"""Builds what backfills that a worker leads need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.backfill.handler import Backfills
from worker.backfill.results.output import folder_name
from worker.backfill.store import BackfillStore

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.settings import Settings


def create_backfills(settings: Settings, redis: Redis, keys: Keys) -> Backfills:
    """Returns what backfills that a worker leads need."""
    store = BackfillStore(
        redis,
        keys,
        retention_seconds=settings.id_retention_seconds,
        reply_retention_seconds=settings.event_retention_seconds,
    )
    return Backfills(
        store=store,
        output=backfill_output(settings),
        window=settings.backfill_window,
        part_items=settings.backfill_part_items,
    )


def backfill_output(settings: Settings) -> str:
    """Returns where the folders of backfills that come as commands lie.

    Partitions have one store, and each may have a backfill of the same id, whose parts would take
    each other's place: they have a folder each.
    """
    folder = f"{settings.result_store.rstrip('/')}/backfills"
    is_alone = len(settings.partitions) == 1
    return folder if is_alone else f"{folder}/{folder_name(settings.namespace)}"
