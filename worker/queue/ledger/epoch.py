"""The ledger's epoch: tells a ledger that was emptied from one that is new.

Someone who runs FLUSHALL takes the memory of what was done with everything else: commands sent
again would be carried out again. So the first worker leaves an epoch, and every worker looks for
it. One that finds it gone leaves word of the loss in its place and stops with an alarm; whoever
starts later finds that word and stops too, until a person accepts the loss. Where Redis was emptied
while no worker ran, a witness outside of it may remember the epoch.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

import structlog

from worker.errors import LedgerLostError
from worker.queue.ledger.format import refuse_newer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

    Recall = Callable[[], Awaitable[str | None]]

log = structlog.get_logger(__name__)

_LOST: Final = "lost at "


class Epoch:
    """The epoch of one namespace, as one worker knows it."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._key = keys.epoch
        self.known = ""

    async def enter(self, recall: Recall | None = None) -> None:
        """Learns the epoch; leaves one where there is none yet.

        Args:
            recall: returns what a witness outside of Redis remembers; asked where there is none.

        Raises:
            LedgerLostError: the ledger was lost and nobody has accepted that.
            NewerLedgerError: this version is too old for it.
        """
        await refuse_newer(self._redis, self._keys)
        if recall is not None and not await self._read() and await recall() is not None:
            # Not where another worker has just left one: that is what the witness remembers then.
            lost = _lost_now()
            if await self._redis.set(self._key, lost, nx=True):
                raise self._lost(lost)
        made = uuid.uuid4().hex
        if await self._redis.set(self._key, made, nx=True):
            log.info("ledger.marked", epoch=made)
            self.known = made
            return
        found = await self._read()
        if found.startswith(_LOST):
            raise self._lost(found)
        self.known = found

    async def check(self) -> None:
        """Does nothing while the epoch is there.

        Raises:
            LedgerLostError: it is gone or another one; word of the loss stands in its place.
            NewerLedgerError: a newer version has changed the ledger's format meanwhile.
        """
        await refuse_newer(self._redis, self._keys)
        found = await self._read()
        if found == self.known:
            return
        if not found:
            found = _lost_now()
            await self._redis.set(self._key, found, nx=True)
        raise self._lost(found)

    async def loss(self, recall: Recall | None = None) -> str | None:
        """Returns what is known of a loss that nobody has accepted yet.

        Args:
            recall: returns what a witness outside of Redis remembers; asked where there is none.
        """
        found = await self._read()
        if not found and recall is not None and await recall() is not None:
            return f"{_LOST}a time when no worker ran"
        return found if found.startswith(_LOST) else None

    async def accept_loss(self, recall: Recall | None = None) -> str:
        """Lets workers start afresh; returns the new epoch, or "" where nothing was lost."""
        if await self.loss(recall) is None:
            return ""
        made = uuid.uuid4().hex
        await self._redis.set(self._key, made)
        return made

    async def _read(self) -> str:
        found = cast("bytes | None", await self._redis.get(self._key))
        return "" if found is None else found.decode()

    def _lost(self, found: str) -> LedgerLostError:
        when = found if found.startswith(_LOST) else "replaced by another"
        return LedgerLostError(
            f"the ledger was {when}: someone emptied Redis (FLUSHALL?), so nobody knows any more "
            "which commands were done. Nothing is carried out until you have looked at the API "
            "and run `trainmaster doctor --accept-loss`"
        )


def _lost_now() -> str:
    return f"{_LOST}{datetime.now(UTC).isoformat(timespec='seconds')}"
