"""How long events stay in their stream, and the end of those that are older."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys


@dataclass(frozen=True, slots=True)
class EventRetention:
    """How long events stay in their stream, in seconds.

    Attributes:
        least: for everybody.
        most: for followers of the events that have not come so far, as long as they live.
        follower_expiry: after its last sign of life a follower counts no more.
    """

    least: int
    most: int
    follower_expiry: int

    def oldest_ms(self, now_ms: int, followers: Iterable[bytes]) -> int:
        """Returns the time of the oldest event that is kept.

        Args:
            now_ms: by Redis' clock.
            followers: for each, the time of its position and when it was last seen.
        """
        oldest = now_ms - self.least * 1000
        for follower in followers:
            position, _, seen = follower.partition(b" ")
            # What is no number was written by someone else.
            if not position.isdigit() or not seen.isdigit():
                continue
            if int(seen) >= now_ms - self.follower_expiry * 1000:
                oldest = min(oldest, int(position))
        return max(oldest, now_ms - max(self.most, self.least) * 1000, 0)


async def trim_events(redis: Redis, keys: Keys, retention: EventRetention) -> None:
    """Deletes events older than the retention, give or take a block of the stream."""
    pipe = redis.pipeline(transaction=False)
    pipe.time()
    pipe.hgetall(keys.followers)
    (now_seconds, _), followers = await pipe.execute()
    oldest = retention.oldest_ms(now_seconds * 1000, followers.values())
    await redis.xtrim(keys.events, minid=oldest, approximate=True)
