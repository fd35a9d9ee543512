"""What commands may have read: files below the data roots, URLs that an operator has named.

Others write the commands, so a path is resolved before it is looked at, what was opened is looked
at once more, and of what lies outside not even its existence is told.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import unquote

from schemas.events import ErrorCode, Problem
from worker.errors import InputError, RetryableError
from worker.files.remote_files import TooLargeError, read_whole
from worker.paths import is_there
from worker.shortages import may_pass, shortage_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.errors import TrainmasterError


# As libraries write it: Python with three slashes, Java with one.
_FILE: Final = re.compile(r"file:(?://localhost(?=/)|//|(?=/))", re.IGNORECASE)
# What ends a name in a path: what follows it is a query, and to some servers a parameter.
_PATH_ENDS: Final = re.compile(r"[/?#;]")
# What reads URLs leaves some of these out, and so makes `..` of what is none.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class AllowedFiles:
    """Files below some roots, for one field of a command.

    Attributes:
        roots: folders, links resolved.
        field: what errors name, like `data.data_path`.
        most_bytes: a larger file is refused.
        setting: names the roots, for whoever is refused.
    """

    roots: tuple[Path, ...]
    field: str
    most_bytes: int
    setting: str = "TRAINMASTER_DATA_ROOTS"

    def read(self, path: Path) -> bytes:
        """Returns what a file holds; raises what `read_within` does."""
        content = self.read_within(path, self.most_bytes)
        # No larger file has been let through.
        assert isinstance(content, bytes)  # noqa: S101
        return content

    def read_within(self, path: Path, room_bytes: int) -> bytes | int:
        """Returns what a file holds, or its size where that is more than there is room for.

        Links are resolved first, and the file that was opened is looked at once more: a link that
        is swapped between the check and the opening gains nothing.

        Raises:
            InputError: outside the roots, not a plain file, unreadable, or too large.
            RetryableError: the disk, or the machine, can't give it at the moment.
        """
        file, size = self.open(path)
        try:
            with file:
                if size > room_bytes:
                    return size
                return read_whole(file, self.most_bytes, size)
        except TooLargeError as exc:
            raise self._too_large() from exc
        except OSError as exc:
            raise self._failure("read", exc) from exc

    def open(self, path: Path) -> tuple[BinaryIO, int]:
        """Returns a file that may be read, open at its beginning, and its size.

        Raises:
            InputError, RetryableError: as `read_within` does.
        """
        descriptor = self._opened(path)
        try:
            size = self._check_opened(descriptor)
            return os.fdopen(descriptor, "rb"), size
        except OSError as exc:
            os.close(descriptor)
            raise self._failure("read", exc) from exc
        except BaseException:
            os.close(descriptor)
            raise

    def _opened(self, path: Path) -> int:
        if not self.roots:
            raise self._refusal(f"no folder may be read: {self.setting} is not set")
        try:
            # Not strictly: of what lies outside the roots not even its existence is told.
            resolved = path.resolve()
            if not is_below(resolved, self.roots):
                raise self._refusal(self._outside(path))
            return os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            raise self._failure("opened", exc) from exc
        except (ValueError, RuntimeError) as exc:
            raise self._refusal("the file can't be opened: not a usable path") from exc

    def _failure(self, act: str, exc: OSError) -> TrainmasterError:
        """Returns the error of a file that the system won't give: for good, or for now."""
        short = shortage_error(exc)
        if short is not None:
            return short
        message = f"the file can't be {act}: {exc.strerror or exc}"
        if may_pass(exc):
            return RetryableError(f"{self.field}: {message}", code=ErrorCode.DATA_UNAVAILABLE)
        return self._refusal(message)

    def _check_opened(self, descriptor: int) -> int:
        """Returns the size of a file that may be read."""
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise self._refusal("not a plain file")
        opened = _opened_path(descriptor)
        if opened is not None and not is_below(opened, self.roots):
            raise self._refusal(self._outside(opened))
        if status.st_size > self.most_bytes:
            raise self._too_large()
        return status.st_size

    def _outside(self, path: Path) -> str:
        return outside("file", path, self.setting)

    def _too_large(self) -> InputError:
        return self._refusal(f"the file is larger than {self.most_bytes} bytes")

    def _refusal(self, message: str) -> InputError:
        return input_error(self.field, message)


def local_path(place: str) -> Path | None:
    """Returns the path that a command names, by itself or as a file's URL; None of another URL.

    A file's URL has its blanks and letters percent-encoded, as libraries write it, or as they are.
    """
    found = _FILE.match(place)
    path = place[found.end() :] if found else place
    if not path.startswith("/") and ("://" in path or "::" in path):
        # fsspec's chains of URLs too.
        return None
    if path == place or "%" not in path or is_there(path):
        return Path(path)
    return Path(unquote(path, errors="surrogateescape"))


def outside(what: str, path: Path, setting: str = "TRAINMASTER_DATA_ROOTS") -> str:
    """Returns what is wrong with a path, as it was named, that leads out of all roots."""
    said = f"the {what} lies outside the folders of {setting}"
    if path.is_absolute():
        return said
    return f"{said}: a path without / at its beginning is one in the folder that the worker runs in"


def is_below(path: Path, roots: Sequence[Path]) -> bool:
    """Tells whether a resolved path is one of the roots or lies below one."""
    return any(path.is_relative_to(root) for root in roots)


def may_be_read(url: str, beginnings: Sequence[str]) -> bool:
    """Tells whether a URL lies below one of those that an operator has named.

    A beginning ends where a part of the path does: `s3://bucket` names no `s3://bucket-of-others`.
    """
    # fsspec reads `a::b` as a inside b, wherever b is; a server may read `..` as we do not, and
    # decode what we have decoded.
    plain = unquote(unquote(url)).replace("\\", "/")
    if "::" in plain or ".." in _PATH_ENDS.split(plain) or _CONTROL.search(plain):
        return False
    return any(
        url == each or url.startswith(each if each.endswith("/") else f"{each}/")
        for each in beginnings
    )


def input_error(field: str, message: str) -> InputError:
    """Returns the error of a field that names what can't be used."""
    return InputError(
        message,
        code=ErrorCode.INVALID_INPUT,
        problems=[Problem(path=field, message=message)],
    )


def _opened_path(descriptor: int) -> Path | None:
    """Returns where an open file really lies, as the kernel knows it; None where it won't tell.

    The link is read, not followed: what lies at its path by now is of no interest.
    """
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        return None
