"""The kinds of values that settings have: how each is read, checked and told.

An error names no value, for one may hold a password; it says what the setting names and what is
wrong with that.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from worker.errors import SettingError
from worker.paths import is_file, is_folder
from worker.redis_address import RedisAddress

DAY: Final = 86_400
# Several links of fsspec's are one URL: zip://*::s3://bucket/items.zip
_URL: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*::)*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_TWO_URLS: Final = re.compile(r"[,;][a-z][a-z0-9+.-]*://", re.IGNORECASE)
NAMESPACES: Final = r"^[A-Za-z0-9._-]{1,64}(,[A-Za-z0-9._-]{1,64})*$"


def _check_redis_url(value: SecretStr) -> SecretStr:
    try:
        RedisAddress.parse(value.get_secret_value()).check_files()
    except SettingError as exc:
        said = exc.message.removeprefix("TRAINMASTER_REDIS_URL ")
        raise PydanticCustomError("redis_url", "{said}", {"said": said}) from None
    return value


def _check_namespaces(value: str) -> str:
    names = value.split(",")
    if len(set(names)) < len(names):
        raise PydanticCustomError("namespaces", "names a namespace twice")
    return value


def _split_paths(value: object) -> object:
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


def _split_words(value: object) -> object:
    return value.split() if isinstance(value, str) else value


def _split_address(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, _, port = value.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_bracketed else host
    # Without a host it would be open to all, without a word.
    if not host or not port.isdecimal() or (":" in host) != is_bracketed or set(host) & set("*/@"):
        raise PydanticCustomError(
            "address", "names no host and port; write it like 127.0.0.1:9090 or [::1]:9090"
        )
    if int(port) > 65_535:
        raise PydanticCustomError("port", "names a port above 65535")
    return host, int(port)


def _check_url(url: str) -> str:
    # The value is not told: a URL may hold a password.
    if not _URL.match(url):
        raise PydanticCustomError("url", "names what is no URL; each is like s3://bucket/folder/")
    if _TWO_URLS.search(url):
        raise PydanticCustomError("urls", "must have blanks between its URLs")
    return url


def _check_folder(path: Path) -> Path:
    try:
        resolved = path.expanduser().resolve(strict=True)
    except (OSError, RuntimeError) as exc:
        raise PydanticCustomError("folder", "names a folder that is not there") from exc
    if not resolved.is_dir():
        raise PydanticCustomError("folder", "names something that is not a folder")
    return resolved


def _expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as exc:
        raise PydanticCustomError("home", "names a home that is not there") from exc


def _check_place(path: Path) -> Path:
    if not is_folder(path.parent):
        raise PydanticCustomError("place", "names a file in a folder that is not there")
    return path


def _check_file(path: Path) -> Path:
    if not is_file(path):
        raise PydanticCustomError("file", "names a file that is not there")
    return path


RedisUrl = Annotated[SecretStr, AfterValidator(_check_redis_url)]
Namespaces = Annotated[
    str, StringConstraints(pattern=NAMESPACES), AfterValidator(_check_namespaces)
]
Folder = Annotated[Path, AfterValidator(_check_folder)]
FolderPaths = Annotated[tuple[Folder, ...], NoDecode, BeforeValidator(_split_paths)]
HomePath = Annotated[Path, AfterValidator(_expand_home)]
# A file that is there, and one that need not be yet.
File = Annotated[HomePath, AfterValidator(_check_file)]
FilePlace = Annotated[HomePath, AfterValidator(_check_place)]
Urls = Annotated[
    tuple[Annotated[str, AfterValidator(_check_url)], ...],
    NoDecode,
    BeforeValidator(_split_words),
]
# With its None inside: who reads the environment looks for NoDecode outermost.
OptionalAddress = Annotated[tuple[str, int] | None, NoDecode, BeforeValidator(_split_address)]


def state_folder() -> Path:
    """Returns where what outlives a process is kept unless a setting says otherwise."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "trainmaster"


def seconds(default: float, *, ge: float, le: float, description: str) -> Any:
    """Returns the field of a time in seconds."""
    return Field(default, ge=ge, le=le, description=description, json_schema_extra={"unit": "s"})


def count(default: int, *, ge: int, le: int, description: str, unit: str = "") -> Any:
    """Returns the field of a whole number."""
    return Field(default, ge=ge, le=le, description=description, json_schema_extra={"unit": unit})
