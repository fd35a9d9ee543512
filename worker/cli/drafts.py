"""Commands as they will be sent: read from arguments or a file, and judged before they leave."""

from __future__ import annotations

import codecs
import json
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import jiter

from schemas.events import ErrorBody, ErrorCode, Problem
from schemas.parsing import InvalidCommandError
from schemas.referral import parse_message
from trainmaster_client import Message
from trainmaster_client.names import CommandStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Draft:
    """A command that the workers will accept.

    Attributes:
        place: where it was read, like `line 3`; empty for the only one.
    """

    message: Message
    type: str
    place: str

    @property
    def command_id(self) -> str:
        """The id that it was given, or got here."""
        return self.message.command_id


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that the workers would reject, and why."""

    place: str
    error: ErrorBody


@dataclass(frozen=True, slots=True)
class Source:
    """What was read as one command."""

    value: object
    place: str = ""


def read_sources(text: bytes) -> list[Source | Refusal]:
    """Returns what a file holds: one command, a JSON array of them, or one on each line."""
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


def draft(source: Source, attributes: Mapping[str, object]) -> Draft | Refusal:
    """Returns the command with the attributes added, or why it would be rejected.

    Without an id it gets one, so that it can be followed.
    """
    if not isinstance(source.value, dict):
        return _refused(source.place, ErrorCode.INVALID_COMMAND, "a command must be an object")
    command: dict[str, Any] = {**source.value, **attributes}
    if command.get("id") is None:
        command["id"] = str(uuid.uuid4())
    try:
        text = json.dumps(command, ensure_ascii=False, allow_nan=False).encode()
        parsed = parse_message(text).command
    except UnicodeEncodeError:
        return _refused(source.place, ErrorCode.NOT_JSON, "the text is not UTF-8")
    except InvalidCommandError as exc:
        return _refused(source.place, exc.code, exc.message, exc.problems)
    message = Message(cast("str", parsed.id), text, CommandStream.of(parsed.priority))
    return Draft(message, parsed.type, source.place)


def draft_all(
    sources: Iterable[Source | Refusal], attributes: Mapping[str, object]
) -> list[Draft | Refusal]:
    """Returns what `draft` makes of each; an id that stands twice is refused."""
    found = [each if isinstance(each, Refusal) else draft(each, attributes) for each in sources]
    uses = Counter(each.command_id for each in found if isinstance(each, Draft))
    return [
        _refused(
            each.place,
            ErrorCode.IDEMPOTENCY_CONFLICT,
            f"the id {each.command_id!r} stands {uses[each.command_id]} times in the input",
        )
        if isinstance(each, Draft) and uses[each.command_id] > 1
        else each
        for each in found
    ]


def _read_json(text: bytes, place: str) -> Source | Refusal:
    try:
        value = jiter.from_json(text, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as exc:
        problem = Problem(path="", message=str(exc))
        return _refused(place, ErrorCode.NOT_JSON, f"not JSON: {exc}", [problem])
    return Source(value, place)


def _refused(
    place: str, code: ErrorCode, message: str, problems: Sequence[Problem] = ()
) -> Refusal:
    return Refusal(place, ErrorBody(code=code, message=message, problems=list(problems) or None))
