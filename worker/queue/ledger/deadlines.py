"""The deadlines of waiting commands, and who claims the commands that they have passed for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.queue.ledger.lua import load_script
from worker.queue.ledger.models import read_leases

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.models import Lease

# So much later than its deadline may a command end that had to be passed over first.
AGAIN_SECONDS: Final = 1.0
# Of the texts in one claim; the rest follows at once.
MOST_TEXT_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExpiredClaim:
    """Leases on commands that are only to be ended.

    Attributes:
        next_seconds: when the next deadline comes; None where there is none.
    """

    leases: list[Lease]
    next_seconds: float | None


class Deadlines:
    """The deadlines of a namespace.

    Args:
        redis: client that returns bytes.
        keys: the namespace.
        lease_seconds: how long a claim holds.
    """

    def __init__(self, redis: Redis, keys: Keys, *, lease_seconds: float) -> None:
        self._keys = keys
        self._lease_ms = int(lease_seconds * 1000)
        self._claim_expired = load_script(redis, "claim_expired")

    async def claim(self, most: int) -> ExpiredClaim:
        """Takes leases on commands whose deadline has passed while they waited."""
        keys = self._keys
        next_ms, rows = await self._claim_expired(
            keys=[keys.deadlines, keys.due_interactive, keys.due_bulk, keys.due_suspect],
            args=[keys.prefix, self._lease_ms, most, int(AGAIN_SECONDS * 1000), MOST_TEXT_BYTES],
        )
        following = None if next_ms < 0 else next_ms / 1000
        return ExpiredClaim(read_leases(rows), following)
