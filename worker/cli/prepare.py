"""Commands before they are sent: from arguments or a file, and validated.

What the workers would reject is not sent, so that it is known here and at once.
"""

from __future__ import annotations

import codecs
import json
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import jiter

from schemas.claim_check import parse_message
from schemas.events import ErrorCode, Problem
from schemas.parsing import InvalidCommandError
from trainmaster_client import Message
from trainmaster_client.names import CommandStream
from worker.queue.ledger.replay import Refusal, refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Source:
    """What was read as one command.

    Attributes:
        place: where it was read, like `line 3`; empty for the only one.
    """

    value: object
    place: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A command that the workers will accept."""

    message: Message
    type: str
    place: str

    @property
    def command_id(self) -> str:
        """The id that it was given, or got here."""
        return self.message.command_id


def read_sources(text: bytes) -> list[Source | Refusal]:
    """Returns what a file holds: one command, a JSON array of them, or one per line."""
    text = text.removeprefix(codecs.BOM_UTF8)
    whole = _read_json(text, "")
    if isinstance(whole, Source):
        if isinstance(whole.value, list):
            return [Source(value, f"[{index}]") for index, value in enumerate(whole.value)]
        return [whole]
    # A mark stands before a line where marked files were put behind each other.
    lines = [
        (number, line.removeprefix(codecs.BOM_UTF8))
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    # Several lines of which the first is whole are meant as lines; else the text is one piece.
    if len(lines) < 2 or isinstance(_read_json(lines[0][1], ""), Refusal):
        return [whole]
    return [_read_json(line, f"line {number}") for number, line in lines]


def prepare(
    sources: Iterable[Source | Refusal], attributes: Mapping[str, object]
) -> list[Prepared | Refusal]:
    """Returns the commands with the attributes added; an id that comes twice is refused.

    A command without an id gets one, so that it can be followed.
    """
    found = [
        each if isinstance(each, Refusal) else _prepare_one(each, attributes) for each in sources
    ]
    uses = Counter(each.command_id for each in found if isinstance(each, Prepared))
    return [
        refused(
            each.place,
            ErrorCode.IDEMPOTENCY_CONFLICT,
            f"the input has the id {each.command_id!r} {uses[each.command_id]} times",
        )
        if isinstance(each, Prepared) and uses[each.command_id] > 1
        else each
        for each in found
    ]


def _prepare_one(source: Source, attributes: Mapping[str, object]) -> Prepared | Refusal:
    if not isinstance(source.value, dict):
        return refused(source.place, ErrorCode.INVALID_COMMAND, "a command must be an object")
    command: dict[str, Any] = {**source.value, **attributes}
    if command.get("id") is None:
        command["id"] = str(uuid.uuid4())
    try:
        text = json.dumps(command, ensure_ascii=False, allow_nan=False).encode()
        parsed = parse_message(text).command
    except UnicodeEncodeError:
        return refused(source.place, ErrorCode.NOT_JSON, "the text is not UTF-8")
    except InvalidCommandError as exc:
        return refused(source.place, exc.code, exc.message, exc.problems)
    message = Message(cast("str", parsed.id), text, CommandStream.of(parsed.priority))
    return Prepared(message, parsed.type, source.place)


def _read_json(text: bytes, place: str) -> Source | Refusal:
    try:
        value = jiter.from_json(text, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as exc:
        problem = Problem(path="", message=str(exc))
        return refused(place, ErrorCode.NOT_JSON, f"not JSON: {exc}", [problem])
    return Source(value, place)
