"""What a follower of the events keeps in Redis: who leads it, and how far it has come.

The hash of a follower::

    token, until, lease      fencing token, end (ms) and length (ms) of the leader's lease
    leader, seen             who leads, and when it said so last (ms)
    position, number         the last entry that is done with all before it; how many entries had
                             been added to the stream up to it
    missed, missed_at        events that were trimmed before they were read, and when that was seen
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.integrations.keys import follower_key
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.stored_values import moment_of, number_of, text_of
from worker.queue.ledger.streams import entries_between, is_entry_id

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.streams import StreamEntry

_PACKAGE: Final = "worker.integrations"
NOBODY: Final = 0


@dataclass(frozen=True, slots=True)
class LeadAnswer:
    """What became of the wish to lead.

    Attributes:
        token: the leader's; 0 where another leads, -1 where Redis holds another position.
        number: of the position; -1 if it is not known.
        rest_ms: until the other's lease ends.
        last_id: the last that the stream gave to an entry.
        added: how many entries the stream ever had.
    """

    token: int
    position: str
    number: int
    rest_ms: int
    last_id: str
    added: int


@dataclass(frozen=True, slots=True)
class Page:
    """Entries of the events after a position.

    Attributes:
        added: how many entries the stream ever had.
        gone: how many of them it has no more.
        first_id: of the oldest entry that it has.
        last_id: the last that it gave to an entry.
    """

    entries: list[StreamEntry]
    added: int
    gone: int
    first_id: str
    last_id: str


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """How a follower stands, for people.

    Attributes:
        leader: the process that leads it; empty where none does.
        position: the last entry that is done with all before it.
        waiting: events that are not done; None if that is not known.
        behind_seconds: age of the oldest event that is not done.
        missed: events that were trimmed before they were read.
    """

    name: str
    leader: str
    position: str
    waiting: int | None
    behind_seconds: float
    seen_at_ms: int
    missed: int
    missed_at_ms: int | None


class FollowerStore:
    """The state of one follower in Redis."""

    def __init__(self, redis: Redis, keys: Keys, name: str) -> None:
        self._redis = redis
        self._keys = keys
        self._name = name
        self._follow = load_script(redis, "follow", _PACKAGE)
        self._read = load_script(redis, "read_events", _PACKAGE)

    async def lead(
        self,
        token: int,
        *,
        lease_ms: int,
        holder: str,
        position: tuple[str, int] | None = None,
        known: tuple[str, str] = ("", ""),
        missed: int = 0,
    ) -> LeadAnswer:
        """Takes the lead, keeps it or gives it up.

        Args:
            token: `NOBODY` to take it.
            lease_ms: for which it is kept; 0 gives it up.
            holder: the name of this process.
            position: to record, with its number.
            known: positions of which one stands in Redis, or nothing is recorded.
            missed: events to add to those that were trimmed unread.
        """
        reply = await self._follow(
            keys=[follower_key(self._keys, self._name), self._keys.followers, self._keys.events],
            args=[token, lease_ms, self._name, holder, *(position or ("", 0)), *known, missed],
        )
        found, at, number, rest_ms, last_id, added = reply
        return LeadAnswer(found, at.decode(), number, rest_ms, last_id.decode(), added)

    async def read(self, position: str, count: int) -> Page:
        """Returns at most so many entries after a position, without waiting for any."""
        reply = await self._read(keys=[self._keys.events], args=[position, count])
        entries, added, gone, first_id, last_id = reply
        pairs = [(entry_id, _fields(flat)) for entry_id, flat in entries]
        return Page(pairs, added, gone, first_id.decode(), last_id.decode())


def _fields(flat: list[bytes] | dict[bytes, bytes]) -> dict[bytes, bytes]:
    if isinstance(flat, dict):
        return flat
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def follower_status(redis: Redis, keys: Keys, name: str) -> FollowerStatus | None:
    """Returns how a follower stands; None where none of this name was ever led."""
    pipe = redis.pipeline(transaction=False)
    pipe.hgetall(follower_key(keys, name))
    pipe.time()
    pipe.exists(keys.events)
    found, (seconds, microseconds), there = await pipe.execute()
    if not found:
        return None
    now = seconds * 1000 + microseconds // 1000
    told = {text_of(key): text_of(value) for key, value in found.items()}
    added, last_id = 0, "0-0"
    if there:
        info = await redis.xinfo_stream(keys.events)
        added, last_id = info["entries-added"], info["last-generated-id"].decode()
    # Someone may have written over it: the sinks beside it are still to be seen.
    position = told.get("position", "0-0")
    position = position if is_entry_id(position) else "0-0"
    number = number_of(found.get(b"number", b"-1"))
    caught_up = order_of(position) >= order_of(last_id)
    waiting = 0 if caught_up else max(added - number, 0) if number >= 0 else None
    oldest_ms = now
    if not caught_up:
        for entry_id, _ in await entries_between(redis, keys.events, f"({position}", "+", count=1):
            oldest_ms = order_of(entry_id.decode())[0]
    return FollowerStatus(
        name=name,
        leader=told.get("leader", "") if number_of(found.get(b"until")) > now else "",
        position=position,
        waiting=waiting,
        behind_seconds=max(now - oldest_ms, 0) / 1000,
        seen_at_ms=moment_of(number_of(found.get(b"seen"))),
        missed=number_of(found.get(b"missed")),
        missed_at_ms=moment_of(number_of(found[b"missed_at"])) if b"missed_at" in found else None,
    )


async def rewind(redis: Redis, keys: Keys, name: str, position: str) -> bool:
    """Has a follower begin again at an earlier position; False where it has not come so far."""
    script = load_script(redis, "rewind", _PACKAGE)
    return bool(await script(keys=[follower_key(keys, name)], args=[position]) == 1)


def order_of(entry_id: str) -> tuple[int, int]:
    """Returns what entry ids are ordered by."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)
