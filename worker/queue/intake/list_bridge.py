"""Lists that producers push to, emptied into the streams: the inbox, and Celery's queue.

Celery's own consumer takes a message off the list before it notes that it has it, so a worker
that dies in between has lost it. Here the script that takes a message is the one that adds it to
the stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from worker.queue.ledger.connection import BLOCK_MILLISECONDS
from worker.queue.ledger.keys import CELERY_FIELD, COMMAND_FIELD, CommandStream, Keys
from worker.queue.ledger.lua import load_script

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

# What kombu puts between a queue's name and a message's priority, and the priorities it knows
# besides the default, which is the highest.
_PRIORITY_SEPARATOR: Final = "\x06\x16"
_PRIORITIES: Final = (3, 6, 9)
BATCH_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ListSource:
    """A list, and where its messages go.

    Attributes:
        name: its key, which is waited on.
        low_names: keys of lists for what is less urgent; they are looked at as often as the
            wait ends, and emptied into the stream for bulk.
        moving: what a blocking move has taken.
        field: of the stream's entries.
        oldest: the end of the list at which the oldest message stands.
    """

    name: str
    low_names: tuple[str, ...]
    moving: str
    field: bytes
    oldest: Literal["LEFT", "RIGHT"]

    @classmethod
    def inbox(cls, keys: Keys) -> ListSource:
        """Returns the list for systems that can only push."""
        return cls(keys.inbox, (), keys.processing, COMMAND_FIELD, "LEFT")

    @classmethod
    def celery(cls, keys: Keys) -> ListSource:
        """Returns Celery's queue of submissions."""
        queue = keys.celery_queue
        low = tuple(f"{queue}{_PRIORITY_SEPARATOR}{priority}" for priority in _PRIORITIES)
        return cls(queue, low, keys.celery_processing, CELERY_FIELD, "RIGHT")


async def unread_lists(redis: Redis, keys: Keys) -> dict[str, int]:
    """Returns the lists that Celery made for priorities of its own, which no worker reads.

    A Celery app with `priority_steps` or `sep` of its own fills them. They are looked for among all
    keys: no index names them.

    Returns:
        Their names with the number of messages in each, sorted.

    Raises:
        redis.exceptions.RedisError: Redis can't be asked.
    """
    pushed = ListSource.celery(keys)
    read = {name.encode() for name in (pushed.name, *pushed.low_names, pushed.moving)}
    found = [
        cast("bytes", key)
        async for key in redis.scan_iter(f"{keys.celery_queue}*", count=1_000, _type="list")
        if key not in read
    ]
    # Where SCAN tells a key twice it is one list.
    return {
        key.decode("utf-8", "replace"): await redis.llen(cast("str", key))
        for key in sorted(set(found))
    }


class ListForwarder:
    """Moves one list, and those for what is less urgent, into the streams.

    Args:
        redis: a client whose connections may block.
        keys: the namespace.
        pushed: the list.
        batch: most messages of one move.
        batch_bytes: a move ends with the message that makes it as large as this.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        pushed: ListSource,
        batch: int,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._pushed = pushed
        self._batch = batch
        self._batch_bytes = batch_bytes
        self._script = load_script(redis, "move_inbox")

    async def move_once(self) -> None:
        """Moves what is there; waits a while where nothing is."""
        pushed = self._pushed
        moved = await self._move(pushed.name, pushed.moving, CommandStream.COMMON)
        for name in pushed.low_names:
            moved += await self._move(name, name, CommandStream.BULK)
        if not moved:
            # The blocking move is the wake-up: a push is on its way within a round trip.
            newest = "RIGHT" if pushed.oldest == "LEFT" else "LEFT"
            await cast(
                "Awaitable[bytes | None]",
                self._redis.blmove(
                    pushed.name,
                    pushed.moving,
                    BLOCK_MILLISECONDS // 1000,
                    pushed.oldest,
                    newest,
                ),
            )

    async def _move(self, name: str, moving: str, stream: CommandStream) -> int:
        pop = "LPOP" if self._pushed.oldest == "LEFT" else "RPOP"
        moved = await self._script(
            keys=[name, moving, self._keys.stream(stream)],
            args=[self._batch, self._pushed.field, pop, self._batch_bytes],
        )
        return int(moved)
