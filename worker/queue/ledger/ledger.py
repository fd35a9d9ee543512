"""The ledger's acts: accept, reject, claim, renew, checkpoint, finish. Nothing else writes rows.

Each act is one Lua script over many rows: atomic, timed by Redis' own clock, and safe to repeat
when its reply was lost. The scripts lie beside this file, with their keys and arguments at
their top.
"""

from __future__ import annotations

import time
from dataclasses import replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from redis.exceptions import ResponseError

from schemas.enums import Priority
from schemas.json_text import encode_json
from worker.queue.ledger.keys import GROUP, CommandStream, Keys, shown_id
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.models import (
    LANE_CODES,
    SUSPECT_CLAIMS,
    Accepted,
    AcceptStatus,
    Claim,
    Lease,
    NewCommand,
    Phase,
    Progress,
    Rejection,
    RowState,
    RunResult,
    Token,
    read_leases,
)
from worker.queue.ledger.outage import Outage
from worker.queue.ledger.refusals import EndsRefusedError, is_misplaced
from worker.queue.log_listener import LOGS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from redis.asyncio import Redis

    from worker.queue.telemetry import Listener

log = structlog.get_logger(__name__)

_STATUSES = (
    AcceptStatus.ACCEPTED,
    AcceptStatus.DUPLICATE,
    AcceptStatus.CONFLICT,
    AcceptStatus.TAKEN,
    AcceptStatus.ACCEPTED,
    AcceptStatus.DUPLICATE,
)
_CLAIMED: Final = 4
_REGAINED: Final = 5

_PAUSED_BITS = ((1, Priority.INTERACTIVE), (2, Priority.BULK))

# So long a lock is kept, and an owner's for as long again as the API may hide what it owns: a
# command in doubt that sees it by then remembers that it is another's.
LOCK_SECONDS: Final = 30 * 24 * 3600

# A command that was cancelled in the middle of its POST keeps identical ones from sending until
# that call is surely over; its own worker lets go sooner, unless it died.
ENDED_HOLDER_SECONDS: Final = 300

# Rows that only a newer version can read are told of no more often.
NEWER_TOLD_SECONDS: Final = 60.0
# More bytes than any claim has.
NO_BOUND: Final = 2**53


class CheckpointStatus(IntEnum):
    """What became of a checkpoint."""

    FENCED = 0
    DONE = 1
    LOCKED = 2


class Ledger:
    """Rows of one namespace.

    Attributes:
        epoch: without it in Redis nothing is accepted; empty where nobody looks for one.
        retention_seconds: how long an ended row is kept for its id.

    Args:
        redis: client that returns bytes.
        keys: the namespace.
        lease_seconds: how long a claim holds unless it is renewed.
        retention_seconds: see the attributes.
        reply_retention_seconds: how long a reply stream lives after its last event.
        telemetry: whoever is told what happens.
        text_retention_seconds: how long the texts of commands are kept whose end says so.
        longest_hold_seconds: nothing that is found in Redis pauses claiming for longer.
    """

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        redis: Redis,
        keys: Keys,
        *,
        lease_seconds: float,
        retention_seconds: int,
        reply_retention_seconds: int,
        text_retention_seconds: int = 0,
        longest_hold_seconds: float = 300.0,
        telemetry: Listener = LOGS,
    ) -> None:
        self.redis = redis
        self.keys = keys
        self.epoch = ""
        self._tell_newer_at = float("-inf")
        self.telemetry = telemetry
        self.outage = Outage(telemetry=telemetry)
        self._lease_ms = int(lease_seconds * 1000)
        self._longest_hold_ms = int(longest_hold_seconds * 1000)
        self.retention_seconds = retention_seconds
        self.reply_retention_seconds = reply_retention_seconds
        self._text_retention_seconds = text_retention_seconds
        self._accept = load_script(redis, "accept")
        self._reject = load_script(redis, "reject")
        self._claim = load_script(redis, "claim")
        self._renew = load_script(redis, "renew")
        self._checkpoint = load_script(redis, "checkpoint")
        self._finish = load_script(redis, "finish")
        self._hold = load_script(redis, "hold")

    async def accept(
        self, batch: Sequence[NewCommand], stream: CommandStream = CommandStream.COMMON
    ) -> list[AcceptStatus]:
        """Makes rows of commands and acknowledges their entries.

        Those of conflicts, and of made ids that are taken, stay pending.

        Args:
            batch: all of one stream.
            stream: theirs.

        Raises:
            redis.exceptions.RedisError: nothing is known of the outcome; accept again.
        """
        return (await self.accept_and_claim(batch, stream)).statuses

    async def accept_and_claim(
        self,
        batch: Sequence[NewCommand],
        stream: CommandStream = CommandStream.COMMON,
        *,
        most: int = 0,
        holder: str = "",
        takes_turns: bool = False,
    ) -> Accepted:
        """Does so, and claims interactive commands at once where none is due, held or paused.

        Args:
            batch: all of one stream.
            stream: theirs.
            most: that may be claimed.
            holder: who claims; the same call by the same holder gets the same leases again.
            takes_turns: whether a bulk command that is due goes first.

        Raises:
            redis.exceptions.RedisError: nothing is known of the outcome; the same call tells it.
        """
        keys = self.keys
        args: list[Any] = [
            keys.prefix,
            GROUP,
            self.reply_retention_seconds,
            self.epoch,
            stream,
            self._lease_ms,
            most,
            holder,
            int(takes_turns),
        ]
        for item in batch:
            args += (
                item.entry_id,
                item.command_id,
                item.command_type,
                item.fingerprint,
                LANE_CODES[item.lane],
                item.not_before_ms,
                item.text,
                item.event,
                item.replies,
                "" if item.deadline_ms is None else item.deadline_ms,
                int(item.id_is_made),
            )
        codes, now = await self._accept(
            keys=[
                keys.stream(stream),
                keys.events,
                keys.due_interactive,
                keys.due_bulk,
                keys.epoch,
                keys.deadlines,
                keys.hold,
                keys.paused(Priority.INTERACTIVE),
            ],
            args=args,
        )
        accepted = Accepted([_STATUSES[code] for code in codes], [], [])
        for item, code in zip(batch, codes, strict=True):
            if code == _CLAIMED:
                accepted.leases.append(_first_lease(item, stream, now))
            elif code == _REGAINED:
                accepted.regained.append(_first_lease(item, stream, now))
        return accepted

    async def reject(
        self, batch: Sequence[Rejection], stream: CommandStream = CommandStream.COMMON
    ) -> int:
        """Rejects entries, each once however often it is tried; returns how many were new.

        Args:
            batch: all of one stream.
            stream: theirs.
        """
        keys = self.keys
        args: list[Any] = [keys.prefix, self.reply_retention_seconds, GROUP]
        for item in batch:
            args += (item.entry_id, item.event, item.dead_letter, item.replies)
        reply = await self._reject(
            keys=[keys.stream(stream), keys.events, keys.dead_letters], args=args
        )
        return cast("int", reply)

    async def claim(
        self,
        most: int,
        *,
        bulk_first: int = 0,
        bulk_most: int = 0,
        suspects: int = 0,
        most_bytes: int = NO_BOUND,
        bulk_bytes: int = NO_BOUND,
    ) -> Claim:
        """Takes leases on rows that are due, unless the API asked everybody to hold back.

        Args:
            most: of both lanes together.
            bulk_first: rows of the bulk lane that go before the interactive lane.
            bulk_most: of the bulk lane, with those.
            suspects: 1 if a row may be taken that perhaps kills its worker, else 0.
            most_bytes: once the texts of rows have so many, no further row is taken.
            bulk_bytes: likewise in the bulk lane.
        """
        keys = self.keys
        reply = await self._claim(
            keys=[
                keys.due_interactive,
                keys.due_bulk,
                keys.due_suspect,
                keys.hold,
                keys.paused(Priority.INTERACTIVE),
                keys.paused(Priority.BULK),
            ],
            args=[
                keys.prefix,
                self._lease_ms,
                most,
                bulk_first,
                bulk_most,
                suspects,
                SUSPECT_CLAIMS,
                self._longest_hold_ms,
                most_bytes,
                bulk_bytes,
            ],
        )
        held_ms, rows, paused, dropped, skipped, cut, newer = reply
        if dropped:
            named = [shown_id(row_id.decode(errors="replace")) for row_id in dropped]
            log.error("ledger.rows_broken", ids=named)
        if newer:
            self._tell_newer([shown_id(row_id.decode(errors="replace")) for row_id in newer])
        leases = read_leases(rows)
        if not paused:
            return Claim(leases, held_ms / 1000, frozenset(), skipped, bool(cut))
        lanes = {lane for bit, lane in _PAUSED_BITS if paused & bit}
        leases = [replace(lease, probe=lease.lane in lanes) for lease in leases]
        return Claim(leases, held_ms / 1000, frozenset(lanes), skipped, bool(cut))

    def _tell_newer(self, ids: list[str]) -> None:
        if time.monotonic() < self._tell_newer_at:
            return
        self._tell_newer_at = time.monotonic() + NEWER_TOLD_SECONDS
        log.warning(
            "ledger.rows_newer",
            ids=ids,
            advice="only a newer version of trainmaster can carry these out: start one",
        )

    async def hold(self, seconds: float, reason: str = "the API answered 429") -> None:
        """Pauses claiming for so long, or longer where that was said before."""
        milliseconds = min(max(1, int(seconds * 1000)), self._longest_hold_ms)
        await self._hold(keys=[self.keys.hold], args=[milliseconds, reason])

    async def renew(self, leases: Sequence[Lease]) -> set[str]:
        """Extends leases; returns the row ids of those that were lost to another holder."""
        keys = self.keys
        args: list[Any] = [keys.prefix, self._lease_ms]
        for lease in leases:
            args += (lease.row_id, lease.token, LANE_CODES[lease.lane])
        reply = await self._renew(keys=[keys.due_interactive, keys.due_bulk], args=args)
        return {row_id.decode() for row_id in reply}

    async def has_ended(self, lease: Lease) -> bool:
        """Tells whether the command of a lease has ended; its id may be another one's by now."""
        fields = self.redis.hmget(self.keys.command(lease.row_id), ["e", "q"])
        try:
            ended_at, entry_id = await cast("Awaitable[list[bytes | None]]", fields)
        except ResponseError as exc:
            if not is_misplaced(exc):
                raise
            # Someone wrote over the row: there is no such command any more.
            return True
        return ended_at is not None or entry_id != lease.entry_id.encode()

    async def checkpoint(  # noqa: PLR0913 - what it holds
        self,
        lease: Lease,
        progress: Progress,
        *,
        phase: Phase = Phase.IDLE,
        state: RowState | None = None,
        leaves: dict[str, Any] | None = None,
        event: bytes = b"",
        replies: str = "",
        take_lock: str = "",
        drop_lock: str = "",
        lock_lapses: bool = False,
        lock_seconds: int = LOCK_SECONDS,
        unless: str = "",
    ) -> tuple[CheckpointStatus, str]:
        """Records progress in the middle of a run; returns also who holds a refused lock.

        The same checkpoint made again publishes no second event.

        Args:
            lease: of the run.
            progress: what the next run must know.
            phase: how far its change has come.
            leaves: what goes on though the command is cancelled, for the event that tells it.
            state: where the command stands now.
            event: published with the checkpoint.
            replies: the stream that gets the event too.
            take_lock: key of a lock without which nothing is recorded.
            drop_lock: key of a lock that is needed no longer.
            lock_lapses: whether the lock is free once the command that holds it has ended.
            lock_seconds: how long a lock is kept that is taken.
            unless: a key; while it exists nothing is recorded, as if the command held the lock.
        """
        keys = self.keys
        reply = await self._checkpoint(
            keys=[keys.events, keys.due_interactive, keys.due_bulk],
            args=[
                keys.prefix,
                lease.row_id,
                lease.token,
                LANE_CODES[lease.lane],
                self._lease_ms,
                state or "",
                encode_json(progress),
                event,
                replies,
                self.reply_retention_seconds,
                take_lock,
                drop_lock,
                lock_seconds,
                ENDED_HOLDER_SECONDS * 1000 if lock_lapses else "",
                phase,
                b"" if leaves is None else encode_json(leaves),
                unless,
            ],
        )
        return CheckpointStatus(reply[0]), reply[1].decode()

    async def finish(self, batch: Sequence[RunResult]) -> list[bool]:
        """Settles or reschedules; False where the lease had passed to another holder.

        A repeated finish whose first reply was lost returns True, for it has been done; but False
        of a group's member, whose row is gone with its end.

        Raises:
            EndsRefusedError: some are refused, each by keys of its own.
            redis.exceptions.RedisError: it is not known which were recorded; the same call tells.
        """
        keys = self.keys
        # No text outlives its row.
        text_seconds = min(self._text_retention_seconds, self.retention_seconds)
        args: list[Any] = [
            keys.prefix,
            self.retention_seconds,
            self.reply_retention_seconds,
            text_seconds,
        ]
        for item in batch:
            args += (
                item.lease.row_id,
                item.lease.token,
                LANE_CODES[item.lease.lane],
                item.state,
                int(item.state.ended),
                max(0, int(item.delay_seconds * 1000)),
                item.attempts,
                item.claims,
                b"" if item.progress is None else encode_json(item.progress),
                encode_json(item.errors) if item.errors else b"",
                item.event,
                item.replies,
                item.dead_letter,
                item.drop_lock,
                item.lease.group,
                item.member_result,
                item.failure,
                item.phase or "",
                int(item.keeps_text and text_seconds > 0),
            )
        reply = await self._finish(
            keys=[
                keys.events,
                keys.dead_letters,
                keys.due_interactive,
                keys.due_bulk,
                keys.deadlines,
            ],
            args=args,
        )
        if reasons := [verdict for verdict in reply if isinstance(verdict, bytes)]:
            done = [None if isinstance(verdict, bytes) else bool(verdict) for verdict in reply]
            raise EndsRefusedError(reasons[0].decode(errors="replace"), done)
        return [bool(verdict) for verdict in reply]

    async def count_due(self, now: int | None = None) -> tuple[int, int, int]:
        """Returns how many rows are due: interactive, bulk, suspects.

        Args:
            now: Redis' time, in ms; it is asked for unless it is known.
        """
        if now is None:
            seconds, microseconds = await self.redis.time()
            now = seconds * 1000 + microseconds // 1000
        pipe = self.redis.pipeline(transaction=False)
        pipe.zcount(self.keys.due_interactive, "-inf", now)
        pipe.zcount(self.keys.due_bulk, "-inf", now)
        pipe.zcount(self.keys.due_suspect, "-inf", now)
        interactive, bulk, suspects = await pipe.execute()
        return interactive, bulk, suspects


def _first_lease(command: NewCommand, stream: CommandStream, now_ms: int) -> Lease:
    """Returns the lease of a command that was claimed as it was accepted."""
    return Lease(
        row_id=command.command_id,
        token=Token(1),
        lane=command.lane,
        state=RowState.ACCEPTED,
        attempts=0,
        claims=1,
        accepted_at_ms=now_ms,
        entry_id=f"{stream}{command.entry_id.decode()}",
        progress=None,
        errors=[],
        text=command.text,
        command=command.command,
    )
