"""What is submitted for a command that came over HTTP, once it has been validated."""

from __future__ import annotations

import codecs
import uuid
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from schemas.attributes import is_valid_id
from schemas.claim_check import parse_message
from schemas.enums import Priority
from schemas.events import Problem
from schemas.json_text import decode_json, encode_json
from schemas.parsing import MAX_COMMAND_BYTES, invalid_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.claim_check import ClaimCheck
    from schemas.commands import Command

# Until a worker has read a command, and its row tells of it, this does: that there is such a
# command, and that its id was used otherwise. Of many at a time only ids of the sender's own.
REMEMBERED_SECONDS: Final = 3600
MADE_REMEMBERED_SECONDS: Final = 600
# Of 255 characters, each of which may take several bytes.
_ROOM_FOR_ID: Final = 2048
NO_TRACE: Final[Mapping[str, str]] = MappingProxyType({})


class SubmitStatus(IntEnum):
    """What became of a command; REFUSED: its stream takes no more, which says doctor, too."""

    ADDED = 0
    KNOWN = 1
    CONFLICT = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class Submission:
    """A valid command on its way into its stream.

    Attributes:
        text: the whole command with its id, JSON in UTF-8.
        fingerprint: of type and data.
        remembered_seconds: how long the id is told apart before a worker has read the command.
    """

    command: Command | ClaimCheck
    command_id: str
    text: bytes
    fingerprint: bytes
    remembered_seconds: int = REMEMBERED_SECONDS

    @property
    def is_bulk(self) -> bool:
        """Whether it goes where interactive commands never wait behind it."""
        return self.command.priority is Priority.BULK


def prepare(
    raw: bytes,
    idempotency_key: str | None = None,
    *,
    is_alone: bool = True,
    trace: Mapping[str, str] = NO_TRACE,
) -> Submission:
    """Returns what is submitted for a command as it came.

    Args:
        raw: the command.
        idempotency_key: its id, as the header of this name has it.
        is_alone: whether it is all of its request.
        trace: the request's trace context, for a command that names none.

    Raises:
        InvalidCommandError: it is no command, or names another id than the header does.
    """
    raw = raw.removeprefix(codecs.BOM_UTF8)
    parsed = parse_message(raw)
    command = parsed.command
    if trace and command.traceparent is None:
        raw = _with_trace(raw, trace)
    if idempotency_key is not None:
        _check_key(idempotency_key, command.id)
        if command.id is None:
            raw = with_attributes(raw, {"id": idempotency_key})
    command_id = command.id or idempotency_key
    if command_id is not None:
        return Submission(command, command_id, raw, parsed.fingerprint)
    command_id = str(uuid.uuid4())
    text = with_attributes(raw, {"id": command_id})
    remembered = MADE_REMEMBERED_SECONDS if is_alone else 0
    return Submission(command, command_id, text, parsed.fingerprint, remembered)


def _with_trace(raw: bytes, trace: Mapping[str, str]) -> bytes:
    """Returns a command with a trace, unless it would be too large for that."""
    found = with_attributes(raw, trace)
    return found if len(found) <= MAX_COMMAND_BYTES - _ROOM_FOR_ID else raw


def with_attributes(raw: bytes, attributes: Mapping[str, str]) -> bytes:
    """Returns a command that has none of these attributes, or null ones, with them.

    Spliced where they can be, not parsed and written: all else stays as it was sent.
    """
    root = decode_json(raw)
    if not root.keys().isdisjoint(attributes):
        return encode_json({**root, **attributes})
    return raw.rstrip()[:-1].rstrip() + b"," + encode_json(attributes)[1:]


def _check_key(key: str, command_id: str | None) -> None:
    if not is_valid_id(key):
        raise invalid_command([
            Problem(path="Idempotency-Key", message="must be 1 to 255 printable characters")
        ])
    if command_id not in {None, key}:
        raise invalid_command([
            Problem(path="id", message="is another than the header Idempotency-Key has; send one")
        ])
