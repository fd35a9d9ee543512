"""Word of what was created for a command, left by a run whose lease was lost meanwhile.

Such a run may record nothing in the row any more, and nobody else knows what its call came to, or
that it was not sent, or refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import ResponseError

from schemas.json_text import decode_json, encode_json
from worker.encord.creation.keys import orphan_key, unsent_key
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.refusals import is_misplaced

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.models import Lease, Progress
    from worker.queue.run_context import RunContext


@dataclass(frozen=True, slots=True)
class OrphanedCreation:
    """What a run created at the API though its lease was lost.

    Attributes:
        lock: key of the lock that makes the command its owner.
        kept_seconds: how long it and the word of it are kept.
    """

    uuid: str
    result: dict[str, Any] | None
    lock: str
    kept_seconds: int


class Orphans:
    """What was attested in a namespace."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    @classmethod
    def of(cls, run: RunContext[Any]) -> Orphans:
        """Returns those of a run's namespace."""
        return cls(run.dependencies.ledger.redis, run.dependencies.ledger.keys)

    async def leave(self, lease: Lease, attested: OrphanedCreation, *, drop_lock: str) -> bool:
        """Leaves word, and makes the command the owner of what was created.

        False where it has found another one for its own meanwhile, which an identical command in
        doubt created: then this one is left to that command.
        """
        word = {"entry": lease.entry_id, "uuid": attested.uuid, "result": attested.result}
        testify = load_script(self._redis, "leave_orphan", "worker.encord.creation")
        left = await testify(
            keys=[orphan_key(self._keys, lease.row_id), self._keys.command(lease.row_id)],
            args=[
                lease.row_id,
                encode_json(word),
                attested.kept_seconds,
                attested.lock,
                drop_lock,
                lease.entry_id,
            ],
        )
        return bool(left)

    async def find(self, lease: Lease) -> tuple[str, dict[str, Any] | None] | None:
        """Returns uuid and result of what an earlier holder created, if it left word."""
        found = await self._get(orphan_key(self._keys, lease.row_id))
        if found is None:
            return None
        word = _read(found)
        if word.get("entry") == lease.entry_id:
            return word["uuid"], word["result"]
        # Ids are used anew: word of an earlier command is of no use to this one.
        await self.forget(lease)
        return None

    async def forget(self, lease: Lease) -> None:
        """Deletes the word that was left for a command: it is of no use to it."""
        await self._redis.delete(orphan_key(self._keys, lease.row_id))

    async def leave_unsent(self, lease: Lease, asked_at: float, kept_seconds: int) -> None:
        """Leaves word that an intent came to nothing; its `asked_at` tells which one."""
        word = encode_json([lease.entry_id, asked_at])
        await self._redis.set(unsent_key(self._keys, lease.row_id), word, ex=kept_seconds)

    async def is_unsent(self, lease: Lease, doubt: Progress) -> bool:
        """Tells whether an earlier holder left word that this very intent came to nothing."""
        word = encode_json([lease.entry_id, doubt.get("asked_at")])
        return await self._get(unsent_key(self._keys, lease.row_id)) == word

    async def forget_unsent(self, lease: Lease) -> None:
        """Deletes that word: it has been read."""
        await self._redis.delete(unsent_key(self._keys, lease.row_id))

    def key(self, lease: Lease) -> str:
        """Returns where word for a command lies."""
        return orphan_key(self._keys, lease.row_id)

    async def _get(self, key: str) -> bytes | None:
        try:
            return cast("bytes | None", await self._redis.get(key))
        except ResponseError as exc:
            if not is_misplaced(exc):
                raise
            # It is no word, and must not keep a doubt from its end.
            return b""


def _read(text: bytes) -> dict[str, Any]:
    """Returns a word; an empty one where someone else wrote something."""
    try:
        word = decode_json(text)
    except ValueError:
        return {}
    return word if isinstance(word, dict) else {}
