"""The ledger's marker: tells a ledger that was emptied from one that is new.

Someone who runs FLUSHALL takes the memory of what was done with everything else: commands sent
again would be carried out again. So the first worker leaves a marker, and every worker looks for
it. One that finds it gone leaves word of the loss in its place and stops with an alarm; whoever
starts later finds that word and stops too, until a person accepts the loss.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

import structlog

from worker.errors import LedgerLostError

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.ledger.keys import Keys

log = structlog.get_logger(__name__)

_LOST: Final = "lost at "


class Marker:
    """The marker of one namespace, as one worker knows it."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._key = keys.marker
        self.known = ""

    async def enter(self) -> None:
        """Learns the marker; leaves one where there is none yet.

        Raises:
            LedgerLostError: the ledger was lost and nobody has accepted that.
        """
        made = uuid.uuid4().hex
        if await self._redis.set(self._key, made, nx=True):
            log.info("ledger.marked", marker=made)
            self.known = made
            return
        found = await self._read()
        if found.startswith(_LOST):
            raise self._lost(found)
        self.known = found

    async def check(self) -> None:
        """Does nothing while the marker is there.

        Raises:
            LedgerLostError: it is gone or another one; word of the loss stands in its place.
        """
        found = await self._read()
        if found == self.known:
            return
        if not found:
            found = f"{_LOST}{datetime.now(UTC).isoformat(timespec='seconds')}"
            await self._redis.set(self._key, found, nx=True)
        raise self._lost(found)

    async def loss(self) -> str | None:
        """Returns what is known of a loss that nobody has accepted yet."""
        found = await self._read()
        return found if found.startswith(_LOST) else None

    async def accept_loss(self) -> bool:
        """Lets workers start afresh; returns whether there was a loss to accept."""
        if await self.loss() is None:
            return False
        await self._redis.set(self._key, uuid.uuid4().hex)
        return True

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
