"""Pydantic's findings as problems that people can read and place."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, cast, get_args

from schemas.enums import PredictTask
from schemas.events import Problem
from schemas.fields import data_classes
from schemas.predictions import PredictData

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

# An event must stay readable, and far below the limit of a message.
MAX_PROBLEMS = 50

_SHOWN_CHARACTERS = 80

_PREDICT_DATA: dict[str, type[BaseModel]] = {
    get_args(each.model_fields["task"].annotation)[0]: each for each in data_classes(PredictData)
}

_PLAIN_MESSAGES = {
    "missing": "is required",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
}


def read_problems(
    error: ValidationError, command_class: type[BaseModel], root: Mapping[str, object]
) -> list[Problem]:
    """Returns the problems of a message in the order of its fields, at most `MAX_PROBLEMS`.

    Args:
        error: What pydantic found.
        command_class: The command that it looked for.
        root: The message, for the task that tells which predict parameters were meant.
    """
    data_class = _data_class(command_class, root)
    details = error.errors(include_url=False, include_input=False)
    problems = [_read(detail, command_class, data_class) for detail in details[:MAX_PROBLEMS]]
    if len(details) > MAX_PROBLEMS:
        problems.append(Problem(path="", message=f"{len(details) - MAX_PROBLEMS} more problems"))
    return problems


def _data_class(
    command_class: type[BaseModel], root: Mapping[str, object]
) -> type[BaseModel] | None:
    annotation = command_class.model_fields["data"].annotation
    if isinstance(annotation, type):
        return cast("type[BaseModel]", annotation)
    data = root.get("data")
    task = data.get("task") if isinstance(data, dict) else None
    return _PREDICT_DATA.get(task) if isinstance(task, str) else None


def _read(
    detail: ErrorDetails,
    command_class: type[BaseModel],
    data_class: type[BaseModel] | None,
) -> Problem:
    loc = list(detail["loc"])
    if loc[:1] == ["data"] and len(loc) > 1 and data_class in _PREDICT_DATA.values():
        del loc[1]  # the branch of the union, which the sender never wrote
    of_key = loc[-1:] == ["[key]"]
    if of_key:
        loc.pop()
    kind = detail["type"]
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        loc.append("task")
    path = ".".join(str(part)[:_SHOWN_CHARACTERS] for part in loc)
    if kind == "extra_forbidden":
        return Problem(path=path, message=_unknown(str(loc[-1]), data_class))
    if len(loc) == 1 and loc[0] not in command_class.model_fields and kind.startswith("string_"):
        return Problem(
            path=path,
            message="is no attribute: names have 1 to 20 lowercase letters and digits",
        )
    message = _message(detail)
    return Problem(path=path, message=f"the key {message}" if of_key else message)


def _unknown(name: str, data_class: type[BaseModel] | None) -> str:
    known = list(data_class.model_fields) if data_class else []
    close = difflib.get_close_matches(name[:_SHOWN_CHARACTERS], known, n=1, cutoff=0.8)
    return f"is unknown; did you mean {close[0]}?" if close else "is unknown"


def _message(detail: ErrorDetails) -> str:
    kind = detail["type"]
    plain = _PLAIN_MESSAGES.get(kind)
    if plain is not None:
        return plain
    context = detail.get("ctx", {})
    write = _WRITERS.get(kind)
    if write is not None:
        return write(context)
    return detail["msg"].replace("Input should be", "must be", 1)


def _too_short(context: Mapping[str, object]) -> str:
    if context["min_length"] == 1:
        return "must not be empty"
    return f"must have at least {context['min_length']} items"


_TASKS = ", ".join(PredictTask)

_WRITERS: dict[str, Callable[[Mapping[str, object]], str]] = {
    "greater_than_equal": lambda context: f"must be at least {_number(context['ge'])}",
    "less_than_equal": lambda context: f"must be at most {_number(context['le'])}",
    "too_short": _too_short,
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": lambda context: f"must have at most {context['max_length']} characters",
    "string_pattern_mismatch": lambda context: f"must match {context['pattern']}",
    "enum": lambda context: f"must be {context['expected']}",
    "literal_error": lambda context: f"must be {context['expected']}",
    "union_tag_not_found": lambda _: f"is required; one of {_TASKS}",
    "union_tag_invalid": lambda _: f"must be one of {_TASKS}",
}


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
