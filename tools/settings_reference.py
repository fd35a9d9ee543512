"""Every setting as a row of the documentation's table, made from the fields themselves."""

from __future__ import annotations

import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import SecretStr, StringConstraints
from pydantic_core import PydanticUndefined

from worker.gateway_settings import GatewaySettings
from worker.settings import LedgerSettings, Settings, environment_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

_KINDS = {int: "whole number", float: "number", str: "text", Path: "path", SecretStr: "secret"}

# Its default depends on the home of whoever makes the table.
_SHOWN_DEFAULTS = {
    "gateway_folder": "~/.local/state/trainmaster/gateway",
    "result_store": "~/.local/state/trainmaster/results",
}


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting, in words.

    Attributes:
        name: the environment variable.
        kind: what its value is: number, text, path, secret and so on.
        unit: of the number, empty without one.
        allowed: the range or the choices, empty where anything goes.
        default: as one would write it; empty where there is none.
        required: whether it must be set.
    """

    name: str
    kind: str
    unit: str
    allowed: str
    default: str
    required: bool
    meaning: str


def setting_rows(settings_class: type[LedgerSettings] = Settings) -> Iterator[SettingRow]:
    """Yields every setting in the order of the fields."""
    names = environment_names(settings_class)
    for field, info in settings_class.model_fields.items():
        extra = info.json_schema_extra
        unit = extra.get("unit", "") if isinstance(extra, dict) else ""
        yield SettingRow(
            name=names[field],
            kind=_kind(info.annotation),
            unit=str(unit),
            allowed=_allowed(info),
            default=_SHOWN_DEFAULTS.get(field) or _default(info.default),
            required=info.is_required(),
            meaning=info.description or "",
        )


def gateway_rows() -> Iterator[SettingRow]:
    """Yields the settings that a gateway has beside those of the ledger."""
    shared = LedgerSettings.model_fields.keys()
    for field, row in zip(GatewaySettings.model_fields, setting_rows(GatewaySettings), strict=True):
        if field not in shared:
            yield row


def _kind(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin is Literal:
        return "choice"
    if origin is tuple:
        return "host:port" if int in get_args(annotation) else "paths"
    if origin in {types.UnionType, Union}:
        return _kind(next(part for part in get_args(annotation) if part is not type(None)))
    return _KINDS[annotation]


def _allowed(info: FieldInfo) -> str:
    if get_origin(info.annotation) is Literal:
        return ", ".join(get_args(info.annotation))
    least, least_strict, most = None, None, None
    for rule in info.metadata:
        match rule:
            case StringConstraints(pattern=str(pattern)):
                return pattern
            case annotated_types.Ge(ge=bound):
                least = bound
            case annotated_types.Gt(gt=bound):
                least_strict = bound
            case annotated_types.Le(le=bound):
                most = bound
            case _:
                pass
    if most is None:
        return ""
    if least_strict is not None:
        return f"more than {least_strict} to {most}"
    return f"{least} to {most}"


def _default(value: Any) -> str:
    if value is PydanticUndefined or value is None or value == ():
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
