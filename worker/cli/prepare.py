"""Commands before they are sent: from arguments, a file or a dead letter, and validated.

What the workers would reject is not sent, so that it is known here and at once.
"""

from __future__ import annotations

import codecs
import json
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

import jiter
import orjson

from schemas.claim_check import parse_message
from schemas.enums import Priority
from schemas.events import ErrorBody, ErrorCode, Problem
from schemas.parsing import InvalidCommandError
from trainmaster_client import Message
from trainmaster_client.names import CommandStream
from worker.cli.arguments import ArgumentError, merge, read_data
from worker.queue.ledger.dead_letters import DeadLetter, replayed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Commands that ended so may have been carried out: sent again, they may be carried out twice.
PERHAPS_DONE: Final = frozenset({ErrorCode.OUTCOME_UNKNOWN, ErrorCode.DATA_LOSS})


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


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that is not sent, and why: mostly because the workers would reject it.

    Attributes:
        place: where it was read, or the key of its dead letter.
    """

    place: str
    error: ErrorBody


@dataclass(frozen=True, slots=True)
class Edit:
    """Changes to a command before it is sent again.

    Attributes:
        data: in place of the command's data.
        pairs: `key=value` arguments that change the data.
        attributes: changes to the rest of the command; None removes one.
    """

    data: dict[str, Any] | None
    pairs: Sequence[str]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replay:
    """A dead letter with its text as edited, and the command that is sent for it."""

    letter: DeadLetter
    command: dict[str, Any]

    @property
    def deadline_dropped(self) -> bool:
        """Whether the letter's deadline had passed, so that the command has none."""
        return "deadline" not in self.command and "deadline" in orjson.loads(self.letter.text)


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
        _refused(
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
    return Prepared(message, parsed.type, source.place)


def prepare_replay(
    key: str, letter: DeadLetter | None, edit: Edit, now: float, *, may_be_done: bool
) -> Replay | Refusal:
    """Returns what to send for a dead letter.

    Args:
        key: what the letter was asked for by.
        letter: None if there is none.
        edit: changes to its command.
        now: Redis' time, in seconds since 1970.
        may_be_done: whether to send also what may have been carried out.
    """
    if letter is None:
        return _refused(key, ErrorCode.NOT_FOUND, "no dead letter has this key or id")
    if letter.reason in PERHAPS_DONE and not may_be_done:
        return _refused(
            letter.key,
            ErrorCode[letter.reason.upper()],
            "left out: it may have happened. Look at the API, then replay it by its key",
        )
    try:
        edited = _edited(letter, edit)
    except InvalidCommandError as exc:
        return _refused(letter.key, exc.code, exc.message)
    command = replayed(edited, now)
    try:
        parse_message(orjson.dumps(command))
    except InvalidCommandError as exc:
        return _refused(letter.key, exc.code, f"it would be rejected: {exc.message}", exc.problems)
    return Replay(edited, command)


def _edited(letter: DeadLetter, edit: Edit) -> DeadLetter:
    """Returns the letter with the changes in its text.

    Raises:
        InvalidCommandError: the text is not a JSON object, or the changes contradict each other.
    """
    try:
        command = jiter.from_json(letter.text, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as exc:
        raise InvalidCommandError(
            ErrorCode.NOT_JSON, "its text is not JSON; fix it and submit it as a new command"
        ) from exc
    if not isinstance(command, dict):
        raise InvalidCommandError(ErrorCode.INVALID_COMMAND, "its text is not an object")
    for name, value in edit.attributes.items():
        if value is None:
            command.pop(name, None)
        else:
            command[name] = value
    if edit.data is not None:
        command["data"] = edit.data
    if edit.pairs:
        known = command.get("data")
        try:
            changes = read_data(edit.pairs, str(command.get("type")))
        except ArgumentError as exc:
            raise InvalidCommandError(ErrorCode.INVALID_ARGUMENTS, str(exc)) from exc
        command["data"] = merge(known if isinstance(known, dict) else {}, changes)
    # Who changes the priority, be it to none, means that and not the lane that it had.
    lane = Priority.INTERACTIVE if "priority" in edit.attributes else letter.lane
    # orjson writes no integer of more than 64 bits, and the parser should see what there is.
    return replace(letter, text=json.dumps(command, ensure_ascii=False).encode(), lane=lane)


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
