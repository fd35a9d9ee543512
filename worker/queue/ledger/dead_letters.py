"""Dead letters: what failed or was rejected, with its original text, until replayed or purged."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError

from schemas.attributes import Timestamp
from schemas.enums import Priority
from schemas.json_text import decode_json, encode_json
from worker.queue.ledger.keys import CommandStream, Keys
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.stored_values import is_error, moment_of
from worker.queue.ledger.streams import (
    before_entry,
    entries_between,
    is_entry_id,
    newest_entries,
    since_time,
)

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from redis.asyncio import Redis

    from worker.queue.ledger.streams import StreamEntry

FIELD = b"dead_letter"
_PAGE = 200
_TIMESTAMP: Final[TypeAdapter[datetime]] = TypeAdapter(Timestamp)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter.

    Attributes:
        key: its stream entry id, which names it.
        reason: the error's code.
        text: the command or message as it came.
        history: the errors of earlier attempts, oldest first.
        lane: `bulk` where the command was a bulk one, be it by its stream alone.
    """

    key: str
    command_id: str
    type: str
    reason: str
    error: dict[str, Any]
    text: bytes
    attempts: int
    history: list[dict[str, Any]]
    at_ms: int
    lane: str = Priority.INTERACTIVE


def dead_letter_json(  # noqa: PLR0913 - the fields of a dead letter
    *,
    command_id: str,
    command_type: str,
    error: dict[str, Any],
    text: bytes,
    at_ms: int,
    attempts: int,
    history: list[dict[str, Any]],
    lane: Priority = Priority.INTERACTIVE,
) -> bytes:
    """Returns a dead letter's JSON; a text that is not UTF-8 is kept whole in `text_base64`."""
    letter: dict[str, Any] = {
        "id": command_id,
        "type": command_type,
        "error": error,
        "attempts": attempts,
        "history": history,
        "at_ms": at_ms,
    }
    if lane is not Priority.INTERACTIVE:
        letter["lane"] = lane
    try:
        letter["text"] = text.decode("utf-8")
    except UnicodeDecodeError:
        letter["text_base64"] = base64.b64encode(text).decode("ascii")
    return encode_json(letter)


class DeadLetters:
    """The dead letters of a namespace."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        # A transaction would go on with the removal where the stream refuses the command.
        self._replay = load_script(redis, "replay")

    async def list(
        self,
        *,
        reason: str | None = None,
        command_type: str | None = None,
        since_ms: int | None = None,
        before: int | str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> AsyncIterator[DeadLetter]:
        """Yields dead letters, oldest first unless told otherwise.

        Args:
            reason: only those with this error code.
            command_type: only those of this command type.
            since_ms: only those that died at or after this time, in ms since the epoch.
            before: only those that died before this time, in ms since the epoch, or before the
                letter with this key.
            limit: at most so many.
            newest_first: yields the newest first.
        """
        found = 0
        start = since_time(since_ms)
        async for page in self._pages(start, _last(before), newest_first=newest_first):
            for entry_id, fields in page:
                letter = read_letter(entry_id, fields)
                if letter is None:
                    continue
                if reason is not None and letter.reason != reason:
                    continue
                if command_type is not None and letter.type != command_type:
                    continue
                if limit is not None and found >= limit:
                    return
                found += 1
                yield letter

    async def _pages(
        self, start: str, end: str, *, newest_first: bool
    ) -> AsyncIterator[builtins.list[StreamEntry]]:
        stream = self._keys.dead_letters
        if newest_first:
            newest = newest_entries(self._redis, stream, first=start, last=end, count=_PAGE)
            async for page in newest:
                yield page
            return
        while page := await entries_between(self._redis, stream, start, end, _PAGE):
            yield page
            start = f"({page[-1][0].decode()}"

    async def get(self, key: str) -> DeadLetter | None:
        """Returns a dead letter by its key, else the newest one of a command's id."""
        if is_letter_key(key):
            page = await entries_between(self._redis, self._keys.dead_letters, key, key)
            if page:
                return read_letter(*page[0])
        async for letter in self.list(newest_first=True):
            if letter.command_id == key:
                return letter
        return None

    async def select(
        self,
        keys: Sequence[str],
        *,
        reason: str | None = None,
        command_type: str | None = None,
        before_ms: int | None = None,
    ) -> builtins.list[tuple[str, DeadLetter | None]]:
        """Returns letters by key, with None where there is none, or else all that fit.

        Args:
            keys: what is asked for by key; then nothing else counts.
            reason: only those with this error code.
            command_type: only those of this command type.
            before_ms: only those that died before this time, in ms since the epoch.
        """
        if keys:
            return [(key, await self.get(key)) for key in keys]
        letters = self.list(reason=reason, command_type=command_type)
        return [
            (letter.key, letter)
            async for letter in letters
            if before_ms is None or letter.at_ms < before_ms
        ]

    async def replay(
        self,
        letter: DeadLetter,
        data: dict[str, Any] | None = None,
        *,
        command_id: str | None = None,
    ) -> str:
        """Sends a dead letter's command again as a new command and removes the letter.

        The new command gets an id of its own, for the old one has ended; `causationid` names
        the old one. Both happen together, or neither does.

        Args:
            letter: what to send.
            data: replaces the command's data.
            command_id: of the new command; None makes one of the old id and the letter's key.

        Returns:
            The new command's id.

        Raises:
            ValueError: the text is not a JSON object, so it can't be replayed, edited or not.
        """
        command = replayed(letter, await self.now(), data, command_id=command_id)
        stream = self._keys.stream(CommandStream.of(command.get("priority")))
        keys = [stream, self._keys.dead_letters]
        args: builtins.list[str | bytes | int] = [letter.key, orjson.dumps(command)]
        await self._replay(keys=keys, args=args)
        return str(command["id"])

    async def now(self) -> float:
        """Returns Redis' time, in seconds since 1970: workers judge deadlines by it."""
        seconds, microseconds = await self._redis.time()
        return int(seconds) + int(microseconds) / 1_000_000

    async def purge(self, keys: Sequence[str]) -> int:
        """Deletes dead letters by key; returns how many there were."""
        if not keys:
            return 0
        return int(await self._redis.xdel(self._keys.dead_letters, *keys))


def replayed(
    letter: DeadLetter,
    now: float,
    data: dict[str, Any] | None = None,
    *,
    command_id: str | None = None,
) -> dict[str, Any]:
    """Returns the command that a replay of the letter sends at a time, in seconds since 1970.

    A deadline that has passed is left out, or the command would fail at once; one to come holds.

    Raises:
        ValueError: the letter's text is not a JSON object.
    """
    command = decode_json(letter.text)
    if not isinstance(command, dict):
        raise ValueError("the dead letter's text is not a JSON object")  # noqa: TRY004
    if data is not None:
        command["data"] = data
    if command.get("priority") is None and letter.lane == Priority.BULK:
        command["priority"] = Priority.BULK
    command["causationid"] = letter.command_id
    command["id"] = command_id or f"{letter.command_id[:200]}.replay-{letter.key}"
    if _has_passed(command.get("deadline"), now):
        del command["deadline"]
    return command


def _has_passed(deadline: object, now: float) -> bool:
    """Returns whether a deadline has passed; one that is none is left to whoever judges it."""
    try:
        moment = _TIMESTAMP.validate_python(deadline)
    except ValidationError:
        return False
    return moment.timestamp() <= now


def _last(before: int | str | None) -> str:
    """Returns the end of a range of entries that ends before a time or a key."""
    match before:
        case None:
            return "+"
        case str():
            return before_entry(before)
        case int() if before > 0:
            return str(before - 1)
        case _:
            # Nothing is there.
            return "0-0"


def is_letter_key(key: str) -> bool:
    """Tells whether a text can be a letter's key, which is the id of an entry."""
    return is_entry_id(key)


def read_letter(entry_id: bytes, fields: dict[bytes, bytes]) -> DeadLetter | None:
    """Returns the letter in an entry; None where others put something else there."""
    try:
        letter = orjson.loads(fields[FIELD])
        text, error, lane = letter.get("text"), letter["error"], letter.get("lane")
        command_id, command_type = letter["id"], letter["type"]
        if not is_error(error) or not isinstance(command_id, str):
            return None
        if not isinstance(command_type, str) or not isinstance(lane, str | None):
            return None
        return DeadLetter(
            key=entry_id.decode(),
            command_id=command_id,
            type=command_type,
            reason=error["code"],
            error=error,
            text=base64.b64decode(letter["text_base64"]) if text is None else text.encode("utf-8"),
            attempts=int(letter["attempts"]),
            # An odd error of an earlier attempt hides no letter.
            history=list(filter(is_error, letter.get("history") or [])),
            at_ms=moment_of(letter["at_ms"]),
            lane=Priority.INTERACTIVE if lane is None else lane,
        )
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return None
