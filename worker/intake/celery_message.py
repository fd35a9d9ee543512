"""Celery's envelope around a command: the message of a `trainmaster.submit` task."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

import jiter

from schemas.events import ErrorCode, Problem
from schemas.parsing import InvalidCommandError

SUBMIT_TASK: Final = "trainmaster.submit"


def unwrap(message: bytes) -> bytes:
    """Returns the text of the command in a message.

    A command without an id gets that of its task: however often the message comes, it is one.

    Source: Celery's message protocol 2, kombu's envelope for Redis.

    Raises:
        InvalidCommandError: the message holds no submission in JSON.
    """
    envelope = _read(message, "the envelope")
    headers = envelope.get("headers")
    if not isinstance(headers, dict) or headers.get("task") != SUBMIT_TASK:
        raise _invalid("headers.task", f"must be {SUBMIT_TASK}")
    if envelope.get("content-type") != "application/json":
        raise _invalid("content-type", "must be application/json")
    command = _argument(_read(_body(envelope), "the body"))
    if "id" not in command:
        command = {**command, "id": str(headers.get("id", ""))}
    return command_text(command)


def command_text(command: Any) -> bytes:
    """Returns a command that someone has parsed as text again, so that the intake can judge it.

    Not by orjson: it refuses integers beyond 64 bits and lone surrogates, and what can't be
    written can't be rejected. Without blanks and escapes, which would count against its size.
    """
    text = json.dumps(command, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def _body(envelope: dict[str, Any]) -> bytes:
    body, properties = envelope.get("body"), envelope.get("properties")
    if not isinstance(body, str):
        raise _invalid("body", "must be a string")
    if not isinstance(properties, dict) or properties.get("body_encoding") != "base64":
        return body.encode()
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise _invalid("body", "must be base64") from exc


def _argument(body: Any) -> dict[str, Any]:
    match body:
        case [[dict(command)], *_] | [[], {"command": dict(command)}, *_]:
            return command
        case _:
            raise _invalid("args", "must be one object: the command")


def _read(text: bytes, what: str) -> Any:
    try:
        found = jiter.from_json(text, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as exc:
        raise InvalidCommandError(
            ErrorCode.NOT_JSON,
            "the Celery message is not JSON",
            problems=[Problem(path="", message=f"{what}: {str(exc)[:80]}")],
        ) from None
    if what == "the envelope" and not isinstance(found, dict):
        raise _invalid("", "must be an object")
    return found


def _invalid(path: str, message: str) -> InvalidCommandError:
    where = f"the Celery message's {path}" if path else "the Celery message"
    return InvalidCommandError(
        ErrorCode.INVALID_COMMAND,
        f"{where} {message}",
        problems=[Problem(path=path, message=message)],
    )
