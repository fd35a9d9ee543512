"""Backfills in Redis: state, cursor, counters and results; each act is one script.

What its group keeps is told in `worker.queue.groups`. The hash of a backfill itself::

    plan, origin             what to do; who leads it
    begun, ended, result     ms since the epoch; what it came to
    progress_at, progress_of when and of what the latest event of progress was
    expected                 about how many items the source has, where that could be told
    read, position           the cursor: items read, and where the source goes on behind them
    exhausted                1 once the end of the source was read
    passed:<kind>            what a folder held besides items, as far as it was read
    cut, part, collected     results that a part is written of; parts and results written
    leader, leader_until     token and lease of who reads and writes
    render                   the console's folder that its pictures are yet to be drawn into
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NewType, cast

import orjson

from worker.backfill.errors import IdTakenError, LeadLostError
from worker.backfill.keys import backfill_key, backfills_key
from worker.backfill.plan import Plan
from worker.backfill.status import BackfillState, BackfillStatus, Origin, read_status
from worker.errors import FencedError
from worker.queue.ledger.keys import MEMBER_SEPARATOR
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.stored_values import text_of
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.models import Lease

LeadToken = NewType("LeadToken", int)
NOBODY: Final = LeadToken(0)

PROGRESS_MILLISECONDS: Final = 5_000
_PACKAGE: Final = "worker.backfill"
_TAKEN: Final = -2


@dataclass(frozen=True, slots=True)
class FeedItem:
    """An item on its way into the ledger: its command, or what is wrong with it."""

    text: bytes
    problem: bytes = b""


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state that is asked for.

    Attributes:
        allowed: states that it may change from.
        token: of the leader, where only the leader may.
    """

    allowed: Collection[BackfillState]
    state: BackfillState
    reason: str = ""
    token: LeadToken | None = None
    event: bytes = b""
    result: bytes = b""


class BackfillStore:
    """The backfills of a namespace.

    Args:
        retention_seconds: how long an ended backfill is remembered.
        reply_retention_seconds: how long a reply stream lives after its last event.
    """

    def __init__(
        self, redis: Redis, keys: Keys, *, retention_seconds: int, reply_retention_seconds: int
    ) -> None:
        self.redis = redis
        self.keys = keys
        self.retention_seconds = retention_seconds
        self.reply_retention_seconds = reply_retention_seconds
        self._open = self._script("open")
        self._lead = self._script("lead")
        self._feed = self._script("feed")
        self._begin_part = self._script("begin_part")
        self._commit_part = self._script("commit_part")
        self._transition = self._script("transition")

    def _script(self, name: str) -> AsyncScript:
        return load_script(self.redis, name, _PACKAGE)

    async def open(
        self,
        backfill_id: str,
        plan: Plan,
        origin: Origin,
        entry: str,
        event: bytes = b"",
        render: str = "",
    ) -> Plan:
        """Begins a backfill unless it was begun before; returns the plan that it has.

        Args:
            backfill_id: of the backfill.
            plan: what it is to do.
            origin: who leads it.
            entry: what the entries of its items begin with.
            event: tells that it was accepted.
            render: the folder that its pictures are to be drawn into once it has ended.
        """
        _, kept = await self._open(
            keys=self._open_keys(backfill_id),
            args=[backfill_id, plan.json(), origin, entry, event, "", render],
        )
        return Plan.parse(kept)

    def _open_keys(self, backfill_id: str) -> list[str]:
        keys = self.keys
        return [
            backfill_key(keys, backfill_id),
            backfills_key(keys),
            keys.events,
            keys.command(backfill_id),
            keys.group(backfill_id),
        ]

    async def open_for(self, lease: Lease, plan: Plan) -> Plan:
        """Begins the backfill of a command likewise, unless that has ended meanwhile.

        Raises:
            FencedError: it was cancelled, or has another holder.
            IdTakenError: the console or an earlier command began a backfill of this id.
        """
        code, kept = await self._open(
            keys=self._open_keys(lease.command_id),
            args=[lease.command_id, plan.json(), Origin.QUEUE, lease.entry_id, "", lease.token, ""],
        )
        if code == _TAKEN:
            raise IdTakenError(lease.command_id)
        if code < 0:
            raise FencedError("another holder owns the command now")
        return Plan.parse(kept)

    async def lead(
        self,
        backfill_id: str,
        token: LeadToken,
        *,
        lease_ms: int,
        progress: tuple[bytes, str] = (b"", ""),
        replies: str = "",
    ) -> tuple[LeadToken, BackfillStatus | None]:
        """Takes the lead (token 0) or keeps it; returns the token, 0 where another leads.

        Args:
            backfill_id: of the backfill.
            token: of the lead that is kept, or `NOBODY`.
            lease_ms: for how long; 0 gives the lead up.
            progress: an event and what it tells; published unless one was a short time ago, or
                told the same.
            replies: the stream that gets it too.
        """
        keys = self.keys
        reply = await self._lead(
            keys=[
                backfill_key(keys, backfill_id),
                keys.group_open(backfill_id),
                keys.group_results(backfill_id),
                keys.events,
                replies or keys.events,
                keys.group(backfill_id),
            ],
            args=[
                token,
                lease_ms,
                progress[0],
                PROGRESS_MILLISECONDS,
                self.reply_retention_seconds,
                progress[1],
            ],
        )
        if reply[0] < 0:
            return NOBODY, None
        return LeadToken(reply[0]), read_status(backfill_id, reply)

    async def now(self) -> float:
        """Returns Redis' time, in seconds since 1970."""
        seconds, microseconds = await self.redis.time()
        return int(seconds) + int(microseconds) / 1_000_000

    async def look(self, backfill_id: str) -> BackfillStatus | None:
        """Returns how a backfill stands; None where its id is not known.

        Raises:
            UnreadableBackfillError: someone wrote over it.
        """
        # A token that nobody ever has takes no lead and keeps none.
        _, status = await self.lead(backfill_id, LeadToken(-1), lease_ms=0)
        return status

    async def ids(self) -> list[str]:
        """Returns the ids of all backfills that are remembered, oldest first."""
        found = cast("list[bytes]", await self.redis.zrange(backfills_key(self.keys), 0, -1))
        # A name that is no UTF-8 is none of ours: no backfill is found by what is shown of it.
        return [text_of(backfill_id) for backfill_id in found]

    async def expect(self, backfill_id: str, items: int) -> None:
        """Records about how many items the source has."""
        await self.redis.hset(backfill_key(self.keys, backfill_id), "expected", str(items))

    async def pictures_drawn(self, backfill_id: str) -> None:
        """Records that no pictures are to be drawn any more."""
        await self.redis.hdel(backfill_key(self.keys, backfill_id), "render")

    async def amend_result(self, backfill_id: str, result: bytes) -> None:
        """Puts another result in place of that of a backfill that has ended."""
        key = backfill_key(self.keys, backfill_id)
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, "result", result)
            pipe.expire(key, self.retention_seconds)
            # Of one without the other nothing can be told, and its id could not be used anew.
            pipe.expire(self.keys.group(backfill_id), self.retention_seconds)
            await pipe.execute()

    async def feed(  # noqa: PLR0913 - what is recorded in one step
        self,
        status: BackfillStatus,
        token: LeadToken,
        items: Sequence[FeedItem],
        position: str,
        *,
        exhausted: bool,
        passed: Mapping[str, int] | None = None,
        epoch: str = "",
    ) -> bool:
        """Accepts items and moves the cursor; False if it stands elsewhere or must not move.

        After a lost reply, look where the cursor stands: the items were taken wholly or not.
        """
        keys = self.keys
        args: list[Any] = [
            keys.prefix,
            status.id,
            token,
            status.read,
            position,
            int(exhausted),
            epoch,
            MEMBER_SEPARATOR,
            orjson.dumps(passed) if passed else b"",
        ]
        for item in items:
            args += (item.text, item.problem)
        done, _ = await self._feed(
            keys=[
                backfill_key(keys, status.id),
                keys.group_open(status.id),
                keys.group_results(status.id),
                keys.due_bulk,
                keys.epoch,
                keys.group(status.id),
            ],
            args=args,
        )
        return bool(done)

    async def results(
        self, backfill_id: str, first: str, last: str, count: int | None = None
    ) -> list[tuple[str, bytes]]:
        """Returns results between two stream ids, both included unless one begins with `(`."""
        stream = self.keys.group_results(backfill_id)
        entries = await entries_between(self.redis, stream, first, last, count)
        return [(entry_id.decode(), fields[b"result"]) for entry_id, fields in entries]

    async def begin_part(self, backfill_id: str, token: LeadToken, cut: str) -> None:
        """Records of which results the next part is written: first id, last id, how many.

        Raises:
            LeadLostError: another leads.
        """
        done = await self._begin_part(
            keys=[backfill_key(self.keys, backfill_id)], args=[token, *cut.split(" ")]
        )
        if not done:
            raise LeadLostError(backfill_id)

    async def commit_part(self, backfill_id: str, token: LeadToken, cut: str) -> None:
        """Forgets the results that a part holds now.

        Raises:
            LeadLostError: another leads.
        """
        _, last, count = cut.split(" ")
        milliseconds, _, number = last.partition("-")
        done = await self._commit_part(
            keys=[backfill_key(self.keys, backfill_id), self.keys.group_results(backfill_id)],
            args=[token, cut, f"{milliseconds}-{int(number) + 1}", count],
        )
        if not done:
            raise LeadLostError(backfill_id)

    async def transition(
        self, backfill_id: str, turn: Transition
    ) -> tuple[bool, BackfillState | None]:
        """Changes the state if it is one of the allowed; returns whether, and the one before."""
        keys = self.keys
        code, before = await self._transition(
            keys=[
                keys.group(backfill_id),
                keys.group_open(backfill_id),
                keys.group_results(backfill_id),
                keys.events,
                keys.due_bulk,
                keys.due_suspect,
                backfill_key(keys, backfill_id),
            ],
            args=[
                keys.prefix,
                f" {' '.join(turn.allowed)} ",
                turn.state,
                turn.reason,
                "" if turn.token is None else turn.token,
                turn.event,
                turn.result,
                self.retention_seconds,
            ],
        )
        return code == 1, None if code < 0 else BackfillState(before.decode())
