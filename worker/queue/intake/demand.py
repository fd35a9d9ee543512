"""What needs a worker: whether one should run at all, and how many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.enums import Priority
from worker.queue.intake.list_bridge import ListSource
from worker.queue.ledger.keys import CommandStream
from worker.queue.ledger.workers import Workers

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys


@dataclass(frozen=True, slots=True)
class Demand:
    """What there is to do, in commands. It is told without a worker, too.

    Attributes:
        unaccepted: messages in streams and lists that no worker has accepted or rejected.
        due: commands that could run now, or whose deadline has passed; of a paused lane one at
            most, for all that is wanted there is a worker that probes it.
        running: commands that workers run; not of those that were told to stop.
    """

    unaccepted: int
    due: int
    running: int

    @property
    def total(self) -> int:
        """What an autoscaler divides by what one worker should have; 0 where none is needed."""
        return self.unaccepted + self.due + self.running


async def read_demand(redis: Redis, keys: Keys) -> Demand:
    """Reads it, in three round trips.

    Raises:
        RedisError: Redis is away.
        OSError: likewise.
    """
    seconds, microseconds = await redis.time()
    now_ms = seconds * 1000 + microseconds // 1000
    lists = [
        name
        for source in (ListSource.inbox(keys), ListSource.celery(keys))
        for name in (source.name, *source.low_names, source.moving)
    ]
    pipe = redis.pipeline(transaction=False)
    for stream in CommandStream:
        pipe.xlen(keys.stream(stream))
    for name in lists:
        pipe.llen(name)
    unaccepted_count = len(pipe)
    pipe.zcount(keys.due_suspect, "-inf", now_ms)
    pipe.zcount(keys.deadlines, "-inf", now_ms)
    for lane in Priority:
        pipe.zcount(keys.due(lane), "-inf", now_ms)
        pipe.exists(keys.paused(lane))
    replies: list[int] = await pipe.execute()
    unaccepted = replies[:unaccepted_count]
    suspects, late, *of_lanes = replies[unaccepted_count:]
    due = suspects + sum(
        min(due, 1) if paused else due
        for due, paused in zip(of_lanes[::2], of_lanes[1::2], strict=True)
    )
    workers = await Workers(redis, keys).list()
    return Demand(
        unaccepted=sum(unaccepted),
        # Mostly these are the same commands.
        due=max(due, late),
        running=sum(each.slots_used for each in workers if not each.stopping),
    )
