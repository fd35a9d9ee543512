"""The integrations file's fields as rows of the documentation's tables, made from its models."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from worker.integrations.expressions import Expression
from worker.integrations.patterns import Patterns
from worker.integrations.secrets import Secret
from worker.integrations.templates import CommandTemplate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

_KINDS = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Expression: "expression",
    Patterns: "text or list",
    Secret: "text, `{ env }` or `{ file }`",
    CommandTemplate: "table",
}
# Of a source they are tables of their own, with a section of their own.
_ELSEWHERE = frozenset({"name", "scheme", "rules"})


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A field of a table of the file, in words.

    Attributes:
        default: as the file would have it; empty where there is none.
    """

    name: str
    kind: str
    required: bool
    default: str
    meaning: str


def field_rows(
    part: type[BaseModel], *, named: bool = False, prefix: str = ""
) -> Iterator[FieldRow]:
    """Yields the fields of a table in their order, with those of the tables in it.

    Args:
        part: the table.
        named: whether its name is a field of it, not of the table around it.
        prefix: what stands before each name.
    """
    for name, info in part.model_fields.items():
        if name in _ELSEWHERE and not (named and name == "name"):
            continue
        inner = _inner(info.annotation)
        yield FieldRow(
            name=f"{prefix}{name}",
            kind="table" if inner else _kind(info.annotation, info),
            required=info.is_required(),
            default=_default(info),
            meaning=info.description or "",
        )
        if inner:
            yield from field_rows(inner, prefix=f"{prefix}{name}.")


def _inner(annotation: Any) -> type[BaseModel] | None:
    parts = (annotation, *get_args(annotation))
    return next(
        (each for each in parts if isinstance(each, type) and issubclass(each, BaseModel)), None
    )


def _kind(annotation: Any, info: FieldInfo | None = None) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(parts[0], info)
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in parts)
    if origin is list:
        of_secrets = _kind(parts[0]) == _KINDS[Secret]
        return "list of `{ env }` or `{ file }`" if of_secrets else f"list of {_kind(parts[0])}s"
    if origin in {types.UnionType, Union}:
        return _kind(next(part for part in parts if part is not type(None)), info)
    return f"{_KINDS[annotation]}{_range(info)}"


def _range(info: FieldInfo | None) -> str:
    bounds: dict[str, Any] = {}
    for rule in info.metadata if info else ():
        if isinstance(rule, annotated_types.Ge):
            bounds["least"] = rule.ge
        elif isinstance(rule, annotated_types.Le):
            bounds["most"] = rule.le
    return f", {bounds['least']} to {bounds['most']}" if len(bounds) == 2 else ""


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or value is None or value in ("", []):
        return ""
    if isinstance(value, Expression):
        return value.text
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
