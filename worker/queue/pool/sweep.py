"""The sweep: finds what is due though nobody was told of it, and keeps the time.

What nobody was told of are retries, polls, lost wake-ups and the runs of workers that died.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from worker.clock import ClockAlarm
from worker.queue.ledger.event_retention import trim_events
from worker.queue.ledger.redis_retry import keep_trying

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.clock import Clock
    from worker.queue.intake.consumer import StreamConsumer
    from worker.queue.ledger.epoch import Epoch
    from worker.queue.ledger.event_retention import EventRetention
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.redis_clock import RedisClock

log = structlog.get_logger(__name__)

TRIM_SECONDS = 60.0


class Sweep:
    """Looks at the due sets of a namespace for one process.

    Args:
        epoch: tells that someone emptied Redis.
        redis_clock: tells Redis' time, and that it went back.
        clock: learns it.
        intake: takes over anew where time went back.
        notify: told how many commands are due.
        every_seconds: how often to look.
        event_retention: how long events stay in their stream.
        api_ahead_seconds: how far this machine's clock is ahead of the API's, as its replies tell.
    """

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        ledger: Ledger,
        epoch: Epoch,
        redis_clock: RedisClock,
        clock: Clock,
        intake: StreamConsumer,
        *,
        notify: Callable[[int], None],
        every_seconds: float,
        event_retention: EventRetention,
        api_ahead_seconds: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._epoch = epoch
        self._redis_clock = redis_clock
        self._clock = clock
        self._intake = intake
        self._notify = notify
        self._every_seconds = every_seconds
        self._event_retention = event_retention
        self._api_ahead_seconds = api_ahead_seconds
        self._alarm = ClockAlarm()
        self._trim_at = 0.0

    async def watch(self) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self._every_seconds)
            await keep_trying(self._sweep_once, self._ledger.outage, "sweep")

    async def _sweep_once(self) -> None:
        await self._epoch.check()
        due = sum(await self._ledger.count_due(await self.mind_clock()))
        self._notify(due)
        if time.monotonic() >= self._trim_at:
            self._trim_at = time.monotonic() + TRIM_SECONDS
            await trim_events(self._ledger.redis, self._ledger.keys, self._event_retention)

    async def mind_clock(self) -> int:
        """Learns Redis' time, and mends what a clock that went back has made late; in ms."""
        begun = self._clock.steady()
        now_ms, back_ms = await self._redis_clock.mind()
        self._clock.learn(now_ms / 1000, begun, self._clock.steady())
        if self._alarm.is_due("redis", self._clock.ahead_seconds):
            log.warning(
                "clock.differs",
                other="redis",
                ahead_seconds=round(self._clock.ahead_seconds, 1),
                advice="set both clocks by NTP; commands are judged by Redis' clock meanwhile",
            )
        ahead_seconds = self._api_ahead_seconds()
        if self._alarm.is_due("api", ahead_seconds):
            log.warning(
                "clock.differs",
                other="api",
                ahead_seconds=round(ahead_seconds, 1),
                advice="set this machine's clock by NTP: signatures carry its time",
            )
        if back_ms:
            log.warning("redis.clock_went_back", seconds=back_ms / 1000)
            moved = await self._redis_clock.move_back(back_ms)
            self._intake.take_all_over()
            await self._redis_clock.mind(back_ms)
            log.warning("redis.due_times_moved", commands=moved)
        return now_ms
