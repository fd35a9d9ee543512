"""One entry of the stream: either a command to accept or a message to reject."""

from __future__ import annotations

import codecs
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jiter
import structlog

from schemas.claim_check import ParsedClaimCheck, parse_message
from schemas.commands import COMMAND_CLASSES
from schemas.enums import EventState, Priority
from schemas.events import UNREADABLE_TYPE, ErrorBody, ErrorCode, Problem, event_json
from schemas.parsing import InvalidCommandError, ParsedCommand
from schemas.partial import read_partial
from worker.queue.intake.envelope import partial_submission, unwrap
from worker.queue.ledger.dead_letters import dead_letter_json
from worker.queue.ledger.entry_fields import AGAIN
from worker.queue.ledger.event_builder import build_event
from worker.queue.ledger.keys import CELERY_FIELD, COMMAND_FIELD, CommandStream
from worker.queue.ledger.models import NewCommand, Rejection
from worker.times import milliseconds_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.queue.ledger.keys import Keys

log = structlog.get_logger(__name__)

RAW_BYTES_IN_EVENT = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream of commands."""

    entry_id: bytes
    fields: Mapping[bytes, bytes]
    stream: CommandStream = CommandStream.COMMON

    @property
    def origin(self) -> str:
        """What names the entry among those of both streams."""
        return self.stream.origin(self.entry_id.decode())

    @property
    def size_bytes(self) -> int:
        """How many bytes its messages have."""
        return sum(map(len, self.fields.values()))


def validate(entry: Entry, keys: Keys, now: float | None = None) -> NewCommand | Rejection:
    """Returns the new command in an entry, or its rejection.

    No message ends the worker, for the next one would read it too: what it makes us stumble over
    is its rejection.

    Args:
        entry: to validate.
        keys: of the namespace.
        now: seconds since 1970; this machine's time where it is not told.
    """
    now = time.time() if now is None else now
    try:
        return _validate(entry, keys, now)
    except MemoryError:
        # It passes, and says nothing of this message.
        raise
    except Exception as exc:
        log.exception("intake.message_failed", entry=entry.origin)
        error = ErrorBody(
            code=ErrorCode.INTERNAL_ERROR,
            message=f"the message can't be judged: {type(exc).__name__}",
        )
        raw = next(iter(entry.fields.values()), b"")
        return _rejection(entry, raw, error, None, None, now=now)


def _validate(entry: Entry, keys: Keys, now: float) -> NewCommand | Rejection:
    is_celery = COMMAND_FIELD not in entry.fields
    field = CELERY_FIELD if is_celery else COMMAND_FIELD
    message = entry.fields.get(field)
    if message is None or field + AGAIN in entry.fields:
        return _unclear(entry, "no field" if message is None else "more than one field", now)
    text = message = message.removeprefix(codecs.BOM_UTF8)
    try:
        if is_celery:
            text = unwrap(message)
        return _new_command(entry, text, parse_message(text), keys, now)
    except InvalidCommandError as exc:
        # Its frames hold all that was made of the message.
        refused = exc.with_traceback(None)
    # Nothing of Celery's envelope itself is an attribute of the command.
    is_envelope = is_celery and text is message
    partial = read_partial(partial_submission(message) if is_envelope else text)
    return _rejection(
        entry,
        text,
        ErrorBody(
            code=refused.code, message=refused.message, problems=list(refused.problems) or None
        ),
        refused.command_type or _known(partial.type),
        refused.command_id or partial.attributes.id,
        context=partial.context(),
        replies=keys.replies(partial.replyto),
        now=now,
    )


def _unclear(entry: Entry, has: str, now: float) -> Rejection:
    """Returns the rejection of an entry of which no field, or more than one, is the message."""
    names = ", ".join(sorted(repr(name.decode("utf-8", "replace")) for name in entry.fields))
    problem = Problem(path="command", message=f"the entry's fields are {names[:200]}")
    error = ErrorBody(
        code=ErrorCode.INVALID_COMMAND,
        message=f"the stream entry has {has} 'command'",
        problems=[problem],
    )
    raw = b" ".join(name + b" " + value for name, value in entry.fields.items())
    return _rejection(entry, raw, error, UNREADABLE_TYPE, None, now=now)


def _known(command_type: str) -> str | None:
    return command_type if command_type in COMMAND_CLASSES else None


def conflict(entry: Entry, new_command: NewCommand, keys: Keys, now: float) -> Rejection:
    """Returns the rejection of a command whose id stands for another command."""
    error = ErrorBody(
        code=ErrorCode.IDEMPOTENCY_CONFLICT,
        message=f"the id {new_command.command_id!r} was used with another type or other data",
        problems=[Problem(path="id", message="was used with another type or other data")],
    )
    command = parse_message(new_command.text).command
    return _rejection(
        entry,
        new_command.text,
        error,
        new_command.command_type,
        new_command.command_id,
        context=command.context(),
        replies=keys.replies(command.replyto),
        now=now,
    )


def with_next_id(entry: Entry, new_command: NewCommand, number: int, now: float) -> NewCommand:
    """Returns the command under the next id that can be made for it.

    The same entry comes by the same ids in the same order, however often it is read: so it finds
    its own row again.

    Args:
        entry: without an id of its own.
        new_command: under an id that is another command's.
        number: 1, 2, …
        now: seconds since 1970.
    """
    command_id = f"{entry.origin}~{number}"
    command = parse_message(new_command.text).command
    event = build_event(command, entry.origin, command_id, EventState.ACCEPTED, {}, now=now)
    return replace(new_command, command_id=command_id, event=event)


def _lane(entry: Entry, text: bytes, priority: Priority) -> Priority:
    """Returns the lane of a command; in the stream for bulk that is one without a priority."""
    if entry.stream is CommandStream.COMMON or priority is Priority.BULK:
        return priority
    # Absent or null: the command itself shows neither.
    is_said = jiter.from_json(text).get("priority") is not None
    return priority if is_said else Priority.BULK


def _new_command(
    entry: Entry, text: bytes, parsed: ParsedCommand | ParsedClaimCheck, keys: Keys, now: float
) -> NewCommand:
    command = parsed.command
    command_id = command.id or entry.entry_id.decode()
    not_before = command.notbefore
    not_before_ms = 0 if not_before is None else milliseconds_of(not_before)
    deadline_ms = None
    if command.deadline is not None:
        deadline_ms = milliseconds_of(command.deadline)
        # Past its deadline the command fails; nothing is gained by sleeping longer.
        not_before_ms = min(not_before_ms, deadline_ms)
    return NewCommand(
        entry_id=entry.entry_id,
        command_id=command_id,
        command_type=command.type,
        fingerprint=parsed.fingerprint,
        lane=_lane(entry, text, command.priority),
        not_before_ms=not_before_ms,
        text=text,
        event=build_event(command, entry.origin, command_id, EventState.ACCEPTED, {}, now=now),
        replies=keys.replies(command.replyto),
        deadline_ms=deadline_ms,
        id_is_made=not command.id,
        command=command,
    )


def _cut(raw: bytes) -> str:
    # Cut twice: what is no UTF-8 grows when it is replaced, and a character may be cut in two.
    text = raw[: RAW_BYTES_IN_EVENT + 3].decode("utf-8", "replace")
    return text.encode()[:RAW_BYTES_IN_EVENT].decode("utf-8", "ignore")


def _rejection(  # noqa: PLR0913 - what a rejection tells
    entry: Entry,
    raw: bytes,
    error: ErrorBody,
    command_type: str | None,
    command_id: str | None,
    *,
    now: float,
    context: Mapping[str, Any] | None = None,
    replies: str = "",
) -> Rejection:
    entry_id = entry.entry_id.decode()
    now_ms = int(now * 1000)
    named_type = command_type or UNREADABLE_TYPE
    error_data = error.model_dump(mode="json", exclude_none=True)
    return Rejection(
        entry_id=entry.entry_id,
        event=event_json(
            event_id=f"{entry.origin}/{EventState.REJECTED}",
            command_type=named_type,
            state=EventState.REJECTED,
            subject=command_id or entry_id,
            time_ms=now_ms,
            data={
                "error": error_data,
                "raw": _cut(raw),
            },
            context=context or {},
        ),
        dead_letter=dead_letter_json(
            command_id=command_id or entry_id,
            command_type=named_type,
            error=error_data,
            text=raw,
            at_ms=now_ms,
            attempts=0,
            history=[],
            lane=Priority.BULK if entry.stream is CommandStream.BULK else Priority.INTERACTIVE,
        ),
        replies=replies,
        code=error.code,
    )
