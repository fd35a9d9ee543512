"""What people type: `key=value` arguments, names, durations and times."""

from __future__ import annotations

import re
import types
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin
from uuid import UUID

import click
import jiter
from click.shell_completion import CompletionItem
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas import attributes
from schemas.commands import COMMAND_CLASSES
from schemas.enums import EventState
from schemas.events import UNREADABLE_TYPE, ErrorCode
from schemas.suggestions import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from click import Context, Parameter


json_option: Final = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object per line."
)
newest_option: Final = click.option(
    "--newest",
    "--limit",
    "newest",
    metavar="N",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Show at most this many.",
)


class ArgumentError(Exception):
    """An argument can't be read; the message says why."""


@dataclass(frozen=True, slots=True)
class _Written:
    """A value as it was typed."""

    text: str


def read_data(pairs: Iterable[str], command_type: str) -> dict[str, Any]:
    """Returns the `data` that `key=value` arguments give.

    A value is JSON where it is JSON, else a string. The field decides where both would do: a title
    `2024` stays text, and one uuid for a list of them becomes a list of one. A dotted key names a
    key inside an object: `features_mapping.car=hash`. A key that comes again adds to a list.

    Args:
        pairs: the arguments.
        command_type: tells what the fields take; one that is unknown tells nothing.

    Raises:
        ArgumentError: one is not `key=value`, or contradicts another.
    """
    root: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not all(key.split(".")):
            raise ArgumentError(f"{pair!r} is not key=value")
        _place(root, key.split("."), _Written(text), pair)
    fields = _fields(command_type)
    return {name: _resolve(node, fields.get(name)) for name, node in root.items()}


def read_value(text: str) -> Any:
    """Returns a value that is JSON where the text is, else the text."""
    try:
        return jiter.from_json(text.encode(), allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError:
        return text


def _place(root: dict[str, Any], path: list[str], written: _Written, pair: str) -> None:
    node = root
    for part in path[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ArgumentError(f"{pair!r} sets a key of {part}, which already has a value")
    known = node.get(path[-1])
    match known:
        case None:
            node[path[-1]] = written
        case _Written():
            node[path[-1]] = [known, written]
        case list():
            known.append(written)
        case _:
            raise ArgumentError(f"{pair!r} would replace the keys that are set in {path[-1]}")


def _fields(command_type: str) -> dict[str, Any]:
    """Returns the annotations of a command's data; of all variants where there are several."""
    if command_type not in COMMAND_CLASSES:
        return {}
    annotation = COMMAND_CLASSES[command_type].model_fields["data"].annotation
    fields: dict[str, Any] = {}
    for variant in _variants(annotation):
        if isinstance(variant, type) and issubclass(variant, BaseModel):
            fields |= {name: info.annotation for name, info in variant.model_fields.items()}
    return fields


def _resolve(node: Any, annotation: Any) -> Any:
    variants = _variants(annotation)
    inside = next((each for each in variants if get_origin(each) in {list, dict}), None)
    of_list = get_args(inside)[0] if inside is not None and get_origin(inside) is list else None
    if isinstance(node, dict):
        value_type = get_args(inside)[1] if get_origin(inside) is dict else None
        return {key: _resolve(value, value_type) for key, value in node.items()}
    if isinstance(node, list):
        return [_resolve(value, of_list) for value in node]
    value = read_value(node.text)
    if of_list is not None and not isinstance(value, list | None):
        return [_resolve(node, of_list)]
    if isinstance(value, str) or not any(_is_text(each) for each in variants):
        return value
    # A parameter that is null counts as absent; only what takes any text may mean the word.
    may_be_null = type(None) in variants or str not in variants
    return None if value is None and may_be_null else node.text


def _variants(annotation: Any) -> tuple[Any, ...]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _variants(get_args(annotation)[0])
    if origin in {types.UnionType, Union}:
        return tuple(each for part in get_args(annotation) for each in _variants(part))
    return (annotation,)


def _is_text(annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return all(isinstance(choice, str) for choice in get_args(annotation))
    if not isinstance(annotation, type) or get_origin(annotation) is not None:
        return False
    return issubclass(annotation, str | UUID) or (
        issubclass(annotation, Enum) and issubclass(annotation, str)
    )


class KnownName(click.ParamType[str]):
    """One of many names; unlike `click.Choice` it lists them only if none is close.

    Args:
        noun: what the names are, like `command type`.
        names: listed and completed.
        more: accepted too, but not listed.
    """

    def __init__(self, noun: str, names: Sequence[str], more: Sequence[str] = ()) -> None:
        self.name = noun
        self._names = list(names)
        self._more = list(more)

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> str:
        """Returns the name; any other is wrong usage."""
        if value not in {*self._names, *self._more}:
            close = self._more if "." in value else self._names
            self.fail(unknown(self.name, value, close), param, ctx)
        return value

    def shell_complete(
        self,
        ctx: Context,  # noqa: ARG002 - click's signature
        param: Parameter,  # noqa: ARG002 - the same
        incomplete: str,
    ) -> list[CompletionItem]:
        """Returns the names that begin so."""
        names = self._names if "." not in incomplete else self._more
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


_TYPES: Final = list(COMMAND_CLASSES)
EVENT_STATES: Final = [str(each) for each in EventState]

COMMAND_TYPE: Final = KnownName("command type", _TYPES)

# A message whose type can't be read has a dead letter, too.
LETTER_TYPE: Final = KnownName("command type", [*_TYPES, UNREADABLE_TYPE])

EVENT_TYPE: Final = KnownName(
    "event type",
    [*_TYPES, UNREADABLE_TYPE, *EVENT_STATES],
    [f"{each}.{state}" for each in (*_TYPES, UNREADABLE_TYPE) for state in EVENT_STATES],
)

ERROR_CODE: Final = KnownName("error code", [str(each) for each in ErrorCode])

_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+", re.ASCII)
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([dhms])", re.ASCII)
_SECONDS: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_TIMESTAMP: Final = TypeAdapter[datetime](attributes.Timestamp)


class Share(click.FloatRange):
    """A number from 0 to a bound, 1 unless told."""

    def __init__(self, highest: float = 1) -> None:
        super().__init__(0, highest)

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> Any:
        """Returns the number; NaN is in no range, and 0_1 is no tenth."""
        if isinstance(value, str) and ("nan" in value.lower() or "_" in value):
            self.fail(f"{value!r} is not a number from 0 to {self.max:g}.", param, ctx)
        return super().convert(value, param, ctx)


class Duration(click.ParamType[timedelta]):
    """A length of time: `90`, `90s`, `1h30m`, `7d`."""

    name = "duration"

    def convert(
        self, value: str | timedelta, param: Parameter | None, ctx: Context | None
    ) -> timedelta:
        """Returns the duration; anything else is wrong usage."""
        if isinstance(value, timedelta):
            return value
        duration = parse_duration(value)
        if duration is None:
            self.fail(f"{value!r} is not a duration like 90s, 1h30m or 7d", param, ctx)
        return duration


class Timestamp(click.ParamType[datetime]):
    """A time: RFC 3339, or a duration before or after now.

    Args:
        sign: -1 for times in the past, 1 for times ahead.
    """

    name = "time"

    def __init__(self, sign: int) -> None:
        self._sign = sign

    def convert(
        self, value: str | datetime, param: Parameter | None, ctx: Context | None
    ) -> datetime:
        """Returns the time; anything else is wrong usage."""
        if isinstance(value, datetime):
            return value
        duration = parse_duration(value)
        try:
            if duration is not None:
                return datetime.now(UTC) + self._sign * duration
            return _TIMESTAMP.validate_python(value)
        except (ValidationError, OverflowError):
            self.fail(
                f"{value!r} is not a time like 2026-01-31T12:00:00Z or a duration like 10m",
                param,
                ctx,
            )


class ReplyName(click.ParamType[str]):
    """The name of a reply stream."""

    name = "reply stream"

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> str:
        """Returns the name; what no command may name is wrong usage."""
        if re.search(attributes.REPLY_TO_PATTERN, value) is None or value.endswith("\n"):
            self.fail(f"{value!r} names no reply stream: 1 to 64 of a-z, 0-9, . _ -", param, ctx)
        return value


REPLY_NAME: Final = ReplyName()
DURATION: Final = Duration()
PAST: Final = Timestamp(-1)
AHEAD: Final = Timestamp(1)


def parse_duration(text: str) -> timedelta | None:
    """Returns the duration that a text names, None if it names none."""
    try:
        if _SECONDS.fullmatch(text):
            return timedelta(seconds=float(text))
        if not _DURATION.fullmatch(text):
            return None
        parts = _PART.findall(text)
        return sum(
            (timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta()
        )
    except OverflowError:
        return None


class Group(click.Group):
    """A group whose overview has the first sentence of each command's help whole."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the overview; click's own cuts sentences to what fits in a line."""
        with formatter.section("Commands"):
            formatter.write_dl([
                (name, self.commands[name].get_short_help_str(limit=1_000))
                for name in self.list_commands(ctx)
            ])
