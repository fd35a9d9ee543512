"""Who is about to create what the API can't tell from what another command creates.

A training is listed without its mapping and without the weights it started from. While two
commands that differ only in these are both in doubt, what the API lists may be either one's, and
a wrong guess would report the other's training as a success. So would a guess between what a
command created and what someone else did, outside of this namespace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from redis.exceptions import ResponseError

from schemas.json_text import decode_json
from worker.ledger.row import RowState

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

    from worker.ledger.keys import Keys

# As long as what was created is owned: what ended unknown may still turn up.
KEEP_SECONDS: Final = 30 * 24 * 3600
_OWNING: Final = frozenset({RowState.TRAINING.encode(), RowState.SUCCEEDED.encode()})


class Lookalikes:
    """The commands that create what looks the same, each with a digest of what it really is."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def enter(self, likeness: str, command_id: str, sameness: str) -> None:
        """Tells, before the intent, that the command may create one."""
        key = self._keys.alike(likeness)
        pipe = self._redis.pipeline(transaction=True)
        pipe.sadd(key, _member(command_id, sameness))
        pipe.expire(key, KEEP_SECONDS)
        await pipe.execute()

    async def leave(self, likeness: str, command_id: str, sameness: str) -> None:
        """Tells that the command owns its own, or created none."""
        key, member = self._keys.alike(likeness), _member(command_id, sameness)
        await self._redis.srem(key, member)

    async def rivals(self, likeness: str, sameness: str) -> list[str]:
        """Returns the commands that may have created another one that looks the same."""
        found = await cast(
            "Awaitable[set[bytes]]", self._redis.smembers(self._keys.alike(likeness))
        )
        told = (member.decode().partition(" ") for member in found)
        others = sorted(command_id for digest, _, command_id in told if digest != sameness)
        return [command_id for command_id in others if not await self._owns(command_id)]

    async def twins(self, likeness: str, sameness: str) -> int:
        """Returns how many identical commands, the asking one included, may have created one."""
        found = await cast(
            "Awaitable[set[bytes]]", self._redis.smembers(self._keys.alike(likeness))
        )
        told = (member.decode().partition(" ") for member in found)
        same = [command_id for digest, _, command_id in told if digest == sameness]
        return max(1, sum([not await self._owns(command_id) for command_id in same]))

    async def unowned(self, guards: list[str]) -> int:
        """Returns how many of the guards of what exists no command holds."""
        return len(guards) - int(await self._redis.exists(*guards))

    async def _owns(self, command_id: str) -> bool:
        row = self._keys.row(command_id)
        try:
            state, progress = await cast(
                "Awaitable[list[bytes | None]]", self._redis.hmget(row, ["s", "p"])
            )
        except ResponseError as exc:
            # Someone wrote over the row: what its command created is not known.
            if "WRONGTYPE" not in str(exc):
                raise
            return False
        return state in _OWNING or _has_created(progress)


def _has_created(progress: bytes | None) -> bool:
    try:
        noted = decode_json(progress or b"null")
    except ValueError:
        return False
    return isinstance(noted, dict) and noted.get("step") == "created"


def _member(command_id: str, sameness: str) -> str:
    return f"{sameness} {command_id}"
