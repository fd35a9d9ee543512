"""The claim check: a command whose data lie elsewhere, and the command that it becomes.

A command without `data` names them by its attribute `dataref`, as CloudEvents' extension of that
name has it. Whoever accepts one knows all but its data; whoever carries it out fetches them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import jiter
import orjson
from pydantic import Field, TypeAdapter, ValidationError

from schemas.attributes import Attributes, Text
from schemas.commands import Command
from schemas.events import ErrorCode, Problem
from schemas.json_text import has_too_many_containers, most_values
from schemas.parsing import (
    TOO_MANY_CONTAINERS,
    InvalidCommandError,
    ParsedCommand,
    check_extensions,
    fingerprint,
    invalid_command,
    parse_command,
)
from schemas.validation_messages import read_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DATAREF: Final = "dataref"

# Of 32 MiB of short texts the values took a gigabyte. Labels have 39 bytes each.
_MOST_SMALL_VALUES: Final = 500_000
_SMALL_BYTES: Final = 32


class ClaimCheck(Attributes):
    """A command whose data lie elsewhere."""

    type: str
    data: Literal[None] = None
    dataref: Text = Field(
        description="Where the data lie that are not in `data`, as a JSON object: a path or a URL."
    )


@dataclass(frozen=True, slots=True)
class ParsedClaimCheck:
    """A valid command without its data, and the fingerprint of its type and `dataref`."""

    command: ClaimCheck
    fingerprint: bytes


_ADAPTER: Final = TypeAdapter(ClaimCheck)
_reread = cast("Callable[[bytes], Command]", TypeAdapter[Command](Command).validator.validate_json)


def parse_message(raw: bytes, *, accepted: bool = False) -> ParsedCommand | ParsedClaimCheck:
    """Returns the command that `raw` holds, with its data or with where they lie.

    Data that are there go before a `dataref`.

    Args:
        raw: the message.
        accepted: whether it was accepted before, as `parse_command` has it.

    Raises:
        InvalidCommandError: It holds neither; never anything else.
    """
    try:
        return parse_command(raw, accepted=accepted)
    except InvalidCommandError as error:
        # Only what is no whole command is looked at twice: the hot path pays nothing.
        if error.code is not ErrorCode.INVALID_COMMAND or error.command_type is None:
            raise
        if not accepted and has_too_many_containers(raw):
            raise
        root = jiter.from_json(raw, catch_duplicate_keys=True, allow_inf_nan=False)
        if root.get("data") is not None or root.get(DATAREF) is None:
            raise
        return _parse_claim_check(raw, root, error, accepted=accepted)


def reread_message(raw: bytes) -> Command | ClaimCheck:
    """Returns the command of a message that was accepted before.

    Half as dear as `parse_message`, for what that looked for besides is known of this one.

    Raises:
        InvalidCommandError: Another version accepted what this one can't read.
    """
    try:
        return _reread(raw)
    except ValidationError:
        return parse_message(raw, accepted=True).command


def _parse_claim_check(
    raw: bytes, root: Mapping[str, Any], error: InvalidCommandError, *, accepted: bool
) -> ParsedClaimCheck:
    command_type = cast("str", error.command_type)
    if not accepted:
        check_extensions(root, command_type)
    try:
        command = _ADAPTER.validate_json(raw)
    except ValidationError as exc:
        raise invalid_command(
            read_problems(exc, ClaimCheck, root),
            command_type=command_type,
            command_id=error.command_id,
        ) from None
    return ParsedClaimCheck(command, fingerprint(command_type, {DATAREF: command.dataref}))


def completed(text: bytes, data: bytes) -> Command:
    """Returns a command with the data that its `dataref` named.

    Args:
        text: of the command, as it was accepted.
        data: what lies at its `dataref`.

    Raises:
        InvalidCommandError: They are not JSON, no object, or none that the command takes.
    """
    # As some editors begin a file in UTF-8.
    data = data.removeprefix(b"\xef\xbb\xbf")
    if has_too_many_containers(data):
        raise _unusable(TOO_MANY_CONTAINERS)
    values = most_values(data)
    if values > _MOST_SMALL_VALUES and values * _SMALL_BYTES > len(data):
        raise _unusable(f"holds tiny values, and more of them than {_MOST_SMALL_VALUES:,}")
    try:
        found = jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as exc:
        raise _unusable(f"is not JSON: {exc}") from None
    if not isinstance(found, dict):
        raise _unusable("is no JSON object")
    # It takes several times its text, and is read once more.
    del found
    attributes = orjson.loads(text)
    attributes.pop("data", None)
    # Spliced, not parsed and written: numbers and the like stay as they were sent.
    whole = orjson.dumps(attributes)[:-1] + b',"data":' + data + b"}"
    try:
        return parse_command(whole, most_bytes=len(whole), accepted=True).command
    except InvalidCommandError as exc:
        raise InvalidCommandError(
            exc.code, f"is wrong: {exc.message}", problems=exc.problems
        ) from None


def _unusable(message: str) -> InvalidCommandError:
    return InvalidCommandError(
        ErrorCode.INVALID_INPUT, message, problems=[Problem(path=DATAREF, message=message)]
    )
