"""Who is about to create what the API can't tell from what another command creates.

A training is listed without its mapping and without the weights it started from. While two
commands that differ only in these are both in doubt, what the API lists may be either one's, and
a wrong guess would report the other's training as a success. So would a guess between what a
command created and what someone else did, outside of this namespace.

A command that ended in doubt can't tell that it created nothing, and what it created may turn up
later. It counts until the API shows it for sure: who asks what existed after that has it among
what existed, and never takes it for its own.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

from redis.exceptions import ResponseError

from worker.encord.creation.keys import ambiguous_key
from worker.queue.ledger.models import Phase, RowState, read_phase, read_progress
from worker.queue.ledger.refusals import is_misplaced

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.models import Lease
    from worker.queue.run_context import RunContext

DAY_SECONDS: Final = 24 * 3600
# For everything that a fleet may be down for, beyond the time for which anybody counts.
SPARE_SECONDS: Final = 30 * DAY_SECONDS
_OWNING: Final = frozenset({RowState.POLLING.encode(), RowState.SUCCEEDED.encode()})
_ENDED: Final = frozenset(state.encode() for state in RowState if state.ended)


class _Standing(Enum):
    """What the row of a command says of what it created."""

    OWNS = "it knows its own"
    OPEN = "it may have created one"
    UNSENT = "it has not sent anything yet, as far as can be read"
    UNKNOWN = "it has ended without one, or its row is gone"


@dataclass(frozen=True, slots=True)
class Creator:
    """A command that may create something.

    Attributes:
        identity: digest of all that its thing is created with.
        hidden_seconds: for how long the API may hide what it created.
        entry_id: tells it from a later command of the same id.
    """

    identity: str
    hidden_seconds: int
    entry_id: str
    command_id: str

    @classmethod
    def of(cls, lease: Lease, identity: str, hidden_seconds: float) -> Creator:
        """Returns the holder of a lease."""
        return cls(identity, int(hidden_seconds), lease.entry_id, lease.command_id)

    @classmethod
    def read(cls, member: bytes) -> Creator:
        """Returns who stands in the ledger."""
        told = member.decode(errors="replace")
        try:
            # Only the id, which comes last, may hold blanks.
            identity, hidden_seconds, entry_id, command_id = told.split(" ", 3)
            return cls(identity, int(hidden_seconds), entry_id, command_id)
        except ValueError:
            # Someone wrote into the key: of a command that nobody knows.
            return cls("", 0, "", told)

    @property
    def member(self) -> str:
        """How it stands in the ledger."""
        return f"{self.identity} {self.hidden_seconds} {self.entry_id} {self.command_id}"


@dataclass(frozen=True, slots=True)
class Others:
    """Who else may have created what the API lists.

    Attributes:
        conflicts: ids of commands that create another one, which only looks the same.
        twins: identical commands, the asking one included.
        known_to_twins: of what exists, how many twins listed it before they began, so that they
            never take it for their own.
    """

    conflicts: list[str]
    twins: int
    known_to_twins: Counter[str] = field(default_factory=Counter)


class AmbiguousCreations:
    """The commands that create what looks the same, each with the time at which it began.

    Args:
        redis: client that returns bytes.
        keys: the namespace.
        retention_seconds: how long an ended command is remembered. So long, and a day at least,
            one counts beyond the time for which the API may hide what it created.
    """

    def __init__(self, redis: Redis, keys: Keys, retention_seconds: int) -> None:
        self._redis = redis
        self._keys = keys
        self._kept_seconds = max(retention_seconds, DAY_SECONDS)

    @classmethod
    def of(cls, run: RunContext[Any]) -> AmbiguousCreations:
        """Returns those that a run's command is among."""
        ledger = run.dependencies.ledger
        return cls(ledger.redis, ledger.keys, ledger.retention_seconds)

    async def enter(self, match_key: str, creator: Creator, now: float) -> None:
        """Tells, before the intent, that the command may create one."""
        key = ambiguous_key(self._keys, match_key)
        keep_seconds = creator.hidden_seconds + self._kept_seconds + SPARE_SECONDS
        pipe = self._redis.pipeline(transaction=True)
        pipe.zadd(key, {creator.member: now})
        # It lives as long as the one of its commands that lasts longest.
        pipe.expire(key, keep_seconds, nx=True)
        pipe.expire(key, keep_seconds, gt=True)
        await pipe.execute()

    async def leave(self, match_key: str, creator: Creator) -> None:
        """Tells that the command owns its own, or created none."""
        await self._redis.zrem(ambiguous_key(self._keys, match_key), creator.member)

    async def others(self, match_key: str, creator: Creator, since: float, now: float) -> Others:
        """Returns who else may have created what the asking command finds at the API.

        Args:
            match_key: of what they create.
            creator: the asking command.
            since: when it began to list what existed. What the API showed by then is no question.
            now: the time.
        """
        key = ambiguous_key(self._keys, match_key)
        found = cast(
            "list[tuple[bytes, float]]", await self._redis.zrange(key, 0, -1, withscores=True)
        )
        conflicts, twins, oldest, over = [], 1, since, []
        known_to_twins: Counter[str] = Counter()
        for member, entered_at in found:
            other = Creator.read(member)
            if other == creator:
                continue
            if entered_at > now:
                # The server's clock went back since: from now on it counts once as long.
                await self._redis.zadd(key, {member: now}, xx=True, lt=True)
            shown_at = min(entered_at, now) + other.hidden_seconds + self._kept_seconds
            standing, baseline = await self._standing(other)
            if standing in {_Standing.OPEN, _Standing.UNSENT}:
                oldest = min(oldest, entered_at)
            elif standing is _Standing.OWNS or shown_at < since:
                over.append((member, -math.inf if standing is _Standing.OWNS else shown_at))
                continue
            if other.identity != creator.identity:
                conflicts.append(other.command_id)
            elif standing is not _Standing.UNSENT:
                # Too few twins leave a doubt; one too many would have a stranger's thing adopted.
                twins += 1
                known_to_twins.update(baseline)
        # Who was shown before the oldest of those that may still ask began is of no use to anybody;
        # whoever lists just now has begun within the last day.
        useless = [member for member, shown_at in over if shown_at < oldest - DAY_SECONDS]
        if useless:
            await self._redis.zrem(key, *useless)
        return Others(sorted(conflicts), twins, known_to_twins)

    async def holders(self, locks: list[str]) -> list[str | None]:
        """Returns the id of the command that holds each of the locks of what exists."""
        pipe = self._redis.pipeline(transaction=False)
        for lock in locks:
            pipe.get(lock)
        found: list[bytes | None] = await pipe.execute()
        return [None if holder is None else holder.decode(errors="replace") for holder in found]

    async def _standing(self, creator: Creator) -> tuple[_Standing, set[str]]:
        """Returns where a command stands, and what existed when it began, as far as it tells."""
        row = self._keys.command(creator.command_id)
        try:
            state, phase, entry_id, progress = await cast(
                "Awaitable[list[bytes | None]]", self._redis.hmget(row, ["s", "h", "q", "p"])
            )
        except ResponseError as exc:
            # Someone wrote over the row: what its command created is not known.
            if not is_misplaced(exc):
                raise
            return _Standing.UNKNOWN, set()
        if state is None or entry_id != creator.entry_id.encode():
            return _Standing.UNKNOWN, set()
        known = read_phase(phase)
        if state in _OWNING or known is Phase.APPLIED:
            return _Standing.OWNS, set()
        if state in _ENDED:
            return _Standing.UNKNOWN, set()
        # A phase of a newer version says only that something was begun.
        standing = _Standing.UNSENT if known is Phase.IDLE else _Standing.OPEN
        return standing, {str(uuid) for uuid in read_progress(progress).get("baseline") or ()}
