"""`key=value` arguments as JSON, read in the light of the field that they are meant for.

A value is JSON where it is JSON, else a string. The field decides where both would do: a title
`2024` stays text, and one uuid for a list of them becomes a list of one.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import jiter
from pydantic import BaseModel

from schemas.commands import COMMAND_CLASSES
from schemas.enums import CommandType

if TYPE_CHECKING:
    from collections.abc import Iterable


class ArgumentError(Exception):
    """An argument can't be read; the message says why."""


@dataclass(frozen=True, slots=True)
class _Written:
    """A value as it was typed."""

    text: str


def read_data(pairs: Iterable[str], command_type: str) -> dict[str, Any]:
    """Returns the `data` that `key=value` arguments give.

    A dotted key names a key inside an object: `features_mapping.car=hash`. A key that comes again
    adds to a list.

    Args:
        pairs: the arguments.
        command_type: tells what the fields take; one that is unknown tells nothing.

    Raises:
        ArgumentError: one is no `key=value`, or contradicts another.
    """
    root: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not all(key.split(".")):
            raise ArgumentError(f"{pair!r} is no key=value")
        _place(root, key.split("."), _Written(text), pair)
    fields = _fields(command_type)
    return {name: _resolve(node, fields.get(name)) for name, node in root.items()}


def read_value(text: str) -> Any:
    """Returns a value that is JSON where the text is, else the text."""
    try:
        return jiter.from_json(text.encode(), allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError:
        return text


def merge(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Returns `base` with what `more` has in place of it, objects inside each other included."""
    merged = dict(base)
    for key, value in more.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            value = merge(known, value)  # noqa: PLW2901 - the same value, completed
        merged[key] = value
    return merged


def _place(root: dict[str, Any], path: list[str], written: _Written, pair: str) -> None:
    node = root
    for part in path[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ArgumentError(f"{pair!r} goes into {part}, which has a value of its own")
    known = node.get(path[-1])
    match known:
        case None:
            node[path[-1]] = written
        case _Written():
            node[path[-1]] = [known, written]
        case list():
            known.append(written)
        case _:
            raise ArgumentError(f"{pair!r} replaces what other arguments put into {path[-1]}")


def _fields(command_type: str) -> dict[str, Any]:
    """Returns the annotations of a command's data; of all variants where there are several."""
    if command_type not in set(CommandType):
        return {}
    annotation = COMMAND_CLASSES[CommandType(command_type)].model_fields["data"].annotation
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
