"""What a replay of a dead letter sends: judged first, so that nothing is rejected in a circle."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import jiter
import orjson

from schemas.enums import Priority
from schemas.events import ErrorBody, ErrorCode, Problem
from schemas.parsing import InvalidCommandError
from schemas.referral import parse_message
from worker.cli.arguments import ArgumentError, merge, read_data
from worker.queue.ledger.dead_letters import DeadLetter, replayed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Commands that ended so may have been carried out: sent again, they may be carried out twice.
PERHAPS_DONE: Final = frozenset({ErrorCode.OUTCOME_UNKNOWN, ErrorCode.DATA_LOSS})


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
    """A letter with its text as edited, and the command that is sent for it."""

    letter: DeadLetter
    command: dict[str, Any]

    @property
    def deadline_dropped(self) -> bool:
        """Whether the letter's deadline had passed, so that the command has none."""
        return "deadline" not in self.command and "deadline" in orjson.loads(self.letter.text)


class ReplayError(Exception):
    """A letter can't be replayed as it stands; `error` is like that of an event."""

    def __init__(self, key: str, body: ErrorBody) -> None:
        super().__init__(body.message)
        self.key = key
        self.error = body.model_dump(mode="json", exclude_none=True)


def prepare(
    key: str,
    letter: DeadLetter | None,
    edit: Edit,
    now: float,
    *,
    by_reason: str | None,
    by_key: bool,
) -> Replay:
    """Returns what is to be sent for a letter.

    Args:
        key: what the letter was asked for by.
        letter: None where there is none.
        edit: changes to its command.
        now: Redis' time, in seconds since 1970.
        by_reason: the reason that was asked for, if one was.
        by_key: whether this very letter was asked for.

    Raises:
        ReplayError: there is no such letter, its command would be rejected, or it may have been
            carried out and nobody asked for just that.
    """
    if letter is None:
        raise _error(key, ErrorCode.NOT_FOUND, "no dead letter has this key or id")
    if letter.reason in PERHAPS_DONE and not by_key and by_reason != letter.reason:
        raise _error(
            letter.key,
            ErrorCode[letter.reason.upper()],
            "left out: it may have happened. Look at the API, then replay it by its key",
        )
    edited = _edited(letter, edit)
    command = replayed(edited, now)
    try:
        parse_message(orjson.dumps(command))
    except InvalidCommandError as exc:
        raise _error(
            letter.key, exc.code, f"it would be rejected: {exc.message}", exc.problems
        ) from exc
    return Replay(edited, command)


def _edited(letter: DeadLetter, edit: Edit) -> DeadLetter:
    try:
        command = jiter.from_json(letter.text, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as exc:
        raise _error(
            letter.key,
            ErrorCode.NOT_JSON,
            "its text is not JSON; mend it and submit it as a new command",
        ) from exc
    if not isinstance(command, dict):
        raise _error(letter.key, ErrorCode.INVALID_COMMAND, "its text is not an object")
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
            raise _error(letter.key, ErrorCode.INVALID_ARGUMENTS, str(exc)) from exc
        command["data"] = merge(known if isinstance(known, dict) else {}, changes)
    # Who changes the priority, be it to none, means that and not the lane that it had.
    lane = Priority.INTERACTIVE if "priority" in edit.attributes else letter.lane
    # orjson writes no integer of more than 64 bits, and the judge should see what there is.
    return replace(letter, text=json.dumps(command, ensure_ascii=False).encode(), lane=lane)


def _error(
    key: str, code: ErrorCode, message: str, problems: Sequence[Problem] = ()
) -> ReplayError:
    return ReplayError(key, ErrorBody(code=code, message=message, problems=list(problems) or None))
