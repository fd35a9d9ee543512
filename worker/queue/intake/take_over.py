"""Takes over what lies with consumers that are gone, and forgets them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from worker.queue.intake.pace import ReadPace, size_of
from worker.queue.intake.validation import Entry
from worker.queue.intake.vanished import tell_vanished
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.keys import GROUP, CommandStream, Keys
from worker.queue.ledger.lua import load_script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

log = structlog.get_logger(__name__)


class TakeOver:
    """Takes entries over for one consumer.

    Args:
        consumer: its name.
        pace: how many entries are asked for at a time.
        idle_ms: how long entries lie with another consumer before they are taken over from it.
        handle_all: handles entries of one stream that have so many bytes together.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        consumer: str,
        pace: ReadPace,
        idle_ms: int,
        handle_all: Callable[[list[Entry], int], Awaitable[None]],
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._consumer = consumer
        self._pace = pace
        self._idle_ms = idle_ms
        self._handle_all = handle_all
        self._forget_consumers = load_script(redis, "forget_consumers")
        self._takes_all = False

    def take_all_over(self) -> None:
        """Takes entries over next time however long they lie with others."""
        self._takes_all = True

    async def take_over_once(self) -> None:
        """Takes over what has lain with others for long; forgets those who are gone."""
        takes_all, self._takes_all = self._takes_all, False
        try:
            for stream in CommandStream:
                await self._take_over_from(stream, 0 if takes_all else self._idle_ms)
                await self.forget(stream, max(self._idle_ms * 10, 60_000))
        except RETRYABLE_REDIS_ERRORS:
            # What this pass did not come to is for the next one.
            self._takes_all = self._takes_all or takes_all
            raise
        await asyncio.sleep(self._idle_ms / 2000)

    async def _take_over_from(self, stream: CommandStream, idle_ms: int) -> None:
        start = "0-0"
        key = self._keys.stream(stream)
        pace = self._pace
        while True:
            start, entries, vanished = await self._redis.xautoclaim(
                key,
                GROUP,
                self._consumer,
                min_idle_time=idle_ms,
                start_id=start,
                count=pace.count,
            )
            # Redis has acknowledged these itself, so nothing else will ever tell of them.
            tell_vanished(vanished, key)
            if entries:
                log.info("intake.taken_over", entries=len(entries))
                taken = [Entry(entry_id, fields, stream) for entry_id, fields in entries]
                del entries
                size_bytes = size_of(taken)
                pace.observe(len(taken), size_bytes)
                await self._handle_all(taken, size_bytes)
            else:
                # So many were looked at, or more, and nothing came of it.
                pace.observe(pace.count, 0)
            if start in {b"0-0", "0-0"}:
                return

    async def forget(self, stream: CommandStream, idle_ms: int, name: str = "") -> None:
        """Removes consumers that hold nothing and were not seen for so long, or one by its name."""
        await self._forget_consumers(keys=[self._keys.stream(stream)], args=[GROUP, idle_ms, name])
