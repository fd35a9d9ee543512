"""Cancelling a command: it wins or loses against the run's end by one compare-and-set."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson

from schemas.enums import EventState
from schemas.parsing import parse_command
from worker.ledger.announcement import announce
from worker.ledger.inspection import Inspector
from worker.ledger.ledger import load_script

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.ledger.keys import Keys

_CANCELLED, _ENDED, _UNKNOWN, _ITEM = 1, 0, 2, 4


class CancelVerdict(StrEnum):
    """What became of a cancellation."""

    CANCELLED = "cancelled"
    ALREADY_ENDED = "already_ended"
    UNKNOWN_ID = "unknown_id"
    ITEM_OF_BACKFILL = "item_of_backfill"


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """The verdict, and what the caller should know.

    Attributes:
        state: the command's state before, empty for an unknown id.
        training_uuid: a training that goes on at the API, which can't be stopped there.
        in_doubt: whether a change may have been under way whose outcome nobody waits for now.
    """

    verdict: CancelVerdict
    state: str
    training_uuid: str | None = None
    in_doubt: bool = False


async def cancel(
    redis: Redis,
    keys: Keys,
    command_id: str,
    *,
    retention_seconds: int,
    reply_retention_seconds: int,
) -> CancelOutcome:
    """Ends a command as cancelled unless it has ended; its run is fenced from now on."""
    script = load_script(redis, "cancel")
    inspector = Inspector(redis, keys)
    while True:
        row = await inspector.status(command_id)
        if row is None:
            return CancelOutcome(CancelVerdict.UNKNOWN_ID, "")
        text, token, entry_id, noted = await _read(redis, keys, command_id)
        if row.state.ended or text is None:
            return CancelOutcome(CancelVerdict.ALREADY_ENDED, row.state)
        command = parse_command(text).command
        progress = orjson.loads(noted) if noted else {}
        created = progress.get("step") == "created" and row.type == "train"
        training_uuid = str(progress["uuid"]) if created else None
        in_doubt = progress.get("step") in {"intended", "in_doubt"}
        data: dict[str, Any] = {}
        if training_uuid is not None:
            data = {"training_uuid": training_uuid, "note": "the training goes on at the API"}
        elif in_doubt:
            data = {"note": "a change was under way; whether it happened was not found out"}
        code, state = await script(
            keys=[keys.events, keys.due_interactive, keys.due_bulk, keys.due_suspect],
            args=[
                keys.prefix,
                command_id,
                announce(command, entry_id, command_id, EventState.CANCELLED, data),
                keys.replies(command.replyto),
                retention_seconds,
                reply_retention_seconds,
                token,
                noted,
            ],
        )
        if code == _CANCELLED:
            return CancelOutcome(CancelVerdict.CANCELLED, state.decode(), training_uuid, in_doubt)
        if code == _ENDED:
            return CancelOutcome(CancelVerdict.ALREADY_ENDED, state.decode())
        if code == _ITEM:
            return CancelOutcome(CancelVerdict.ITEM_OF_BACKFILL, row.state)
        if code == _UNKNOWN:
            return CancelOutcome(CancelVerdict.UNKNOWN_ID, "")


async def _read(
    redis: Redis, keys: Keys, command_id: str
) -> tuple[bytes | None, bytes, str, bytes]:
    """Returns text, token, entry id and progress as they stand at one moment."""
    pipe = redis.pipeline(transaction=True)
    pipe.get(keys.text(command_id))
    pipe.hmget(keys.row(command_id), "n", "q", "p")
    text, (token, entry_id, progress) = await pipe.execute()
    return text, token or b"", (entry_id or b"").decode(), progress or b""
