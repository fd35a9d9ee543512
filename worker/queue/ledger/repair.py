"""Looks for rows that nobody would ever look at again, and puts them back.

The due sets are the only index of what is open. Where one is deleted, by hand or by a server that
evicts keys, the rows are still there: a scan over them all finds those that are missing.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, cast

from worker.queue.ledger.keys import shown_id
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.models import read_lease

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.models import Lease

# Keys that one SCAN passes over, and so the most rows of one script: under a millisecond of Redis.
STEP: Final = 250
# Between two steps, so that a pass takes Redis no more than about a fiftieth of its time.
PAUSE_SECONDS: Final = 0.05
# Who makes a pass says so again and again; one that dies is followed by another after so long.
HOLD_MS: Final = 30_000
_HOLD_AGAIN_SECONDS: Final = 5.0
# Ids that a log line or a finding names.
SHOWN: Final = 20


class _Found(IntEnum):
    """What the script found of a row."""

    NOTHING = 0
    NOT_DUE = 1
    NOT_INDEXED = 2
    BROKEN = 3
    LOST = 4
    UNREADABLE = 5


@dataclass(frozen=True, slots=True)
class LostRow:
    """A row of which a part is gone, so that it can only be ended.

    Attributes:
        lease: by which it is ended; its text is empty where that is gone.
        command_type: as the row names it, or empty.
    """

    lease: Lease
    command_type: str


@dataclass(slots=True)
class Repaired:
    """What was found.

    Attributes:
        not_due: open rows that stood in no due set.
        not_indexed: rows whose deadline, or place among a backfill's open items, was missing.
        broken: rows of which a part is gone and that perhaps someone runs.
        lost: rows of which a part is gone; those to be ended stand in `to_end`.
        unreadable: rows whose key holds something else.
        whole: whether everything was looked at.
    """

    not_due: int = 0
    not_indexed: int = 0
    broken: int = 0
    lost: int = 0
    unreadable: list[str] = field(default_factory=list)
    to_end: list[LostRow] = field(default_factory=list)
    whole: bool = True

    @property
    def not_recoverable(self) -> int:
        """How many rows can't be run any more."""
        return self.broken + self.lost + len(self.unreadable)


class Repair:
    """The scan over the rows of a namespace; one process makes it at a time.

    Args:
        redis: client that returns bytes.
        keys: the namespace.
        lease_seconds: what may be running is left alone for so long.
    """

    def __init__(self, redis: Redis, keys: Keys, *, lease_seconds: float) -> None:
        self._redis = redis
        self._keys = keys
        self._lease_ms = int(lease_seconds * 1000)
        self._restore = load_script(redis, "restore")

    async def begin(self, holder: str, every_seconds: float) -> bool:
        """Returns whether a pass is due and this process is to make it."""
        key = self._keys.repair
        if await self._redis.set(key, holder, nx=True, px=HOLD_MS):
            return True
        longest = max(HOLD_MS, int(every_seconds * 1000))
        # Redis keeps the moment at which a key expires: a clock that went back has made it last.
        if await self._redis.pttl(key) > longest:
            await self._redis.pexpire(key, longest)
        return False

    async def end(self, every_seconds: float) -> None:
        """Lets the next pass begin after a while."""
        await self._redis.pexpire(self._keys.repair, max(1, int(every_seconds * 1000)))

    async def steps(
        self, holder: str, *, pause_seconds: float = PAUSE_SECONDS
    ) -> AsyncIterator[Repaired]:
        """Puts back what is missing, a few hundred keys at a time; yields what each step found."""
        hold_at = 0.0
        async for ids in self._ids():
            if time.monotonic() >= hold_at:
                hold_at = time.monotonic() + _HOLD_AGAIN_SECONDS
                await self._redis.set(self._keys.repair, holder, px=HOLD_MS)
            if ids:
                yield await self._look(ids, mends=True)
            await asyncio.sleep(pause_seconds)

    async def look(self, seconds: float) -> Repaired:
        """Returns what a pass would find, as far as it gets in a time; changes nothing."""
        end = time.monotonic() + seconds
        total = Repaired()
        # A row whose text is looked at too must not count twice.
        seen: set[bytes] = set()
        async for ids in self._ids():
            fresh = [row_id for row_id in ids if row_id not in seen]
            if fresh:
                _add(total, await self._look(fresh, mends=False))
                seen.update(fresh)
            if time.monotonic() > end:
                total.whole = False
                break
        return total

    async def _ids(self) -> AsyncIterator[list[bytes]]:
        """Yields the ids of rows and of texts, for a text may be all that is left of a row."""
        rows, texts = self._keys.command("").encode(), self._keys.text("").encode()
        pattern = f"{self._keys.prefix}[ct][oe][mx]*"
        cursor: Any = 0
        while True:
            cursor, found = await self._redis.scan(cursor, match=pattern, count=STEP)
            names = cast("list[bytes]", found)
            ids = {name.removeprefix(rows).removeprefix(texts): name for name in names}
            yield [row_id for row_id, name in ids.items() if row_id != name]
            if not int(cursor):
                return

    async def _look(self, ids: list[bytes], *, mends: bool) -> Repaired:
        keys = self._keys
        reply = await self._restore(
            keys=[keys.due_interactive, keys.due_bulk, keys.due_suspect, keys.deadlines],
            args=[keys.prefix, self._lease_ms, int(mends), *ids],
        )
        repaired = Repaired()
        for row_id, (code, *more) in zip(ids, reply, strict=True):
            match _Found(code):
                case _Found.NOT_DUE:
                    repaired.not_due += 1
                case _Found.NOT_INDEXED:
                    repaired.not_indexed += 1
                case _Found.BROKEN:
                    repaired.broken += 1
                case _Found.LOST:
                    repaired.lost += 1
                case _Found.UNREADABLE:
                    repaired.unreadable.append(shown_id(row_id.decode("utf-8", "replace")))
                case _Found.NOTHING:
                    pass
            if more:
                _add_lost(repaired, *cast("tuple[list[Any], bytes]", more))
        return repaired


def _add_lost(repaired: Repaired, fields: list[Any], command_type: bytes) -> None:
    try:
        repaired.to_end.append(LostRow(read_lease(fields), command_type.decode()))
    except ValueError:
        # A name that is no UTF-8 is none of ours.
        repaired.unreadable.append(repr(fields[0]))


def _add(total: Repaired, step: Repaired) -> None:
    total.not_due += step.not_due
    total.not_indexed += step.not_indexed
    total.broken += step.broken
    total.lost += step.lost
    total.unreadable += step.unreadable
