"""Cancelling a command: it wins or loses against the run's end by one compare-and-set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError

from schemas.claim_check import reread_message
from schemas.enums import EventState
from schemas.parsing import InvalidCommandError
from schemas.partial import read_partial
from worker.queue.ledger.event_builder import build_event
from worker.queue.ledger.keys import member_row_id
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.models import read_phase, read_progress
from worker.queue.ledger.refusals import is_misplaced
from worker.queue.ledger.stored_values import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from schemas.claim_check import ClaimCheck
    from schemas.commands import Command
    from schemas.partial import PartialCommand
    from worker.queue.ledger.keys import Keys

_CANCELLED: Final = 1


class CancelStatus(StrEnum):
    """What became of a cancellation."""

    CANCELLED = "cancelled"
    CANCELLING = "cancelling"
    ALREADY_ENDED = "already_ended"
    UNKNOWN_ID = "unknown_id"
    MEMBER_OF_GROUP = "member_of_group"


_STATUSES: Final = {
    0: CancelStatus.ALREADY_ENDED,
    2: CancelStatus.UNKNOWN_ID,
    5: CancelStatus.CANCELLING,
}


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """The status, and what the caller should know.

    Attributes:
        state: the command's state before, empty for an unknown id.
        leaves: what goes on all the same, as the event tells it.
        in_doubt: whether a change may have been under way whose outcome nobody waits for now.
    """

    status: CancelStatus
    state: str
    leaves: dict[str, Any] = field(default_factory=dict)
    in_doubt: bool = False

    @property
    def is_done(self) -> bool:
        """Whether this very call has ended the command, or has begun to."""
        return self.status in {CancelStatus.CANCELLED, CancelStatus.CANCELLING}


@dataclass(frozen=True, slots=True)
class _Moment:
    """What a row holds at one moment, as it stands there: any version may have written it."""

    state: str
    type: str
    token: bytes
    entry_id: str
    progress: bytes
    phase: bytes
    left: bytes
    text: bytes
    ended: bool
    is_member: bool
    now: float

    @property
    def leaves(self) -> dict[str, Any]:
        phase = read_phase(self.phase)
        # What a person named and was not there stands in the row until the doubt is over.
        return read_progress(self.left) if phase is None or phase.is_known else {}

    @property
    def in_doubt(self) -> bool:
        phase = read_phase(self.phase)
        # A phase of a newer version says only that something was begun.
        return phase is None or phase.is_uncertain

    @property
    def command(self) -> Command | ClaimCheck | PartialCommand:
        """The command, or as much of it as this version can read."""
        try:
            return reread_message(self.text)
        except InvalidCommandError:
            return replace(read_partial(self.text), type=self.type)


@dataclass(frozen=True, slots=True)
class Canceller:
    """Cancels commands of a namespace.

    Attributes:
        retention_seconds: how long their ids are remembered.
        reply_retention_seconds: how long reply streams are kept.
    """

    redis: Redis
    keys: Keys
    retention_seconds: int
    reply_retention_seconds: int

    async def cancel(self, command_id: str) -> CancelOutcome:
        """Ends a command as cancelled unless it has ended; its run is fenced from now on.

        A backfill that was begun ends once what its items came to is written: nothing more is
        started for it, and whoever leads it does the rest.
        """
        script = load_script(self.redis, "cancel")
        while True:
            (row,) = await self._read([command_id])
            outcome = await self._without_script(command_id, row)
            if outcome is None and row is not None:
                keys, args = self._call(command_id, row)
                outcome = _outcome(row, await script(keys=keys, args=args))
            if outcome is not None:
                return outcome

    async def cancel_all(self, command_ids: Sequence[str]) -> dict[str, CancelOutcome]:
        """Cancels many as `cancel` does, in a few round trips; returns what became of each.

        Args:
            command_ids: each may have a megabyte of data, and all are held at a time.

        Raises:
            RedisError: Redis refused some, or is away; others may be cancelled.
        """
        script = load_script(self.redis, "cancel")
        outcomes: dict[str, CancelOutcome] = {}
        left = list(dict.fromkeys(command_ids))
        while left:
            asked: list[tuple[str, _Moment]] = []
            pipe = self.redis.pipeline(transaction=False)
            for command_id, row in zip(left, await self._read(left), strict=True):
                outcome = await self._without_script(command_id, row)
                if outcome is not None:
                    outcomes[command_id] = outcome
                elif row is not None:
                    keys, args = self._call(command_id, row)
                    pipe.evalsha(script.sha, len(keys), *keys, *args)
                    asked.append((command_id, row))
            left = []
            replies = await pipe.execute(raise_on_error=False) if asked else []
            for (command_id, row), reply in zip(asked, replies, strict=True):
                if isinstance(reply, NoScriptError):
                    await self.redis.script_load(script.script)
                elif isinstance(reply, Exception):
                    raise reply
                elif (told := _outcome(row, reply)) is not None:
                    outcomes[command_id] = told
                    continue
                left.append(command_id)
        return outcomes

    def _call(self, command_id: str, row: _Moment) -> tuple[list[str], list[Any]]:
        """Returns keys and arguments of the script."""
        keys, command = self.keys, row.command
        data = _data(row)
        event = build_event(
            command, row.entry_id, command_id, EventState.CANCELLED, data, now=row.now
        )
        return [
            keys.events,
            keys.due_interactive,
            keys.due_bulk,
            keys.due_suspect,
            keys.deadlines,
        ], [
            keys.prefix,
            command_id,
            event,
            keys.replies(command.replyto),
            self.retention_seconds,
            self.reply_retention_seconds,
            row.token,
            row.progress,
        ]

    async def _without_script(self, command_id: str, row: _Moment | None) -> CancelOutcome | None:
        """Returns why nothing is to be cancelled, None where something is."""
        if row is None:
            return await self._item_or_unknown(command_id)
        if row.is_member:
            # Its group would wait for it for ever.
            return CancelOutcome(CancelStatus.MEMBER_OF_GROUP, row.state)
        return CancelOutcome(CancelStatus.ALREADY_ENDED, row.state) if row.ended else None

    async def _item_or_unknown(self, item_id: str) -> CancelOutcome:
        """Returns why an id that no command has can't be cancelled."""
        group_id, _, number = item_id.rpartition("/")
        rows = await self._read([member_row_id(group_id, number)]) if number.isdigit() else [None]
        if rows[0] is None:
            return CancelOutcome(CancelStatus.UNKNOWN_ID, "")
        return CancelOutcome(CancelStatus.MEMBER_OF_GROUP, rows[0].state)

    async def _read(self, row_ids: Sequence[str]) -> list[_Moment | None]:
        pipe = self.redis.pipeline(transaction=True)
        pipe.time()
        for row_id in row_ids:
            pipe.get(self.keys.text(row_id))
            pipe.hmget(self.keys.command(row_id), "s", "t", "n", "q", "p", "e", "h", "z", "b")
        (seconds, microseconds), *found = map(
            _unless_misplaced, await pipe.execute(raise_on_error=False)
        )
        now = seconds + microseconds / 1_000_000
        return [
            _moment(text, fields, now) for text, fields in zip(found[::2], found[1::2], strict=True)
        ]


async def cancel(
    redis: Redis,
    keys: Keys,
    command_id: str,
    *,
    retention_seconds: int,
    reply_retention_seconds: int,
) -> CancelOutcome:
    """Cancels one command; see `Canceller.cancel`."""
    canceller = Canceller(redis, keys, retention_seconds, reply_retention_seconds)
    return await canceller.cancel(command_id)


def _outcome(row: _Moment, reply: list[Any]) -> CancelOutcome | None:
    """Returns what the script did, None where the row has moved on and is to be read again."""
    code, state = reply
    if code == _CANCELLED:
        return CancelOutcome(CancelStatus.CANCELLED, text_of(state), row.leaves, row.in_doubt)
    status = _STATUSES.get(code)
    return None if status is None else CancelOutcome(status, text_of(state))


def _data(row: _Moment) -> dict[str, Any]:
    if row.leaves:
        return row.leaves
    if row.in_doubt:
        return {"note": "a change was under way; whether it happened was not found out"}
    return {}


def _unless_misplaced(told: Any) -> Any:
    """Returns what Redis told; None of a key that holds something else, which is no command."""
    if isinstance(told, Exception):
        if not is_misplaced(told):
            raise told
        return None
    return told


def _moment(
    text: bytes | None, fields: Sequence[bytes | None] | None, now: float
) -> _Moment | None:
    if fields is None:
        return None
    state, command_type, token, entry_id, progress, ended_at, phase, left, group = fields
    if state is None:
        return None
    return _Moment(
        state=text_of(state),
        type=text_of(command_type or b""),
        token=token or b"",
        entry_id=text_of(entry_id or b""),
        progress=progress or b"",
        phase=phase or b"",
        left=left or b"",
        text=text or b"",
        ended=ended_at is not None,
        is_member=group is not None,
        now=now,
    )
