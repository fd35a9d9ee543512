"""The integrations file: read whole, checked whole, and every problem named."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import ValidationError

from schemas.events import ErrorCode, Problem
from schemas.suggestions import closest, unknown
from worker.errors import SettingError
from worker.integrations.rules import NAME_PATTERN, FilePart, Rule
from worker.integrations.secrets import Surroundings
from worker.integrations.sink_config import SinkConfig
from worker.integrations.sources import SOURCE_CLASSES, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

MAX_FILE_BYTES: Final = 1_048_576
_TABLES: Final = ("sources", "sinks")

T = TypeVar("T", bound=FilePart)


@dataclass(frozen=True, slots=True)
class Integrations:
    """What the file says: sources and sinks by their names."""

    sources: Mapping[str, Source]
    sinks: Mapping[str, SinkConfig]


def load_integrations(path: Path, environ: Mapping[str, str] | None = None) -> Integrations:
    """Returns what the integrations file says.

    Args:
        path: the file.
        environ: where secrets are looked up; the process' own environment unless given.

    Raises:
        SettingError: something in it is wrong; it names every problem, and shows no secret.
    """
    root = _read(path)
    around = Surroundings(os.environ if environ is None else environ, path.parent)
    loader = _Loader(around)
    loader.check_names("", root, _TABLES)
    sources = loader.sources(root)
    sinks = loader.sinks(root)
    if loader.problems:
        raise _setting_error(path, loader.problems)
    return Integrations(sources, sinks)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise _setting_error(path, [_problem("", f"can't be read: {exc.strerror}")]) from None
    if len(text) > MAX_FILE_BYTES:
        raise _setting_error(path, [_problem("", f"has more than {MAX_FILE_BYTES} bytes")])
    try:
        return tomllib.loads(text.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError:
        raise _setting_error(path, [_problem("", "is not UTF-8; save it as such")]) from None
    except tomllib.TOMLDecodeError as exc:
        raise _setting_error(path, [_problem("", f"is not TOML: {exc}")]) from None
    except RecursionError:
        raise _setting_error(path, [_problem("", "is nested too deeply")]) from None


def _setting_error(path: Path, problems: Sequence[Problem]) -> SettingError:
    told = "; ".join(f"{each.path} {each.message}".strip() for each in problems)
    return SettingError(f"{path}: {told}", code=ErrorCode.INVALID_SETTING, problems=problems)


def _problem(path: str, message: str) -> Problem:
    return Problem(path=path, message=message)


class _Loader:
    """Reads tables and gathers what is wrong with them."""

    def __init__(self, around: Surroundings) -> None:
        self.problems: list[Problem] = []
        self._around = around

    def check_names(self, where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
        for name in table:
            if name not in known:
                self._add(where, unknown("table", name, known))

    def sources(self, root: Mapping[str, Any]) -> dict[str, Source]:
        found = {name: self.source(name, table) for name, table in self.tables(root, "sources")}
        return {name: each for name, each in found.items() if each is not None}

    def sinks(self, root: Mapping[str, Any]) -> dict[str, SinkConfig]:
        found = {name: self.sink(name, table) for name, table in self.tables(root, "sinks")}
        return {name: each for name, each in found.items() if each is not None}

    def tables(self, root: Mapping[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        found = root.get(kind, {})
        if not isinstance(found, dict):
            self._add(f"[{kind}]", f"must hold tables, like [{kind}.name]")
            return
        for name, table in found.items():
            where = f"[{kind}.{name[:80]}]"
            if not isinstance(table, dict):
                self._add(f"[{kind}]", f"{name[:80]} must be a table: [{kind}.{name[:80]}]")
            elif not re.fullmatch(NAME_PATTERN, name):
                told = "the name must have 1 to 64 letters, digits, - and _, and no - or _ first"
                self._add(where, told)
            else:
                yield name, table

    def source(self, name: str, table: dict[str, Any]) -> Source | None:
        where = f"[sources.{name}]"
        scheme = table.get("scheme")
        if not isinstance(scheme, str):
            known = ", ".join(SOURCE_CLASSES)
            self._add(where, f"scheme is required; one of {known}")
            return None
        source_class = SOURCE_CLASSES.get(scheme)
        if source_class is None:
            self._add(where, f"scheme: {unknown('scheme', scheme, SOURCE_CLASSES)}")
            return None
        found = self._part(source_class, where, name, table)
        if found is None:
            return None
        for problem in found.problems():
            self._add(where, f"{problem.path} {problem.message}")
        names: set[str] = set()
        for rule in found.rules:
            of_rule = f"[sources.{name}.rules.{rule.name}]"
            for problem in rule.problems():
                self._add(of_rule, f"{problem.path} {problem.message}")
            if rule.name in names:
                self._add(of_rule, "is the second rule of this name; rename one")
            names.add(rule.name)
        return found

    def sink(self, name: str, table: dict[str, Any]) -> SinkConfig | None:
        where = f"[sinks.{name}]"
        found = self._part(SinkConfig, where, name, table)
        for problem in () if found is None else found.problems():
            self._add(where, f"{problem.path} {problem.message}".strip())
        return found

    def _part(self, part: type[T], where: str, name: str, table: dict[str, Any]) -> T | None:
        if "name" in table:
            self._add(where, "name is unknown: the table's own name is it")
        try:
            return part.model_validate({**table, "name": name}, context=self._around)
        except ValidationError as exc:
            for detail in exc.errors(include_url=False, include_input=False):
                self._add_detail(part, where, table, detail)
            return None

    def _add_detail(
        self, part: type[BaseModel], where: str, table: dict[str, Any], detail: ErrorDetails
    ) -> None:
        loc = list(detail["loc"])
        if loc[:1] == ["rules"] and len(loc) > 1 and isinstance(loc[1], int):
            where = f"{where[:-1]}.rules.{_rule_name(table, loc[1])}]"
            part, loc = Rule, loc[2:]
        message = _said(part, detail)
        self._add(where, f"{_path(loc)} {message}".strip())

    def _add(self, where: str, message: str) -> None:
        self.problems.append(_problem(where, message))


def _rule_name(table: dict[str, Any], at: int) -> str:
    rule = table["rules"][at]
    name = rule.get("name") if isinstance(rule, dict) else None
    return name[:80] if isinstance(name, str) and name else str(at + 1)


def _path(loc: Sequence[str | int]) -> str:
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part[:80]}" if path else part[:80]
    return path


_PLAIN: Final = {
    "missing": "is required",
    "string_type": "must be a text in quotes",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "list_type": "must be a list in [ ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "too_short": "must not be empty; leave it out",
}


def _said(part: type[BaseModel], detail: ErrorDetails) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown_key(part, [each for each in detail["loc"] if isinstance(each, str)])
    if kind in _PLAIN:
        return _PLAIN[kind]
    message = detail["msg"]
    for begin in ("Input should ", "String should ", "Value should "):
        if message.startswith(begin):
            return f"must {message.removeprefix(begin)}"
    return message


def _unknown_key(part: type[BaseModel], path: Sequence[str]) -> str:
    known = _fields(part, path)
    meant = closest(path[-1][:80], known)
    hint = f"did you mean {meant}?" if meant else f"there is {', '.join(known)}"
    return f"is unknown; {hint}"


def _fields(part: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Returns the keys of the table in which the last part of a path stands."""
    steps = [each for each in path[:-1] if each != "rules"]
    for step in steps:
        field = part.model_fields.get(step)
        inner = (
            next(
                (
                    each
                    for each in (field.annotation, *getattr(field.annotation, "__args__", ()))
                    if isinstance(each, type) and issubclass(each, FilePart)
                ),
                None,
            )
            if field
            else None
        )
        if inner is None:
            return []
        part = inner
    return [name for name in part.model_fields if name != "name" or part is Rule]
