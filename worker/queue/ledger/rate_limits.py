"""Limits of the whole fleet: requests a second, requests at the same time, and the hold."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from schemas.enums import Priority
from worker.queue.lane_slots import LaneSlots
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS, stop_if_cancelled
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.outage import ONCE
from worker.queue.ledger.redis_retry import keep_trying

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

log = structlog.get_logger(__name__)

# Turns are taken for this much time ahead in one script, so that a rate of thousands costs a
# few calls a second; a worker that dies wastes no more than that.
AHEAD_SECONDS: Final = 0.02
# Turns are given so far ahead, or so many; what lies beyond can only be a clock that went back.
LONGEST_AHEAD_SECONDS: Final = 1.0
MOST_AHEAD: Final = 2
# Requests reach the API a little sooner or later than their turn. With turns spaced wider than
# the rate by this share, that jitter stays below it.
HEADROOM: Final = 0.07
# A turn that is missed by more than this would meet the next ones: another one is taken.
LATE_SECONDS: Final = 0.02
# A permit counts as lost unless its worker, who renews it three times within that, still lives. One
# that was killed may have held all there are.
PERMIT_SECONDS: Final = 30.0
PERMIT_PAUSE_SECONDS: Final = 0.02
# A part of its own: else any other's success would tell, 20 times a second, that Redis is back.
_PERMITS: Final = "permits"


class RedisLimits:
    """The limits of a namespace, as `worker.encord.api.throttle.FleetLimits` wants them.

    Args:
        requests_per_second: of all workers together; 0 for no limit.
        concurrent_requests: of all workers together; 0 for no limit.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        ledger: Ledger,
        *,
        requests_per_second: float,
        concurrent_requests: int,
    ) -> None:
        self._ledger = ledger
        self._turns_key = keys.rate
        self._permits_key = keys.inflight
        self._rate = requests_per_second * (1 - HEADROOM)
        self._gap = 1 / self._rate if self._rate else 0.0
        self._ahead = max(LONGEST_AHEAD_SECONDS, MOST_AHEAD * self._gap)
        self._concurrent = concurrent_requests
        self._take_turns = load_script(redis, "take_turns")
        self._take_permit = load_script(redis, "take_permit")
        self._redis = redis
        self._turns: list[float] = []
        self._taking = LaneSlots()
        self._asking = LaneSlots()
        self._waiting = 0
        self._numbers = itertools.count()
        self._held: set[str] = set()
        self._renewer: asyncio.Task[None] | None = None
        self._name = uuid.uuid4().hex[:12]

    async def enter(self, lane: Priority = Priority.INTERACTIVE) -> str:
        """Waits until one more request may go out; returns a permit, empty without that limit.

        In one process interactive commands wait behind one another, and behind one bulk command.
        """
        permit = f"{self._name}-{next(self._numbers)}" if self._concurrent else ""
        try:
            if permit:
                await self._permit(permit, lane)
            if self._rate:
                await self._turn(lane)
        except asyncio.CancelledError:
            # Whoever waits no longer needs no permit; others do. Redis may have given it already.
            if permit:
                await self.leave(permit)
            raise
        return permit

    async def leave(self, permit: str) -> None:
        """Gives a permit back; one that gets lost expires."""
        self._held.discard(permit)
        try:
            await self._redis.zrem(self._permits_key, permit)
        except RETRYABLE_REDIS_ERRORS as exc:
            self._ledger.outage.failed(ONCE, exc)

    async def aclose(self) -> None:
        """Renews no permit any more."""
        if self._renewer is not None:
            self._renewer.cancel()
            await asyncio.gather(self._renewer, return_exceptions=True)

    async def hold(self, seconds: float, reason: str) -> None:
        """Pauses claiming for so long; running commands continue."""
        self._ledger.telemetry.held(seconds, reason)
        try:
            await self._ledger.hold(seconds, reason)
        except RETRYABLE_REDIS_ERRORS as exc:
            self._ledger.outage.failed(ONCE, exc)

    async def _turn(self, lane: Priority) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._waiting += 1
            try:
                async with self._taking.slot(lane):
                    while not self._turns:
                        await keep_trying(self._take, self._ledger.outage, "rate")
                        stop_if_cancelled()
                    at = self._turns.pop(0)
            finally:
                self._waiting -= 1
            await asyncio.sleep(max(0.0, at - loop.time()))
            if loop.time() - at <= LATE_SECONDS:
                return

    async def _take(self) -> None:
        loop = asyncio.get_running_loop()
        # A turn that nobody waits for would be wasted, so no more are taken than are wanted.
        wanted = max(1, min(self._waiting, int(self._rate * AHEAD_SECONDS)))
        waits = await self._take_turns(
            keys=[self._turns_key],
            args=[wanted, round(1_000_000 * self._gap), round(1_000_000 * self._ahead)],
        )
        if not waits:
            # Others have all turns that can be given now. In step with one who asks a moment before
            # us each time we would get none for hours.
            await asyncio.sleep(max(self._gap, self._ahead / 20) * random.uniform(0.5, 1.0))
            return
        now = loop.time()
        self._turns = [now + wait / 1_000_000 for wait in waits]

    async def _permit(self, permit: str, lane: Priority) -> None:
        if self._asking.is_full or not await self._ask(permit):
            stop_if_cancelled()
            # One asks for all of this process that wait. Were it each of hundreds, they would
            # keep Redis and this process so busy that everyone misses their turn.
            ask = partial(self._ask_redis, permit)
            async with self._asking.slot(lane):
                while not await keep_trying(ask, self._ledger.outage, _PERMITS):
                    stop_if_cancelled()
                    await asyncio.sleep(PERMIT_PAUSE_SECONDS)
        self._held.add(permit)
        if self._renewer is None:
            # It outlives the run that it begins in, and none of its lines is about that.
            self._renewer = asyncio.create_task(self._renew(), name="permits", context=Context())

    async def _ask(self, permit: str) -> bool:
        try:
            return await self._ask_redis(permit)
        except RETRYABLE_REDIS_ERRORS as exc:
            self._ledger.outage.failed(_PERMITS, exc)
            return False

    async def _ask_redis(self, permit: str) -> bool:
        return bool(
            await self._take_permit(
                keys=[self._permits_key],
                args=[permit, self._concurrent, int(PERMIT_SECONDS * 1000)],
            )
        )

    async def _renew(self) -> None:
        """Says again and again that the requests of this process are still under way."""
        while True:
            await asyncio.sleep(PERMIT_SECONDS / 3)
            if not self._held:
                continue
            try:
                seconds, _ = await self._redis.time()
                if not self._held:
                    # All were given back while Redis told its time.
                    continue
                expires = int((seconds + PERMIT_SECONDS) * 1000)
                pipe = self._redis.pipeline(transaction=True)
                # One that was given back meanwhile stays so.
                pipe.zadd(self._permits_key, dict.fromkeys(self._held, expires), xx=True)
                pipe.pexpire(self._permits_key, int(PERMIT_SECONDS * 1000))
                await pipe.execute()
            except RETRYABLE_REDIS_ERRORS as exc:
                self._ledger.outage.failed(ONCE, exc)
            stop_if_cancelled()
