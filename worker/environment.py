"""Reading the settings from the environment: what is wrong is named, and no value is shown."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from pydantic import AliasChoices, SecretStr, ValidationError

from schemas.events import ErrorCode
from worker.errors import SettingError, SeveralNamespacesError
from worker.gateway_settings import GatewaySettings
from worker.redaction import HIDDEN
from worker.secret_files import SecretFileError, read_secret, shown_path
from worker.setting_values import NAMESPACES
from worker.settings import PREFIX, LedgerSettings, Settings, environment_names
from worker.utf8 import is_utf8

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

# Settings of the console script and of tests that carry the prefix and are none of the worker's.
_FOREIGN: Final = frozenset({"TRAINMASTER_STATE", "TRAINMASTER_TOKEN", "TRAINMASTER_LISTEN_SECRET"})

# Settings that have another name now, where the two resemble each other too little to be found.
_RENAMED: Final = {"TRAINMASTER_PLACES": "TRAINMASTER_CONCURRENCY"}

S = TypeVar("S", bound=LedgerSettings)
# What a first start lacks, as it is in most of the docs.
_EXAMPLES: Final = {f"{PREFIX}REDIS_URL": "; for example redis://127.0.0.1:6379/0"}


def load_settings(
    redis_url: str | None = None, namespace: str | None = None, *, partitions: bool = False
) -> Settings:
    """Returns the settings of a worker: what is given goes before the environment.

    Args:
        redis_url: instead of the variable.
        namespace: instead of the variable.
        partitions: whether several namespaces may be named.

    Raises:
        SettingError: one is wrong or missing; the message names each, and shows no value.
    """
    return _load(Settings, redis_url, namespace, partitions=partitions)


def load_ledger_settings(
    redis_url: str | None = None, namespace: str | None = None, *, partitions: bool = False
) -> LedgerSettings:
    """Returns what the command line needs; the arguments are those of `load_settings`.

    Raises:
        SettingError: one is wrong or missing; the message names each, and shows no value.
    """
    return _load(LedgerSettings, redis_url, namespace, partitions=partitions)


def load_gateway_settings(
    redis_url: str | None = None, namespace: str | None = None
) -> GatewaySettings:
    """Returns the settings of a gateway: what is given goes before the environment.

    Raises:
        SettingError: one is wrong or missing; the message names each, and shows no value.
    """
    return _load(GatewaySettings, redis_url, namespace)


def _load(
    settings_class: type[S],
    redis_url: str | None,
    namespace: str | None,
    *,
    partitions: bool = False,
) -> S:
    options = {"redis_url": redis_url, "namespace": namespace}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    names = environment_names(settings_class) | {
        name: f"--{name.replace('_', '-')}" for name in given
    }
    told = {name: os.environ.get(name, "") for name in _variables(settings_class)}
    told |= {names[name]: value for name, value in given.items()}
    wrong = [name for name, value in told.items() if not is_utf8(value)]
    if wrong:
        raise SettingError(
            "; ".join(f"{name} is not UTF-8" for name in wrong), code=ErrorCode.INVALID_SETTING
        )
    secrets = _secrets_of_files(settings_class, given)
    try:
        settings = settings_class(**secrets, **given)
    except ValidationError as exc:
        problems = [_problem(detail, names) for detail in exc.errors()]
        raise SettingError("; ".join(problems), code=ErrorCode.INVALID_SETTING) from None
    if len(settings.namespaces) > 1 and not partitions:
        raise SeveralNamespacesError(
            f"{names['namespace']} names several namespaces, and this works on one",
            settings.namespaces,
        )
    return settings


def _variables(settings_class: type[LedgerSettings]) -> list[str]:
    """Returns the variables that settings are read from, each of several for the same one."""
    found: list[str] = []
    for field, info in settings_class.model_fields.items():
        alias = info.validation_alias
        several = alias.choices if isinstance(alias, AliasChoices) else ()
        found += [str(each) for each in several] or [environment_names(settings_class)[field]]
    return found


def secret_files(settings_class: type[LedgerSettings] = Settings) -> dict[str, str]:
    """Returns the variables that name a file with a secret, and the setting that each is for."""
    names = environment_names(settings_class)
    found = {
        f"{names[field]}_FILE": names[field]
        for field, info in settings_class.model_fields.items()
        if SecretStr in (info.annotation, *get_args(info.annotation))
    }
    # That of the key is a setting itself: keys have many lines.
    return {file: name for file, name in found.items() if file not in names.values()}


def _secrets_of_files(
    settings_class: type[LedgerSettings], given: Mapping[str, Any]
) -> dict[str, Any]:
    fields = {name: field for field, name in environment_names(settings_class).items()}
    found: dict[str, Any] = {}
    problems: list[str] = []
    for file, name in secret_files(settings_class).items():
        path = os.environ.get(file)
        if not path or fields[name] in given:
            continue
        if os.environ.get(name):
            problems.append(f"{file} and {name} are both set: set one of them")
            continue
        shown = shown_path(path)
        # Who sets it to the secret itself must not read it in every log.
        advice = f"; if that is the secret itself, set {name}" if shown == HIDDEN else ""
        try:
            secret = read_secret(Path(path).expanduser(), shown)
        except SecretFileError as exc:
            problems.append(f"{file}: {exc}{advice}")
        except RuntimeError:
            problems.append(f"{file}: the file {shown} can't be read: its home is not there")
        else:
            alias = settings_class.model_fields[fields[name]].validation_alias
            found[fields[name] if alias is None else name] = secret.decode()
    if problems:
        raise SettingError("; ".join(problems), code=ErrorCode.INVALID_SETTING)
    return found


def unknown_names() -> dict[str, str | None]:
    """Returns variables that look like settings and are none, each with what may be meant."""
    known = {
        *environment_names().values(),
        *environment_names(GatewaySettings).values(),
        *secret_files(),
    }
    # Compared without what all have in common, or anything would resemble something.
    ends = [name.removeprefix(PREFIX) for name in known if name.startswith(PREFIX)]
    found: dict[str, str | None] = {}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known | _FOREIGN:
            close = difflib.get_close_matches(name.removeprefix(PREFIX), ends, n=1)
            found[name] = _RENAMED.get(name) or (f"{PREFIX}{close[0]}" if close else None)
    return found


def advice_on_unknown(meant: str | None) -> str:
    """Returns what to do about a variable that is no setting."""
    return f"did you mean {meant}?" if meant else "remove it"


def _problem(detail: ErrorDetails, names: dict[str, str]) -> str:
    message = detail["msg"]
    if not detail["loc"]:
        return message
    first = str(detail["loc"][0])
    name = names.get(first, first)
    if detail["type"] == "missing":
        return f"{name} is not set{_EXAMPLES.get(name, '')}"
    if detail.get("ctx", {}).get("pattern") == NAMESPACES:
        return f"{name} must be 1 to 64 letters, digits, dots, hyphens or underscores"
    said = message.removeprefix("Input should ").removeprefix("String should ")
    if said.startswith(("be ", "match ")):
        return f"{name} must {said}"
    if said.startswith(("must ", "names ")):
        return f"{name} {said}"
    return f"{name} is wrong: {said}"
