"""Finds interactive commands behind a backlog of bulk ones in the stream of all.

Reading in order, a worker comes to them only once it has accepted all that stands before them. To
look at an entry takes a tenth of the time of accepting it, so one worker looks at the whole backlog
first and accepts at once what is no bulk command. The rest is read in its turn.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import ResponseError

from worker.queue.intake.pace import ReadPace, size_of
from worker.queue.intake.validation import Entry
from worker.queue.ledger.keys import COMMAND_FIELD
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

log = structlog.get_logger(__name__)

# Between two looks at what has come since; a fraction of the bound that users are told.
_LOOK_SECONDS: Final = 0.2
# What is read in its turn must not wait longer, however fast producers add.
_LONGEST_LOOK_SECONDS: Final = 2.0
# It only makes things faster: where Redis refuses it, the reads in turn go on without it.
_TROUBLE_SECONDS: Final = 10.0
# Who looks says so each time; once it is silent for so long another one does.
_SILENT_MS: Final = 5_000
# A backlog is worth looking at where at least so much of what was read last is bulk.
_WORTH: Final = 0.5
_SAMPLE: Final = 32
_START: Final = b"0-0"
# What only looks like it is not lost, it waits for its turn.
_BULK: Final = re.compile(rb'"priority"\s*:\s*"bulk"')


def seems_bulk(entry: Entry) -> bool:
    """Tells whether a command is bulk, without reading it."""
    return _BULK.search(entry.fields.get(COMMAND_FIELD, b"")) is not None


def _is_worth_it(entries: Sequence[Entry]) -> bool:
    sample = entries[-_SAMPLE:]
    return sum(map(seems_bulk, sample)) >= _WORTH * len(sample)


class LookAhead:
    """Looks at what stands unread in the stream of all, and remembers how far.

    Args:
        redis: any client.
        consumer: this process' name in the group.
        batch: most entries of one page, as of one read: the first large ones come unforeseen.
        batch_bytes: how much the entries of one page are to have.
    """

    def __init__(
        self, redis: Redis, keys: Keys, consumer: str, *, batch: int, batch_bytes: int
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._consumer = consumer
        self._pace = ReadPace(batch, batch_bytes)
        self._place = _START
        self._next_look = 0.0

    def begin_anew(self) -> None:
        """Forgets how far it looked: the backlog is over, or the stream may be another one."""
        self._place = _START

    async def pages(self, read: Sequence[Entry]) -> AsyncIterator[list[Entry]]:
        """Yields what is no bulk command of each page that was not looked at yet.

        Nothing where it is not worth it, or another worker looks.

        Args:
            read: entries that were read in their turn, more of which stand behind them.
        """
        if time.monotonic() < self._next_look or not _is_worth_it(read):
            return
        until = time.monotonic() + _LONGEST_LOOK_SECONDS
        self._place = max(self._place, read[-1].entry_id, key=_order)
        try:
            more = await self._is_ours()
            while more and time.monotonic() < until:
                page, more = await self._next_page()
                yield [entry for entry in page if not seems_bulk(entry)]
                # Not before: what could not be accepted is looked at again.
                if page:
                    self._place = page[-1].entry_id
        except ResponseError as exc:
            self._next_look = time.monotonic() + _TROUBLE_SECONDS
            log.warning(
                "intake.look_ahead_refused",
                key=self._keys.look_ahead,
                error=str(exc),
                advice="interactive commands wait for their turn behind bulk ones meanwhile; "
                "delete the key if it holds something else",
            )
        else:
            self._next_look = time.monotonic() + _LOOK_SECONDS

    async def _is_ours(self) -> bool:
        key = self._keys.look_ahead
        looks = await self._redis.set(key, self._consumer, nx=True, get=True, px=_SILENT_MS)
        if looks is None:
            return True
        if looks != self._consumer.encode():
            return False
        await self._redis.pexpire(key, _SILENT_MS)
        return True

    async def _next_page(self) -> tuple[list[Entry], bool]:
        """Returns the next entries, and whether there may be more."""
        count = self._pace.count
        page = await entries_between(
            self._redis, self._keys.commands, f"({self._place.decode()}", "+", count
        )
        entries = [Entry(entry_id, fields) for entry_id, fields in page]
        self._pace.observe(len(entries), size_of(entries))
        return entries, len(entries) == count


def _order(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number)
