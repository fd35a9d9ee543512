"""The stream of events that a read model is made of, as Redis tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from redis.exceptions import NoPermissionError, ResponseError

from worker.gateway.read_model.timeline import entry_numbers
from worker.gateway.read_model.writing import FIRST
from worker.queue.ledger.connection import BLOCK_MILLISECONDS
from worker.queue.ledger.streams import entries_after, entries_between

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.gateway.read_model.writing import Progress
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.streams import StreamEntry


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a stream reaches.

    Attributes:
        first: the entry that it begins with, as numbers.
        last: the last that it was given, kept or not.
        length: how many entries it holds.
        added: how many it was ever given.
    """

    first: tuple[int, int]
    last: tuple[int, int]
    length: int
    added: int

    @property
    def removed(self) -> int:
        """How many entries it no longer holds."""
        return self.added - self.length


class EventSource:
    """The events of a namespace.

    Args:
        redis: of the ledger.
        keys: of the namespace.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def epoch(self) -> str:
        """Returns the ledger's epoch; empty where no worker has run yet."""
        found = cast("bytes | None", await self._redis.get(self._keys.epoch))
        return "" if found is None else found.decode(errors="replace")

    async def extent(self) -> Extent | None:
        """Returns how far the stream reaches; None where there is none."""
        try:
            told = await self._redis.xinfo_stream(self._keys.events)
        except NoPermissionError:
            raise
        except ResponseError:
            return None
        first = told["first-entry"]
        last = entry_numbers(_text(told["last-generated-id"]))
        return Extent(
            first=entry_numbers(_text(first[0])) if first else (last[0], last[1] + 1),
            last=last,
            length=int(told["length"]),
            added=int(told["entries-added"]),
        )

    async def after(self, cursor: str, count: int) -> list[StreamEntry]:
        """Returns the entries behind a cursor, so many at most; waits a while for the first."""
        return await entries_after(
            self._redis, self._keys.events, cursor, count=count, block_ms=BLOCK_MILLISECONDS
        )

    async def goes_on_from(self, progress: Progress) -> bool:
        """Returns whether the stream goes on from where a model has come.

        Someone may have emptied Redis, or an older copy of it may have taken over; and workers
        remove events that are older than their retention, read or not.
        """
        if progress.epoch and progress.epoch != await self.epoch():
            return False
        if progress.cursor == FIRST:
            return True
        extent = await self.extent()
        cursor = entry_numbers(progress.cursor)
        # One that was given fewer than were read from it is another one, however late its entries.
        if extent is None or cursor > extent.last or extent.added < progress.added:
            return False
        if cursor == extent.last:
            return progress.added == extent.added
        if cursor < extent.first:
            return progress.added >= extent.removed
        at = progress.cursor
        return bool(await entries_between(self._redis, self._keys.events, at, at))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
