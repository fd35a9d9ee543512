"""Commands that came over HTTP are validated here and added to their streams, each id once."""

from __future__ import annotations

import asyncio
import codecs
import time
import uuid
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, cast

from schemas.attributes import is_valid_id
from schemas.claim_check import parse_message
from schemas.enums import Priority
from schemas.events import Problem
from schemas.json_text import decode_json, encode_json
from schemas.parsing import FINGERPRINT_BYTES, invalid_command
from worker.gateway.keys import submitted_key
from worker.queue.ledger.connection import PASSING_TROUBLE
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.redis_retry import next_pause
from worker.queue.ledger.refusals import is_brief, refusal_of, word_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from schemas.claim_check import ClaimCheck
    from schemas.commands import Command
    from worker.queue.ledger.keys import Keys

# A request waits so long for a Redis that fails over, and is then told to come again.
PATIENCE_SECONDS: Final = 5.0
# Until a worker has read a command, and its row tells of it, this does: that there is such a
# command, and that its id was used otherwise. Of many at a time only ids of the sender's own.
REMEMBERED_SECONDS: Final = 3600
MADE_REMEMBERED_SECONDS: Final = 600
PAGE: Final = 256
PAGE_BYTES: Final = 4 * 1024 * 1024


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


def prepare(raw: bytes, idempotency_key: str | None = None, *, is_alone: bool = True) -> Submission:
    """Returns what is submitted for a command as it came.

    Args:
        raw: the command.
        idempotency_key: its id, as the header of this name has it.
        is_alone: whether it is all of its request.

    Raises:
        InvalidCommandError: it is no command, or names another id than the header does.
    """
    raw = raw.removeprefix(codecs.BOM_UTF8)
    parsed = parse_message(raw)
    command = parsed.command
    if idempotency_key is not None:
        _check_key(idempotency_key, command.id)
        if command.id is None:
            raw = with_id(raw, idempotency_key)
    command_id = command.id or idempotency_key
    if command_id is not None:
        return Submission(command, command_id, raw, parsed.fingerprint)
    command_id = str(uuid.uuid4())
    text = with_id(raw, command_id)
    remembered = MADE_REMEMBERED_SECONDS if is_alone else 0
    return Submission(command, command_id, text, parsed.fingerprint, remembered)


def with_id(raw: bytes, command_id: str) -> bytes:
    """Returns a command that has no id, or a null one, with this id.

    Spliced where it can be, not parsed and written: all else stays as it was sent.
    """
    root = decode_json(raw)
    if "id" in root:
        return encode_json({**root, "id": command_id})
    return raw.rstrip()[:-1].rstrip() + b',"id":' + encode_json(command_id) + b"}"


def _check_key(key: str, command_id: str | None) -> None:
    if not is_valid_id(key):
        raise invalid_command([
            Problem(path="Idempotency-Key", message="must be 1 to 255 printable characters")
        ])
    if command_id not in {None, key}:
        raise invalid_command([
            Problem(path="id", message="is another than the header Idempotency-Key has; send one")
        ])


class Submitter:
    """Adds commands to the streams of a namespace."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._script = load_script(redis, "submit", "worker.gateway")
        # What a request has waited for in vain: others with the same refusal need not.
        self._lasting = ""

    async def submit(self, submissions: Sequence[Submission]) -> list[SubmitStatus]:
        """Adds commands, in order, once Redis has acknowledged each; says what became of them.

        Raises:
            redis.exceptions.RedisError: Redis was away for too long, or refuses them for a reason
                that does not pass by itself: it is not known which were added. The same again with
                the same ids adds none twice.
        """
        statuses: list[SubmitStatus] = []
        for page in _pages(submissions):
            statuses += await self._add(page)
        return statuses

    async def unread_type(self, command_id: str) -> str | None:
        """Returns the type of a command that was sent over HTTP lately; None where none was."""
        told = await self._redis.get(submitted_key(self._keys, command_id))
        return None if told is None else cast("bytes", told)[FINGERPRINT_BYTES:].decode()

    async def _add(self, page: Sequence[Submission]) -> list[SubmitStatus]:
        arguments: list[str | bytes | int] = [self._keys.prefix]
        for each in page:
            stream = 2 if each.is_bulk else 1
            arguments += [
                stream,
                each.command_id,
                each.fingerprint,
                each.command.type,
                each.remembered_seconds,
                each.text,
            ]
        streams = [self._keys.commands, self._keys.bulk_commands]
        until = time.monotonic() + PATIENCE_SECONDS
        pause = 0.0
        while True:
            try:
                # A reply that was lost leaves the ids known, and made ids are known to workers.
                found = await self._script(keys=streams, args=arguments)
            except PASSING_TROUBLE as exc:
                refused = "" if refusal_of(exc) is None else word_of(exc)
                if not is_brief(exc) or (refused and refused == self._lasting):
                    raise
                pause = next_pause(pause)
                if time.monotonic() + pause > until:
                    self._lasting = refused
                    raise
                await asyncio.sleep(pause)
            else:
                self._lasting = ""
                return [SubmitStatus(status) for status in found]


def _pages(submissions: Sequence[Submission]) -> list[list[Submission]]:
    pages: list[list[Submission]] = []
    size = 0
    for each in submissions:
        if not pages or len(pages[-1]) == PAGE or size + len(each.text) > PAGE_BYTES:
            pages.append([])
            size = 0
        pages[-1].append(each)
        size += len(each.text)
    return pages
