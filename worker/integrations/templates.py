"""Templates of commands: tables of the file in which each string is an expression."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence  # noqa: TC003 - pydantic reads it
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Final

from schemas.attributes import EXTENSION_NAME_PATTERN
from schemas.claim_check import parse_message
from schemas.commands import COMMAND_CLASSES
from schemas.events import Problem
from schemas.fields import fields_of
from schemas.json_text import encode_json
from schemas.parsing import InvalidCommandError
from worker.integrations.expressions import Budget, Expression, ExpressionError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ROOTS: Final = ("body", "headers", "delivery", "item", "deliveries")
REACTION_DEPTH: Final = "reactiondepth"

# Of these a string is the text itself.
_LITERAL: Final = frozenset({"type", "priority"})
_OURS: Final = {
    "id": "ids are made from the delivery; remove it, or let the rule's key say what they are from",
    REACTION_DEPTH: "it counts reactions to reactions, and is written for you; remove it",
}
# What stands for a value that nobody knows yet, where the type's example has none.
_PLACEHOLDER: Final = "…"


class FieldError(Exception):
    """A field of a template can't be rendered."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


@dataclass(frozen=True, slots=True)
class CommandTemplate:
    """A template of commands, compiled.

    Attributes:
        type: of the commands.
        fields: what a command has besides, as the file has it, with compiled expressions.
        problems: why no command can come of it; empty in every rule that is in use.
    """

    type: str
    fields: Mapping[str, Any]
    problems: Sequence[Problem] = ()

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> CommandTemplate:
        """Returns a template with every problem that can be seen without a delivery."""
        problems: list[Problem] = []
        fields: dict[str, Any] = {}
        for name, value in table.items():
            if name in _OURS:
                problems.append(Problem(path=name, message=_OURS[name]))
            elif name in _LITERAL and isinstance(value, str):
                fields[name] = value
            else:
                fields[name] = _compiled(value, name, problems)
        named = table.get("type")
        template = cls(named if isinstance(named, str) else "", fields, problems)
        if not problems:
            problems += template.check()
        return template

    def names(self) -> frozenset[str]:
        """Returns the fields of the root that its expressions read."""
        found = (each.names for _, each in _expressions(self.fields, ""))
        return frozenset().union(*found)

    def render(self, root: Any, budget: Budget | None = None) -> dict[str, Any]:
        """Returns a command without an id, checked as if it came from a stream.

        Args:
            root: of the expressions.
            budget: shared with other commands of the same delivery.

        Raises:
            FieldError: an expression can't be evaluated, or what it gives is not valid there.
        """
        command = _without_null(_Rendering(root, budget or Budget()).value(self.fields, ""))
        if isinstance(command.get("data"), dict):
            command["data"] = _without_null(command["data"])
        try:
            parse_message(encode_json(command))
        except InvalidCommandError as exc:
            problems = exc.problems or (Problem(path="", message=exc.message),)
            first = problems[0]
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise FieldError(first.path, f"{first.message}{more}") from None
        return command

    def check(self) -> list[Problem]:
        """Returns what is wrong with every command that could come of it."""
        unknown = {
            path
            for path, each in _expressions(self.fields, "")
            if not each.is_literal and self._can_be(path)
        }
        found: dict[tuple[str, str], Problem] | None = None
        for command in self._variants(unknown):
            problems = {
                (each.path, each.message): each
                for each in _problems_of(command)
                if not any(_lies_in(each.path, path) for path in unknown)
            }
            found = (
                problems
                if found is None
                else {key: each for key, each in found.items() if key in problems}
            )
        return list((found or {}).values())

    def _can_be(self, path: str) -> bool:
        """Tells whether a command of this type has such a field at all, whatever its value."""
        name, _, rest = path.partition(".")
        if name != "data":
            return re.fullmatch(EXTENSION_NAME_PATTERN, name) is not None
        command_class = COMMAND_CLASSES.get(self.type)
        if command_class is None or not rest:
            return True
        fields = fields_of(command_class.model_fields["data"].annotation)
        _, tasks = fields.get(rest.partition(".")[0], (None, None))
        task = self.fields["data"].get("task")
        if tasks and any(tasks) and isinstance(task, Expression) and task.is_literal:
            return task.literal in tasks
        return tasks is not None

    def _variants(self, unknown: Collection[str]) -> Iterator[dict[str, Any]]:
        """Yields commands that may come of it: what is unknown and optional may be absent."""
        command = _without_null(_sketched(self.fields, self._example()))
        yield command
        command_class = COMMAND_CLASSES.get(self.type)
        if command_class is None or not isinstance(command.get("data"), dict):
            return
        fields = fields_of(command_class.model_fields["data"].annotation)
        optional = [
            name
            for name, (field, _) in fields.items()
            if f"data.{name}" in unknown and not field.is_required()
        ]
        rest = {name: value for name, value in command["data"].items() if name not in optional}
        yield {**command, "data": rest}
        for name in optional:
            yield {**command, "data": {**rest, name: command["data"][name]}}
            without = {key: value for key, value in command["data"].items() if key != name}
            yield {**command, "data": without}

    def _example(self) -> Any:
        command_class = COMMAND_CLASSES.get(self.type)
        return {} if command_class is None else command_class.example


def _problems_of(command: Mapping[str, Any]) -> Sequence[Problem]:
    try:
        parse_message(encode_json(command))
    except InvalidCommandError as exc:
        return exc.problems or (Problem(path="", message=exc.message),)
    return ()


def _lies_in(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.")


def _without_null(table: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a table without what is null: that is the same as absent."""
    return {name: value for name, value in table.items() if value is not None}


def _compiled(value: Any, path: str, problems: list[Problem]) -> Any:
    if isinstance(value, dict):
        return {name: _compiled(each, f"{path}.{name}", problems) for name, each in value.items()}
    if isinstance(value, list):
        return [_compiled(each, f"{path}.{at}", problems) for at, each in enumerate(value)]
    try:
        return Expression(value, ROOTS) if isinstance(value, str) else _constant(value)
    except ExpressionError as exc:
        problems.append(Problem(path=path, message=str(exc)))
        return None


def _constant(value: Any) -> Any:
    """Returns what TOML holds besides texts as JSON has it."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    if isinstance(value, (date, time)):
        raise ExpressionError("must be a time with an offset, like 2026-01-31T12:00:00Z")
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError("must be a finite number")
    return value


def _expressions(value: Any, path: str) -> Iterator[tuple[str, Expression]]:
    if isinstance(value, Expression):
        yield path, value
    else:
        for name, each in _parts(value):
            yield from _expressions(each, f"{path}.{name}" if path else str(name))


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


class _Rendering:
    """Evaluates the expressions of a template on one root."""

    def __init__(self, root: Any, budget: Budget) -> None:
        self._root = root
        self._budget = budget

    def value(self, value: Any, path: str) -> Any:
        if isinstance(value, Expression):
            try:
                return value.evaluate(self._root, self._budget)
            except ExpressionError as exc:
                raise FieldError(path, str(exc)) from None
        if isinstance(value, dict):
            return {
                name: self.value(each, f"{path}.{name}" if path else name)
                for name, each in value.items()
            }
        if isinstance(value, list):
            return [self.value(each, f"{path}.{at}") for at, each in enumerate(value)]
        return value


def _sketched(value: Any, example: Any) -> Any:
    """Returns a value with what is known of it, and with what may stand for the rest."""
    if isinstance(value, Expression):
        if value.is_literal:
            return value.literal
        return _PLACEHOLDER if example is None else example
    if isinstance(value, dict):
        known = example if isinstance(example, dict) else {}
        return {name: _sketched(each, known.get(name)) for name, each in value.items()}
    if isinstance(value, list):
        return [_sketched(each, None) for each in value]
    return value
