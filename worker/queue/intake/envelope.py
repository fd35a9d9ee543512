"""Celery's envelope around a command: the message of a `trainmaster.submit` task."""

from __future__ import annotations

import codecs
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import jiter

from schemas.events import ErrorCode, Problem
from schemas.parsing import InvalidCommandError
from worker.queue.intake.celery_body import (
    MOST_MESSAGE_BYTES,
    BodyError,
    decoded_body,
    of_python,
    plain,
)
from worker.trace_context import TRACEPARENT, carried

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SUBMIT_TASK: Final = "trainmaster.submit"

_FORMATS: Final = {
    "application/x-python-serialize": "pickle, which is never read",
    "application/x-yaml": "YAML",
    "application/x-msgpack": "msgpack",
}
# What a signature may carry besides, by Celery's name for it in a message and in its calls.
_LOST: Final = {
    "callbacks": "link",
    "errbacks": "link_error",
    "chain": "chain",
    "chord": "chord",
}
_ARGUMENTS: Final = frozenset({"args", "kwargs"})


def unwrap(message: bytes) -> bytes:
    """Returns the text of the command in a message.

    A command without an id gets that of its task: however often the message comes, it is one.

    Source: Celery's message protocols 2 and 1, kombu's envelope for Redis.

    Raises:
        InvalidCommandError: the message holds no submission in JSON.
    """
    headers, properties, body = _opened(message)
    command = _command(headers, body)
    _refuse_what_is_lost(headers, body)
    return command_text(_with_options(command, headers, properties))


def partial_submission(message: bytes) -> bytes:
    """Returns the command in a message that is refused, so that its sender learns of it.

    Empty where none can be read; raises nothing.
    """
    try:
        headers, _, body = _opened(message)
        return command_text(_command(headers, body))
    except InvalidCommandError:
        return b""


def _opened(message: bytes) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Returns headers, properties and body of a submission.

    Raises:
        InvalidCommandError: it is none.
    """
    if len(message) > MOST_MESSAGE_BYTES:
        # Before it is read: each step of that is a copy.
        raise InvalidCommandError(
            ErrorCode.TOO_LARGE,
            f"a Celery message has at most {MOST_MESSAGE_BYTES} bytes, this has {len(message)}",
        )
    envelope = _read(message, "the envelope")
    headers = _plain_mapping(envelope, "headers")
    properties = _mapping(envelope, "properties")
    if (kind := envelope.get("content-type")) != "application/json":
        called = _FORMATS.get(kind) if isinstance(kind, str) else None
        told = f", not {called}: set task_serializer to json" if called else ""
        raise _invalid("content-type", f"must be application/json{told}")
    body = _read(_body(envelope, properties, headers.get("compression")), "the body")
    if "task" not in headers and isinstance(body, dict):
        # Protocol 1 has everything in its body.
        said = {name: plain(value) for name, value in body.items() if name not in _ARGUMENTS}
        headers = {**carried(headers), **said}
        body = [body.get("args") or [], body.get("kwargs") or {}, body]
    if headers.get("task") != SUBMIT_TASK:
        raise _invalid("headers.task", f"must be {SUBMIT_TASK}")
    return headers, properties, body


def _command(headers: dict[str, Any], body: Any) -> dict[str, Any]:
    command = _argument(body)
    if command.get("id") is None:
        command = {**command, "id": str(headers.get("id") or "")}
    return command


def _mapping(envelope: dict[str, Any], name: str) -> dict[str, Any]:
    found = envelope.get(name)
    return found if isinstance(found, dict) else {}


def _plain_mapping(envelope: dict[str, Any], name: str) -> dict[str, Any]:
    # A task's id may be a UUID of Python's, as an argument may.
    return {name: plain(value) for name, value in _mapping(envelope, name).items()}


def _refuse_what_is_lost(headers: dict[str, Any], body: Any) -> None:
    """Refuses what Celery would do after or during the task, for the task ends at once."""
    around = body[2] if isinstance(body, list) and len(body) > 2 else None
    lost = around if isinstance(around, dict) else {}
    for name, said in _LOST.items():
        if lost.get(name):
            raise _invalid(
                said,
                "can't be kept: the task ends once the command is taken; send what follows when "
                "the command's event succeeded or failed comes",
            )
    limits = headers.get("timelimit")
    if any(limits) if isinstance(limits, list) else limits:
        raise _invalid("time_limit", "can't be kept: give the command a deadline, or expires")


def _with_options(
    command: dict[str, Any], headers: dict[str, Any], properties: dict[str, Any]
) -> dict[str, Any]:
    """Returns a command that keeps what its task was sent with."""
    found = dict(command)
    for option, name, choose in (("eta", "notbefore", max), ("expires", "deadline", min)):
        if (said := headers.get(option)) is None:
            continue
        moment = _moment(said)
        if moment is None:
            raise _invalid(option, "must be an ISO 8601 time")
        own = _moment(found.get(name))
        if found.get(name) is None or own is not None:
            found[name] = (moment if own is None else choose(moment, own)).isoformat()
    if found.get(TRACEPARENT) is None:
        # As OpenTelemetry's instrumentation of Celery sends it.
        found |= carried(headers)
    for name, value in (
        ("celeryretries", headers.get("retries")),
        ("celerypriority", properties.get("priority")),
    ):
        if isinstance(value, int) and value and found.get(name) is None:
            found[name] = value
    return found


def _moment(said: object) -> datetime | None:
    """Returns a time; one without an offset is UTC, as Celery sends it."""
    if not isinstance(said, str):
        return None
    try:
        moment = datetime.fromisoformat(said.upper())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def command_text(command: Any) -> bytes:
    """Returns a command that someone has parsed as text again, so that the intake can validate it.

    Not by orjson: it refuses integers beyond 64 bits and lone surrogates, and what can't be
    written can't be rejected. Without blanks and escapes, which would count against its size.
    """
    text = json.dumps(command, ensure_ascii=False, separators=(",", ":"), default=of_python)
    return text.encode("utf-8", "surrogatepass")


def _body(envelope: dict[str, Any], properties: dict[str, Any], compression: object) -> bytes:
    body = envelope.get("body")
    if not isinstance(body, str):
        raise _invalid("body", "must be a string")
    try:
        return decoded_body(body, properties.get("body_encoding"), compression)
    except BodyError as exc:
        raise _invalid("body", str(exc)) from exc


def _argument(body: Any) -> dict[str, Any]:
    match body:
        case [list(args)]:
            return submitted(plain(args), {})
        case [list(args), dict(kwargs), *_]:
            return submitted(plain(args), {name: plain(value) for name, value in kwargs.items()})
        case _:
            raise _invalid("args", "must be one object: the command")


def submitted(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the command that a task was called with; keywords besides it are its attributes.

    Raises:
        InvalidCommandError: there is none, or an attribute is said twice.
    """
    attributes = dict(kwargs)
    match [*args], attributes:
        case [dict(command)], _:
            pass
        case [], {"command": dict(command)}:
            del attributes["command"]
        case [], {"type": _}:
            return attributes
        case _:
            raise _invalid("args", "must be one object: the command")
    for name, value in attributes.items():
        # Null says nothing, on either side.
        own = command.get(name)
        if value is not None and own is not None and own != value:
            raise _invalid(f"kwargs.{name}", "says something else than the command")
    said = {name: value for name, value in command.items() if value is not None}
    return {**command, **attributes, **said}


def _read(text: bytes, what: str) -> Any:
    try:
        found = jiter.from_json(
            text.removeprefix(codecs.BOM_UTF8), catch_duplicate_keys=True, allow_inf_nan=False
        )
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
