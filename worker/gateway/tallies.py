"""What the gateway counts: in Redis, so that every process of it tells the same.

A process adds up by itself and hands over what it has every two seconds, so that a thousand bad
requests a second are not a thousand commands for Redis. One that is killed takes the last two
seconds with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from worker.gateway.keys import tallies_key
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

FLUSH_SECONDS: Final = 2.0
# Between a metric's name and the values of its labels; none of them has one.
_SEPARATOR: Final = "\n"


class Tallies:
    """Counters of a namespace that only go up, each with the values of its labels."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._key = tallies_key(keys)
        self._counted: Counter[tuple[str, ...]] = Counter()
        self._outage = Outage()

    def add(self, metric: str, *labels: str) -> None:
        """Counts one."""
        self._counted[metric, *labels] += 1

    async def run(self, stop: asyncio.Event) -> None:
        """Hands over what was counted until `stop` is set, and then once more."""
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Hands over what was counted; what Redis does not take is kept for the next time."""
        if not self._counted:
            return
        counted, self._counted = self._counted, Counter()
        pipe = self._redis.pipeline(transaction=True)
        for names, count in counted.items():
            pipe.hincrby(self._key, _SEPARATOR.join(names), count)
        try:
            await pipe.execute()
        except RETRYABLE_REDIS_ERRORS as exc:
            self._outage.failed("tallies", exc)
        else:
            self._outage.worked("tallies")
            counted.clear()
        finally:
            # Whether they were added is not known then: to count some twice is the lesser evil.
            self._counted.update(counted)

    async def read(self) -> dict[tuple[str, ...], int]:
        """Returns every counter by the metric's name and the values of its labels."""
        found = await cast("Awaitable[dict[bytes, bytes]]", self._redis.hgetall(self._key))
        return {
            tuple(names.decode(errors="replace").split(_SEPARATOR)): int(count)
            for names, count in found.items()
            if count.isdigit()
        }
