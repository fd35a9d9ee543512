"""Cancelling a command: it wins or loses against the run's end by one compare-and-set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from schemas.claim_check import reread_message
from schemas.enums import EventState
from schemas.parsing import InvalidCommandError
from schemas.partial import read_partial
from worker.queue.ledger.event_builder import build_event
from worker.queue.ledger.keys import member_row_id
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.models import read_phase, read_progress

if TYPE_CHECKING:
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


async def cancel(
    redis: Redis,
    keys: Keys,
    command_id: str,
    *,
    retention_seconds: int,
    reply_retention_seconds: int,
) -> CancelOutcome:
    """Ends a command as cancelled unless it has ended; its run is fenced from now on.

    A backfill that was begun ends once what its items came to is written: nothing more is started
    for it, and whoever leads it does the rest.
    """
    script = load_script(redis, "cancel")
    while True:
        row = await _read(redis, keys, command_id)
        if row is None:
            return await _item_or_unknown(redis, keys, command_id)
        if row.is_member:
            # Its group would wait for it for ever.
            return CancelOutcome(CancelStatus.MEMBER_OF_GROUP, row.state)
        if row.ended:
            return CancelOutcome(CancelStatus.ALREADY_ENDED, row.state)
        command = row.command
        code, state = await script(
            keys=[
                keys.events,
                keys.due_interactive,
                keys.due_bulk,
                keys.due_suspect,
                keys.deadlines,
            ],
            args=[
                keys.prefix,
                command_id,
                build_event(
                    command,
                    row.entry_id,
                    command_id,
                    EventState.CANCELLED,
                    _data(row),
                    now=row.now,
                ),
                keys.replies(command.replyto),
                retention_seconds,
                reply_retention_seconds,
                row.token,
                row.progress,
            ],
        )
        if code == _CANCELLED:
            return CancelOutcome(CancelStatus.CANCELLED, state.decode(), row.leaves, row.in_doubt)
        if (status := _STATUSES.get(code)) is not None:
            return CancelOutcome(status, state.decode())


async def _item_or_unknown(redis: Redis, keys: Keys, item_id: str) -> CancelOutcome:
    """Returns why an id that no command has can't be cancelled."""
    group_id, _, number = item_id.rpartition("/")
    row = await _read(redis, keys, member_row_id(group_id, number)) if number.isdigit() else None
    if row is None:
        return CancelOutcome(CancelStatus.UNKNOWN_ID, "")
    return CancelOutcome(CancelStatus.MEMBER_OF_GROUP, row.state)


def _data(row: _Moment) -> dict[str, Any]:
    if row.leaves:
        return row.leaves
    if row.in_doubt:
        return {"note": "a change was under way; whether it happened was not found out"}
    return {}


async def _read(redis: Redis, keys: Keys, row_id: str) -> _Moment | None:
    pipe = redis.pipeline(transaction=True)
    pipe.get(keys.text(row_id))
    pipe.hmget(keys.command(row_id), "s", "t", "n", "q", "p", "e", "h", "z", "b")
    pipe.time()
    text, fields, (seconds, microseconds) = await pipe.execute()
    state, command_type, token, entry_id, progress, ended_at, phase, left, group = fields
    if state is None:
        return None
    return _Moment(
        state=state.decode(),
        type=(command_type or b"").decode(),
        token=token or b"",
        entry_id=(entry_id or b"").decode(),
        progress=progress or b"",
        phase=phase or b"",
        left=left or b"",
        text=text or b"",
        ended=ended_at is not None,
        is_member=group is not None,
        now=seconds + microseconds / 1_000_000,
    )
