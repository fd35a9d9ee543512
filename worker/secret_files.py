"""Secrets that stand in a file of their own, as orchestrators mount them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from worker.paths import is_file, is_there
from worker.redaction import HIDDEN

MAX_SECRET_BYTES: Final = 4096

# A path from the root or the home as people name folders; keys and tokens have large letters.
_PLAIN_PATH: Final = re.compile(r"(?:~|\.{1,2})?(?:/[a-z0-9._-]{1,40}){1,20}")


class SecretFileError(Exception):
    """A file holds no secret that can be used; the text says why, and shows nothing of it."""


def shown_path(path: str | Path) -> str:
    """Returns a path as errors name it; not one that may be the secret itself, put in its place."""
    text = str(path)
    if not text.isprintable():
        return HIDDEN
    if _PLAIN_PATH.fullmatch(text):
        return text
    # What lies where there is a folder, or a file, was meant as a path.
    place = Path(text)
    above = [each for each in place.parents if each.name]
    return text if is_there(place) or (above and is_there(above[-1])) else HIDDEN


def read_secret(path: Path, name: str) -> bytes:
    """Returns the one line that a file holds, without its end.

    Args:
        path: of the file.
        name: the file as errors name it.

    Raises:
        SecretFileError: it can't be read, or holds something else.
    """
    try:
        # Whoever opens a pipe waits for its writer.
        if not is_file(path) and is_there(path):
            raise SecretFileError(f"{name} is no file")
        with path.open("rb") as file:
            found = file.read(MAX_SECRET_BYTES + 3)
    except OSError as exc:
        raise SecretFileError(f"the file {name} can't be read: {exc.strerror or exc}") from None
    # Editors and `echo` end a file with a newline.
    return checked(found.removesuffix(b"\n").removesuffix(b"\r"), f"the file {name}")


def checked(value: bytes, where: str) -> bytes:
    """Returns a secret, which is one line of text.

    Raises:
        SecretFileError: it is none; `where` begins the text.
    """
    if not value.strip():
        raise SecretFileError(f"{where} is empty")
    if len(value) > MAX_SECRET_BYTES:
        raise SecretFileError(
            f"{where} holds more than {MAX_SECRET_BYTES} bytes; is that the secret?"
        )
    if b"\n" in value or b"\r" in value:
        raise SecretFileError(f"{where} holds a line break; write the secret on one line")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise SecretFileError(f"{where} is not UTF-8") from None
    if any(ord(each) < 0x20 or 0x7F <= ord(each) <= 0x9F for each in text):
        raise SecretFileError(f"{where} holds a control character")
    if text != text.strip():
        raise SecretFileError(f"{where} begins or ends with a blank; remove it")
    return value
