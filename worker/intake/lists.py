"""Lists that producers push to, emptied into the stream: the inbox, and Celery's queue.

Celery's own consumer takes a message off the list before it notes that it has it, so a worker
that dies in between has lost it. Here the script that takes a message is the one that adds it to
the stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from worker.ledger.connection import BLOCK_MILLISECONDS
from worker.ledger.keys import CELERY_FIELD, COMMAND_FIELD, Keys
from worker.ledger.ledger import load_script

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

# What kombu puts between a queue's name and a message's priority, and the priorities it knows.
_PRIORITY_SEPARATOR: Final = "\x06\x16"
_PRIORITIES: Final = (3, 6, 9)
BATCH_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PushedList:
    """A list, and where its messages go.

    Attributes:
        names: keys; the first one is waited on, the others are looked at as often as that ends.
        moving: what a blocking move has taken.
        field: of the stream's entries.
        oldest: the end of the list at which the oldest message stands.
    """

    names: tuple[str, ...]
    moving: str
    field: bytes
    oldest: Literal["LEFT", "RIGHT"]

    @classmethod
    def inbox(cls, keys: Keys) -> PushedList:
        """Returns the list for systems that can only push."""
        return cls((keys.inbox,), keys.moving, COMMAND_FIELD, "LEFT")

    @classmethod
    def celery(cls, keys: Keys) -> PushedList:
        """Returns Celery's queue of submissions."""
        queue = keys.celery_queue
        others = (f"{queue}{_PRIORITY_SEPARATOR}{priority}" for priority in _PRIORITIES)
        return cls((queue, *others), keys.celery_moving, CELERY_FIELD, "RIGHT")


class Mover:
    """Moves one list into the stream.

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
        pushed: PushedList,
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
        pop = "LPOP" if pushed.oldest == "LEFT" else "RPOP"
        moved = 0
        for name in pushed.names:
            moved += await self._script(
                keys=[name, pushed.moving, self._keys.commands],
                args=[self._batch, pushed.field, pop, self._batch_bytes],
            )
        if not moved:
            # The blocking move is the wake-up: a push is on its way within a round trip.
            newest = "RIGHT" if pushed.oldest == "LEFT" else "LEFT"
            await cast(
                "Awaitable[bytes | None]",
                self._redis.blmove(
                    pushed.names[0],
                    pushed.moving,
                    BLOCK_MILLISECONDS // 1000,
                    pushed.oldest,
                    newest,
                ),
            )
