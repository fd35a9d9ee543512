"""Sending a dead letter's command again, as it was or changed: what is sent, or why nothing is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import jiter

from schemas.claim_check import parse_message
from schemas.enums import Priority
from schemas.events import ErrorBody, ErrorCode, Problem
from schemas.json_text import decode_json, encode_json
from schemas.parsing import InvalidCommandError
from worker.queue.ledger.dead_letters import DeadLetter, replayed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Commands that ended so may have been carried out: sent again, they may be carried out twice.
PERHAPS_DONE: Final = frozenset({ErrorCode.OUTCOME_UNKNOWN, ErrorCode.DATA_LOSS})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that is not sent, and why: mostly because the workers would reject it.

    Attributes:
        place: where it was read, or the key of its dead letter.
    """

    place: str
    error: ErrorBody


def refused(place: str, code: ErrorCode, message: str, problems: Sequence[Problem] = ()) -> Refusal:
    """Returns why a command is not sent."""
    return Refusal(place, ErrorBody(code=code, message=message, problems=list(problems) or None))


def _no_changes(_command_type: str) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Edit:
    """Changes to a command before it is sent again.

    Attributes:
        data: in place of the command's data.
        changes: of a command type, what is merged into the data; may raise `InvalidCommandError`.
        attributes: changes to the rest of the command; None removes one.
        command_id: of the new command; None makes one of the old id and the letter's key.
    """

    data: dict[str, Any] | None = None
    changes: Callable[[str], dict[str, Any]] = _no_changes
    attributes: Mapping[str, Any] = field(default_factory=dict)
    command_id: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """A dead letter with its text as edited, and the command that is sent for it."""

    letter: DeadLetter
    command: dict[str, Any]

    @property
    def deadline_dropped(self) -> bool:
        """Whether the letter's deadline had passed, so that the command has none."""
        return "deadline" not in self.command and "deadline" in decode_json(self.letter.text)


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
        return refused(key, ErrorCode.NOT_FOUND, "no dead letter has this key or id")
    if letter.reason in PERHAPS_DONE and not may_be_done:
        return refused(
            letter.key,
            ErrorCode[letter.reason.upper()],
            "left out: it may have happened. Look at the API, then replay it by its key",
        )
    try:
        edited = _edited(letter, edit)
    except InvalidCommandError as exc:
        return refused(letter.key, exc.code, exc.message)
    command = replayed(edited, now, command_id=edit.command_id)
    try:
        parse_message(encode_json(command))
    except InvalidCommandError as exc:
        return refused(letter.key, exc.code, f"it would be rejected: {exc.message}", exc.problems)
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
    changes = edit.changes(str(command.get("type")))
    if changes:
        known = command.get("data")
        command["data"] = merge(known if isinstance(known, dict) else {}, changes)
    # Who changes the priority, be it to none, means that and not the lane that it had.
    lane = Priority.INTERACTIVE if "priority" in edit.attributes else letter.lane
    # orjson writes no integer of more than 64 bits, and the parser should see what there is.
    return replace(letter, text=json.dumps(command, ensure_ascii=False).encode(), lane=lane)


def merge(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Returns `base` with what `more` has in place of it, objects inside each other included."""
    merged = dict(base)
    for key, value in more.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            value = merge(known, value)  # noqa: PLW2901 - the same value, completed
        merged[key] = value
    return merged
