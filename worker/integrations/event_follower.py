"""A named follower of the events: one process leads it, and hands each event to a handler.

The leader holds a lease in Redis with a fencing token; the others of the same name stand by, and
one of them takes over within seconds when it dies. Events are handed over at least once and, for
each command, in order. The position in Redis is that of the last event whose handler has returned,
and the handlers of all before it. What a leader had in hand when it died is handed over again.

A name that is new begins with the events from then on.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from worker.integrations.follower_store import NOBODY, FollowerStore
from worker.integrations.lead import Lead, LeadLostError
from worker.integrations.leadership import (
    LEASE_MARGIN_SECONDS,
    STOP_SECONDS,
    Followed,
    Leadership,
)
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS, end_all, stop_if_cancelled
from worker.queue.ledger.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from redis.asyncio import Redis

    from trainmaster_client import Event
    from worker.integrations.follower_store import LeadAnswer
    from worker.integrations.leadership import Handler
    from worker.queue.ledger.keys import Keys

log = structlog.get_logger(__name__)

LEASE_SECONDS: Final = 6.0
STAND_BY_SECONDS: Final = 1.0


class EventFollower:
    """Follows the events of a namespace under a name.

    Args:
        redis: client that returns bytes.
        keys: of the namespace.
        name: of the follower; its position is kept under it.
        handler: gets each event, and its text as it lies in the stream. What it raises because
            Redis is away is tried again for as long as it takes; another error is tried again a few
            times, and then its event is set aside in the stream `{ns}:parked:<name>`, which keeps
            the last `MOST_PARKED`.
        concurrency: handlers that run at the same time; of one command there is one at most.
        wants: tells which events the handler gets; the others are done at once. It may not raise.
        beside: runs while this process leads, before the first event is handed over.
        outage: is told of trouble with Redis.
        lease_seconds: after which a dead leader is replaced.
    """

    def __init__(  # noqa: PLR0913 - what has a default is for few
        self,
        redis: Redis,
        keys: Keys,
        name: str,
        handler: Handler,
        *,
        concurrency: int,
        wants: Callable[[Event], bool] | None = None,
        beside: Callable[[Lead], Coroutine[Any, Any, None]] | None = None,
        outage: Outage | None = None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.name = name
        self.store = FollowerStore(redis, keys, name)
        self._outage = outage or Outage()
        self._followed = Followed(
            name=name,
            redis=redis,
            keys=keys,
            store=self.store,
            handler=handler,
            concurrency=concurrency,
            wants=wants,
            beside=beside,
            outage=self._outage,
            lease_seconds=lease_seconds,
            holder=f"{socket.gethostname()}-{os.getpid()}",
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Follows until `stop` is set, whatever Redis does meanwhile."""
        stopping = asyncio.ensure_future(stop.wait())
        leading = asyncio.ensure_future(self._lead_again_and_again(stop))
        try:
            await asyncio.wait({stopping, leading}, return_when=asyncio.FIRST_COMPLETED)
            if not leading.done():
                # It ends by itself where it leads, and need not wait for a lead.
                await asyncio.wait({leading}, timeout=STOP_SECONDS + LEASE_SECONDS)
        finally:
            stopping.cancel()
            await end_all([leading])
        if not leading.cancelled():
            leading.result()

    async def _lead_again_and_again(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            stop_if_cancelled()
            begun = time.monotonic()
            try:
                answer = await self._try_to_lead()
            except RETRYABLE_REDIS_ERRORS as exc:
                self._outage.failed(self.name, exc)
                await _sleep_unless(stop, STAND_BY_SECONDS * random.uniform(0.5, 1.0))
                continue
            self._outage.worked(self.name)
            if answer.token == NOBODY:
                pause = min(answer.rest_ms / 1000 + 0.05, STAND_BY_SECONDS)
                await _sleep_unless(stop, pause * random.uniform(0.8, 1.2))
                continue
            until = begun + self._followed.lease_seconds - LEASE_MARGIN_SECONDS
            log.info("follower.lead_taken", follower=self.name, position=answer.position)
            try:
                await Leadership(self._followed, Lead(answer.token, until), answer).work(stop)
            except LeadLostError as exc:
                log.warning("follower.lead_lost", follower=self.name, reason=str(exc))

    async def _try_to_lead(self) -> LeadAnswer:
        return await self.store.lead(
            NOBODY, lease_ms=int(self._followed.lease_seconds * 1000), holder=self._followed.holder
        )


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
