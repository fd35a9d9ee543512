"""Settling a doubt: a person who looked at the API says whether a lost call created something."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from schemas.claim_check import reread_message
from schemas.enums import EventState
from schemas.json_text import encode_json
from schemas.parsing import InvalidCommandError
from schemas.partial import read_partial
from schemas.trainings import Train
from worker.encord.creation.resource_spec import training_goes_on
from worker.queue.ledger.event_builder import build_event
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.models import Phase, read_phase, read_progress
from worker.queue.ledger.refusals import is_misplaced

if TYPE_CHECKING:
    from uuid import UUID

    from redis.asyncio import Redis

    from schemas.claim_check import ClaimCheck
    from schemas.commands import Command
    from schemas.partial import PartialCommand
    from worker.queue.ledger.keys import Keys


@dataclass(frozen=True, slots=True)
class Resolution:
    """What somebody says became of a lost call.

    Attributes:
        created: what it created; None where it created nothing.
        by: who says so.
    """

    created: UUID | None
    by: str


class ResolveStatus(StrEnum):
    """What became of a resolution."""

    RESOLVED = "resolved"
    NOT_IN_DOUBT = "not_in_doubt"
    ALREADY_ENDED = "already_ended"
    UNKNOWN_ID = "unknown_id"


@dataclass(frozen=True, slots=True)
class ResolveOutcome:
    """The status, and where the command stands; an unknown one nowhere."""

    status: ResolveStatus
    state: str


async def resolve(
    redis: Redis,
    keys: Keys,
    command_id: str,
    resolution: Resolution,
    *,
    reply_retention_seconds: int,
) -> ResolveOutcome:
    """Has a command in doubt go on as if the API had told what became of its call.

    Its next run adopts what was created, or sends the call once more. A command whose call may be
    under way right now is not in doubt yet.
    """
    script = load_script(redis, "resolve", "worker.encord.creation")
    while True:
        pipe = redis.pipeline(transaction=True)
        pipe.get(keys.text(command_id))
        pipe.hmget(keys.command(command_id), "s", "t", "n", "q", "p", "e", "r", "h")
        pipe.time()
        try:
            text, fields, (seconds, microseconds) = await pipe.execute()
        except ResponseError as exc:
            if not is_misplaced(exc):
                raise
            # Someone wrote over it: it is no command any more, or none that can be read.
            return ResolveOutcome(ResolveStatus.UNKNOWN_ID, "")
        state, command_type, token, entry, recorded, ended_at, known, phase = fields
        if state is None:
            return ResolveOutcome(ResolveStatus.UNKNOWN_ID, "")
        created = None if resolution.created is None else str(resolution.created)
        doubt = read_progress(recorded)
        if ended_at is not None or read_phase(phase) is not Phase.IN_DOUBT:
            return ResolveOutcome(
                _status(known, created, resolution.by, ended=ended_at is not None), state.decode()
            )
        now = seconds + microseconds / 1_000_000
        told = {"created": created, "by": resolution.by, "at_ms": int(now * 1000)}
        command = _command(text or b"", (command_type or b"").decode())
        event = build_event(
            command,
            (entry or b"").decode(),
            command_id,
            EventState.RESOLVED,
            {"created": created, "by": resolution.by},
            ordinal=int(token) if token.isdigit() else 0,
            now=now,
        )
        settled = await script(
            keys=[keys.events, keys.due_interactive, keys.due_bulk, keys.due_suspect],
            args=[
                keys.prefix,
                command_id,
                event,
                keys.replies(command.replyto),
                reply_retention_seconds,
                token,
                recorded,
                encode_json({**doubt, "resolution": told}),
                encode_json(told),
                Phase.WITHDRAWN if created is None else Phase.RESOLVED,
                _leaves(command.type, created),
            ],
        )
        if settled:
            return ResolveOutcome(ResolveStatus.RESOLVED, state.decode())


def _leaves(command_type: str, created: str | None) -> bytes:
    if created is None or command_type != Train.command_type:
        return b""
    return encode_json(training_goes_on(created))


def _status(known: bytes | None, created: str | None, by: str, *, ended: bool) -> ResolveStatus:
    """Returns what to say of a command that is in no doubt; the same word again is as the first."""
    said = read_progress(known)
    if said and (said.get("created"), said.get("by")) == (created, by):
        return ResolveStatus.RESOLVED
    return ResolveStatus.ALREADY_ENDED if ended else ResolveStatus.NOT_IN_DOUBT


def _command(text: bytes, command_type: str) -> Command | ClaimCheck | PartialCommand:
    """Returns the command, or as much of it as this version can read."""
    try:
        return reread_message(text)
    except InvalidCommandError:
        return replace(read_partial(text), type=command_type)
