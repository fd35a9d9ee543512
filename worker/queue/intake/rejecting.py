"""Rejects messages, and leaves those pending whose rejection Redis refuses."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import ResponseError

from worker.queue.ledger.outage import STILL_LOST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import CommandStream
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Rejection

log = structlog.get_logger(__name__)

# A rejection that Redis refuses, its dead letter above all, is tried again after so long. Meanwhile
# its entry is left pending, so that what came after it need not wait.
REFUSED_SECONDS = 5.0


class Rejector:
    """Rejects for one consumer.

    Attributes:
        try_again_at: when what is pending is to be read again for a rejection that was refused, by
            the clock that never goes back; infinity where none was.
    """

    def __init__(self, redis: Redis, ledger: Ledger) -> None:
        self._redis = redis
        self._ledger = ledger
        self._keys = ledger.keys
        self.try_again_at = math.inf
        self._tell_refused_at = -math.inf

    async def reject(self, batch: Sequence[Rejection], stream: CommandStream) -> None:
        """Rejects messages of one stream, all but those that Redis refuses."""
        try:
            count = await self._ledger.reject(batch, stream)
        except ResponseError as exc:
            self.try_again_at = time.monotonic() + REFUSED_SECONDS
            if len(batch) == 1:
                await self._tell_refused(batch[0], stream, exc)
                return
            # One of them may be what can't be written: it must not take the others with it.
            for rejection in batch:
                await self.reject([rejection], stream)
            return
        if count:
            # Those that were rejected before are told no more; which they are nobody knows.
            self._ledger.telemetry.rejected([each.code for each in batch[:count]])

    async def _tell_refused(
        self, rejection: Rejection, stream: CommandStream, exc: ResponseError
    ) -> None:
        """Tells which rejection Redis refuses and where; Redis itself is not away."""
        now = time.monotonic()
        if now < self._tell_refused_at:
            return
        self._tell_refused_at = now + STILL_LOST_SECONDS
        targets = [self._keys.events, self._keys.dead_letters]
        wrong = [key for key in targets if await self._redis.type(key) not in {b"stream", b"none"}]
        log.error(
            "intake.rejection_refused",
            entry=rejection.entry_id.decode(),
            stream=self._keys.stream(stream),
            refused_by=wrong or targets,
            error=" ".join(str(exc).split()),
            advice=(
                "the key holds something else: rename it"
                if wrong
                else "see what `trainmaster doctor` says of these streams"
            )
            + f"; the message stays where it is and is tried again every {REFUSED_SECONDS:.0f} s",
        )
