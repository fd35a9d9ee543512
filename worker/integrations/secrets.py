"""Secrets that the integrations file names: it never holds one, but says where it lies."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, InstanceOf, ValidationInfo
from pydantic_core import PydanticCustomError

from worker.integrations import standard_webhooks
from worker.paths import is_there
from worker.redaction import HIDDEN
from worker.secret_files import SecretFileError, checked, read_secret, shown_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Fewer bytes can be guessed.
MIN_SECRET_BYTES: Final = 8
# 128 bits; whoever makes a secret of Standard Webhooks takes 24 to 64 bytes.
MIN_KEY_BYTES: Final = 16
# As variables are called, unlike keys and tokens.
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret, and where it came from.

    Attributes:
        value: the key as bytes; no text shows it. Empty where secrets are not looked up.
        origin: like `env ENCORD_WEBHOOK_SECRET`, for people.
    """

    value: bytes = field(repr=False)
    origin: str

    def standard(self) -> standard_webhooks.SigningKey:
        """Returns the key as what signs and verifies by Standard Webhooks takes it."""
        return standard_webhooks.SigningKey(self.value)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where names in the file lead: passed to validators as their context."""

    environ: Mapping[str, str] = field(repr=False)
    folder: Path
    # Whoever checks the file where its secrets are not wants to know of all else.
    looks_up_secrets: bool = True


def read_named(value: object, info: ValidationInfo) -> Secret:
    """Returns what `{ env = "NAME" }` or `{ file = "PATH" }` names.

    Raises:
        PydanticCustomError: it names nothing that can be used; the message shows no value.
    """
    if not isinstance(value, dict) or len(value) != 1 or not value.keys() <= {"env", "file"}:
        raise _wrong('must be { env = "NAME" } or { file = "PATH" }, and never the secret itself')
    ((kind, name),) = value.items()
    if not isinstance(name, str) or not name or "\0" in name:
        raise _wrong(f"{kind} must be a {'variable' if kind == 'env' else 'path'} in quotes")
    around: Any = info.context
    if not around.looks_up_secrets:
        return Secret(b"", f"{kind} {_shown(kind, name)}")
    if kind == "env":
        return _from_environment(name, around.environ)
    return _from_file(name, around.folder)


def _from_environment(name: str, environ: Mapping[str, str]) -> Secret:
    found = environ.get(name)
    if found is None:
        raise _wrong(f"the variable {_shown('env', name)} is not set")
    try:
        value = checked(found.encode(errors="surrogateescape"), f"the variable {name}")
    except SecretFileError as exc:
        raise _wrong(str(exc)) from None
    return Secret(value, f"env {name}")


def _from_file(name: str, folder: Path) -> Secret:
    try:
        path = folder / Path(name).expanduser()
    except RuntimeError:
        told = _shown("file", name)
        raise _wrong(f"the file {told} can't be read: its home is not there") from None
    try:
        shown = name if is_there(path) else _shown("file", name)
        return Secret(read_secret(path, shown), f"file {name}")
    except SecretFileError as exc:
        raise _wrong(str(exc)) from None


def _shown(kind: str, name: str) -> str:
    """Returns what names a secret, as errors name it; not where it may be the secret itself."""
    if kind == "file":
        return shown_path(name)
    return name if _VARIABLE.fullmatch(name) else HIDDEN


def _long_enough(secret: Secret) -> Secret:
    if secret.value and len(secret.value) < MIN_SECRET_BYTES:
        raise _wrong(
            f"{secret.origin} is too short: it must have at least {MIN_SECRET_BYTES} bytes; "
            "make a longer one at the sender, like `openssl rand -hex 32`"
        )
    return secret


def standard_key(secret: Secret) -> Secret:
    """Returns a secret of Standard Webhooks as the key that it stands for."""
    if not secret.value:
        return secret
    try:
        key = standard_webhooks.SigningKey.parse(secret.value.decode()).key
    except ValueError:
        raise _wrong(
            f"{secret.origin} is no secret of Standard Webhooks: whsec_ and base64 after it"
        ) from None
    if len(key) < MIN_KEY_BYTES:
        raise _wrong(
            f"{secret.origin} is too short: it must have at least {MIN_KEY_BYTES} bytes; make a "
            "longer one, like `echo whsec_$(openssl rand -base64 32)`"
        )
    return Secret(key, secret.origin)


def _one_or_two(secrets: Sequence[Secret]) -> tuple[Secret, ...]:
    if not secrets:
        raise _wrong("names no secret")
    if len(secrets) > 2:
        raise _wrong("names more than two secrets: the old one and the new one are enough")
    if len({secret.value or secret.origin for secret in secrets}) < len(secrets):
        raise _wrong("names the same secret twice; remove one")
    return tuple(secrets)


def _wrong(message: str) -> PydanticCustomError:
    # In braces the message would be a template.
    return PydanticCustomError("secret", "{said}", {"said": message})


NamedText = Annotated[InstanceOf[Secret], BeforeValidator(read_named)]
"""A text that may hold a secret, like a URL with a password."""

SigningSecrets = Annotated[
    list[Annotated[NamedText, AfterValidator(_long_enough)]], AfterValidator(_one_or_two)
]
StandardSecrets = Annotated[
    list[Annotated[NamedText, AfterValidator(standard_key)]], AfterValidator(_one_or_two)
]
