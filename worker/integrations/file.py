"""The integrations file: read whole, checked whole, and every problem named."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from pydantic import ValidationError

from schemas.events import ErrorCode, Problem
from schemas.suggestions import closest, unknown
from worker.errors import SettingError
from worker.integrations.rules import NAME_PATTERN, FilePart, Rule, template_problems
from worker.integrations.secrets import Surroundings
from worker.integrations.sink_config import SinkConfig
from worker.integrations.sources import SOURCE_CLASSES, Source
from worker.integrations.templates import CommandTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

MAX_FILE_BYTES: Final = 1_048_576
_TABLES: Final = ("sources", "sinks")
_SHOWN_CHARACTERS: Final = 80

T = TypeVar("T", bound=FilePart)


@dataclass(frozen=True, slots=True)
class Integrations:
    """What the file says: sources and sinks by their names."""

    sources: Mapping[str, Source]
    sinks: Mapping[str, SinkConfig]


def load_integrations(
    path: Path, environ: Mapping[str, str] | None = None, *, looks_up_secrets: bool = True
) -> Integrations:
    """Returns what the integrations file says.

    Args:
        path: the file.
        environ: where secrets are looked up; the process' own environment unless given.
        looks_up_secrets: whether the secrets have to be there; without them nothing is verified.

    Raises:
        SettingError: something in it is wrong; each problem names its table and its field, like
            `[sources.encord] secrets[0]`, and shows no secret.
    """
    root = _read(path)
    around = Surroundings(os.environ if environ is None else environ, path.parent, looks_up_secrets)
    loader = _Loader(around)
    loader.check_names(root, _TABLES)
    sources = loader.sources(root)
    sinks = loader.sinks(root)
    if loader.problems:
        raise _setting_error(path, loader.problems)
    return Integrations(sources, sinks)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise _unreadable(path, f"has more than {MAX_FILE_BYTES} bytes")
        return tomllib.loads(text.decode("utf-8-sig").replace("\r\n", "\n"))
    except OSError as exc:
        raise _unreadable(path, f"can't be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise _unreadable(path, "is not UTF-8; save it as such") from None
    except tomllib.TOMLDecodeError as exc:
        raise _unreadable(path, f"is not TOML: {exc}") from None
    except RecursionError:
        raise _unreadable(path, "is nested too deeply") from None


def _unreadable(path: Path, message: str) -> SettingError:
    return _setting_error(path, [Problem(path="", message=message)])


def _setting_error(path: Path, problems: Sequence[Problem]) -> SettingError:
    told = "; ".join(f"{each.path} {each.message}".strip() for each in problems)
    return SettingError(f"{path}: {told}", code=ErrorCode.INVALID_SETTING, problems=problems)


class _Loader:
    """Reads tables and gathers what is wrong with them."""

    def __init__(self, around: Surroundings) -> None:
        self.problems: list[Problem] = []
        self._around = around

    def check_names(self, root: Mapping[str, Any], known: Sequence[str]) -> None:
        for name in root:
            if name not in known:
                self._add("", "", unknown("table", name, known))

    def sources(self, root: Mapping[str, Any]) -> dict[str, Source]:
        found = {name: self._source(name, table) for name, table in self._tables(root, "sources")}
        return {name: each for name, each in found.items() if each is not None}

    def sinks(self, root: Mapping[str, Any]) -> dict[str, SinkConfig]:
        found = {name: self._sink(name, table) for name, table in self._tables(root, "sinks")}
        return {name: each for name, each in found.items() if each is not None}

    def _tables(self, root: Mapping[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        found = root.get(kind, {})
        if not isinstance(found, dict):
            self._add(f"[{kind}]", "", f"must hold tables, like [{kind}.name]")
            return
        for name, table in found.items():
            where = f"[{kind}.{name[:_SHOWN_CHARACTERS]}]"
            if not isinstance(table, dict):
                self._add(f"[{kind}]", name, f"must be a table: {where}")
            elif not re.fullmatch(NAME_PATTERN, name):
                told = "the name must have 1 to 64 letters, digits, - and _, and no - or _ first"
                self._add(where, "", told)
            else:
                yield name, table

    def _source(self, name: str, table: dict[str, Any]) -> Source | None:
        where = f"[sources.{name}]"
        scheme = table.get("scheme")
        if not isinstance(scheme, str):
            self._add(where, "scheme", f"is required; one of {', '.join(SOURCE_CLASSES)}")
            return None
        source_class = SOURCE_CLASSES.get(scheme)
        if source_class is None:
            self._add(where, "scheme", unknown("scheme", scheme, SOURCE_CLASSES))
            return None
        found = self._part(source_class, where, name, table)
        if found is None:
            self._check_templates(where, table)
            return None
        self._extend(where, found.problems())
        names: set[str] = set()
        for rule in found.rules:
            of_rule = f"[sources.{name}.rules.{rule.name}]"
            self._extend(of_rule, found.problems_of(rule))
            if rule.name in names:
                self._add(of_rule, "name", "is that of an earlier rule, too; rename one")
            names.add(rule.name)
        return found

    def _check_templates(self, where: str, table: dict[str, Any]) -> None:
        """Names what is wrong with the templates of a source that has other problems."""
        rules = table.get("rules")
        for at, rule in enumerate(rules if isinstance(rules, list) else ()):
            command = rule.get("command") if isinstance(rule, dict) else None
            if isinstance(command, dict):
                of_rule = f"{where[:-1]}.rules.{_rule_name(table, at)}]"
                self._extend(of_rule, template_problems(CommandTemplate.read(command)))

    def _sink(self, name: str, table: dict[str, Any]) -> SinkConfig | None:
        where = f"[sinks.{name}]"
        found = self._part(SinkConfig, where, name, table)
        if found is not None:
            self._extend(where, found.problems())
        return found

    def _part(self, part: type[T], where: str, name: str, table: dict[str, Any]) -> T | None:
        if "name" in table:
            self._add(where, "name", "is unknown: the table's own name is it")
        try:
            return part.model_validate({**table, "name": name}, context=self._around)
        except ValidationError as exc:
            details = exc.errors(include_url=False, include_input=False)
            for detail in sorted(details, key=lambda each: each["loc"][:1] == ("rules",)):
                self._add_detail(part, where, table, detail)
            return None

    def _add_detail(
        self, part: type[BaseModel], where: str, table: dict[str, Any], detail: ErrorDetails
    ) -> None:
        loc = list(detail["loc"])
        if loc[:1] == ["rules"] and len(loc) > 1 and isinstance(loc[1], int):
            where = f"{where[:-1]}.rules.{_rule_name(table, loc[1])}]"
            part, loc = Rule, loc[2:]
        self._add(where, _path(loc), _said(part, loc, detail))

    def _extend(self, where: str, problems: Iterable[Problem]) -> None:
        for each in problems:
            self._add(where, each.path, each.message)

    def _add(self, where: str, field: str, message: str) -> None:
        path = f"{where} {field[:_SHOWN_CHARACTERS]}".strip()
        self.problems.append(Problem(path=path, message=message))


def _rule_name(table: dict[str, Any], at: int) -> str:
    """Returns the name of a rule that can't be read, or which one it is of all."""
    rule = table["rules"][at]
    name = rule.get("name") if isinstance(rule, dict) else None
    return name[:_SHOWN_CHARACTERS] if isinstance(name, str) and name else str(at + 1)


def _path(loc: Sequence[str | int]) -> str:
    path = ""
    for part in loc:
        shown = f"[{part}]" if isinstance(part, int) else f".{part[:_SHOWN_CHARACTERS]}"
        path += shown if path else shown.removeprefix(".")
    return path


_PLAIN: Final = {
    "missing": "is required",
    "string_type": "must be a text in quotes",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "list_type": "must be a list in [ ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "too_short": "must not be empty; leave it out",
    "string_too_short": "must not be empty",
}


def _said(part: type[BaseModel], loc: Sequence[str | int], detail: ErrorDetails) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown_key(part, [each for each in loc if isinstance(each, str)])
    if kind in _PLAIN:
        return _PLAIN[kind]
    message = detail["msg"]
    for begin in ("Input should ", "String should ", "Value should "):
        if message.startswith(begin):
            return f"must {message.removeprefix(begin)}"
    return message


def _unknown_key(part: type[BaseModel], path: Sequence[str]) -> str:
    known = _keys(part, path[:-1])
    meant = closest(path[-1][:_SHOWN_CHARACTERS], known)
    hint = f"did you mean {meant}?" if meant else f"there is {', '.join(known)}"
    return f"is unknown; {hint}"


def _keys(part: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Returns what may stand in a table below a part of the file."""
    for step in path:
        annotation = part.model_fields[step].annotation
        choices = (annotation, *get_args(annotation))
        part = next(
            each for each in choices if isinstance(each, type) and issubclass(each, FilePart)
        )
    # Of sources and sinks it is the table's name.
    found = [name for name in part.model_fields if name != "name" or part is Rule]
    return sorted(found, key=lambda name: name == "rules")
