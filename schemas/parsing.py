"""Raw bytes to a command, or to problems that people can read; the hot path of intake."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

import jiter
import orjson
from pydantic import TypeAdapter, ValidationError

from schemas.attributes import MAX_EXTENSIONS, Attributes, is_valid_id
from schemas.commands import COMMAND_CLASSES, Command
from schemas.events import ErrorCode, Problem
from schemas.first_problems import THOROUGH_BYTES, first_problems
from schemas.json_text import MOST_CONTAINERS, has_too_many_containers
from schemas.suggestions import unknown
from schemas.validation_messages import read_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_COMMAND_BYTES = 1_048_576

# 128 bits: enough to tell commands apart, half the memory of a whole SHA-256 in each row.
FINGERPRINT_BYTES = 16

_SHOWN_CHARACTERS = 80

# Of a large message: no command has as many, and each that is unknown would be a problem.
_MOST_PARAMETERS = 1_000

TOO_MANY_CONTAINERS = f"holds more than {MOST_CONTAINERS:,} lists and objects"

_NO_EXTENSIONS = frozenset(Attributes.model_fields) | {"type", "data", "dataref"}

_VALIDATORS: dict[str, Callable[[bytes], Command]] = {
    command_type: cast(
        "Callable[[bytes], Command]", TypeAdapter(command_class).validator.validate_json
    )
    for command_type, command_class in COMMAND_CLASSES.items()
}


class InvalidCommandError(Exception):
    """A message is not a command; tells every problem and what could be read nevertheless."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        problems: Sequence[Problem] = (),
        command_type: str | None = None,
        command_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.problems = tuple(problems)
        self.command_type = command_type
        self.command_id = command_id


@dataclass(frozen=True, slots=True)
class ParsedCommand:
    """A valid command and the fingerprint that tells whether another one is the same.

    Attributes:
        command: The command.
        fingerprint: 16 bytes, equal for equal type and data as sent, whatever the order of keys.
    """

    command: Command
    fingerprint: bytes


def parse_command(
    raw: bytes, *, most_bytes: int = MAX_COMMAND_BYTES, accepted: bool = False
) -> ParsedCommand:
    """Returns the command that `raw` holds, its data with it.

    Args:
        raw: the message.
        most_bytes: that it may have.
        accepted: whether a worker, maybe of an older version, took it before: it had no bound of
            extensions.

    Raises:
        InvalidCommandError: It holds none; never anything else.
    """
    root = _read_json(raw, most_bytes)
    if not isinstance(root, dict):
        raise invalid_command([Problem(path="", message="must be an object")])
    command_type = _read_type(root)
    if not accepted:
        check_extensions(root, command_type)
    if len(raw) > THOROUGH_BYTES:
        _check_parameters(root, command_type)
    if not accepted and has_too_many_containers(raw):
        raise _refusal(root, command_type, "data", TOO_MANY_CONTAINERS)
    try:
        command = _validate(command_type, raw, root)
    except ValidationError as exc:
        command_id = root.get("id")
        if "data_base64" in root and "data" not in root:
            told = "is not taken: a command's data are JSON, so send them as the object data"
            raise _refusal(root, command_type, "data_base64", told) from None
        raise invalid_command(
            read_problems(exc, COMMAND_CLASSES[command_type], root),
            command_type=command_type,
            command_id=command_id if is_valid_id(command_id) else None,
        ) from None
    return ParsedCommand(command, fingerprint(command_type, root["data"]))


def check_extensions(root: Mapping[str, object], command_type: str) -> None:
    """Refuses a message with too many extensions, each of which every event would repeat.

    Raises:
        InvalidCommandError: It has too many.
    """
    if len(root) <= MAX_EXTENSIONS:
        return
    extensions = root.keys() - _NO_EXTENSIONS
    count = sum(root[name] is not None for name in extensions)
    if count > MAX_EXTENSIONS:
        message = f"has {count} extension attributes, at most {MAX_EXTENSIONS} are taken"
        raise _refusal(root, command_type, "", message)


def _check_parameters(root: Mapping[str, object], command_type: str) -> None:
    data = root.get("data")
    if not isinstance(data, dict) or len(data) <= _MOST_PARAMETERS:
        return
    message = f"has {len(data)} parameters, and no command takes more than a few"
    raise _refusal(root, command_type, "data", message)


def _refusal(
    root: Mapping[str, object], command_type: str, path: str, message: str
) -> InvalidCommandError:
    command_id = root.get("id")
    return invalid_command(
        [Problem(path=path, message=message)],
        command_type=command_type,
        command_id=command_id if is_valid_id(command_id) else None,
    )


def _validate(command_type: str, raw: bytes, root: dict[str, object]) -> Command:
    """Returns the command; a parameter that is null is the same as one that is left out.

    What takes null for absent by itself is done at once; only what is refused is looked at again.
    """
    data = root.get("data")
    validate = _VALIDATORS[command_type]
    if len(raw) > THOROUGH_BYTES:
        validate = _quick_validator(command_type)
    try:
        return validate(raw)
    except ValidationError:
        if not isinstance(data, dict) or None not in data.values():
            raise
        said = {name: value for name, value in data.items() if value is not None}
        return validate(json.dumps({**root, "data": said}).encode())


@cache
def _quick_validator(command_type: str) -> Callable[[bytes], Command]:
    return cast(
        "Callable[[bytes], Command]", first_problems(TypeAdapter(COMMAND_CLASSES[command_type]))
    )


def _read_json(raw: bytes, most_bytes: int) -> object:
    if len(raw) > most_bytes:
        raise InvalidCommandError(
            ErrorCode.TOO_LARGE,
            f"a command has at most {most_bytes} bytes, this has {len(raw)}; larger data may lie "
            "in a file that its dataref names",
        )
    try:
        return jiter.from_json(raw, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as exc:
        raise InvalidCommandError(
            ErrorCode.NOT_JSON,
            "the message is not JSON",
            problems=[Problem(path="", message=str(exc)[:_SHOWN_CHARACTERS])],
        ) from None


def _read_type(root: dict[str, object]) -> str:
    named = root.get("type")
    if isinstance(named, str) and named in COMMAND_CLASSES:
        return named
    command_id = root.get("id")
    known_id = command_id if is_valid_id(command_id) else None
    if isinstance(named, str):
        message = unknown("command type", named, COMMAND_CLASSES)
        if (known := f"Known: {', '.join(COMMAND_CLASSES)}") not in message:
            message = f"{message} {known}"
        raise InvalidCommandError(
            ErrorCode.INVALID_COMMAND,
            message,
            problems=[Problem(path="type", message=message)],
            command_id=cast("str | None", known_id),
        )
    need = "must be a string" if "type" in root else "is required"
    message = f"{need}; one of {', '.join(COMMAND_CLASSES)}"
    raise invalid_command([Problem(path="type", message=message)], command_id=known_id)


def invalid_command(
    problems: list[Problem],
    *,
    command_type: str | None = None,
    command_id: object = None,
) -> InvalidCommandError:
    """Returns the error of a message that is JSON and no command; the first problem leads it."""
    first = problems[0]
    where = f"{first.path} {first.message}" if first.path else f"a command {first.message}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidCommandError(
        ErrorCode.INVALID_COMMAND,
        f"{where}{more}",
        problems=problems,
        command_type=command_type,
        command_id=command_id if isinstance(command_id, str) else None,
    )


def fingerprint(command_type: str, data: object) -> bytes:
    """Returns 16 bytes that are equal for equal type and data, whatever the order of keys."""
    try:
        canonical = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError):
        # orjson knows integers of 64 bits only; a valid command holds none, but this one decides
        # nothing and must not fail.
        canonical = json.dumps(data, sort_keys=True).encode()
    digest = hashlib.sha256(command_type.encode())
    digest.update(b"\n")
    digest.update(canonical)
    return digest.digest()[:FINGERPRINT_BYTES]
