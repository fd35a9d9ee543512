"""The files of the page, as they are sent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

INDEX: Final = "index.html"

_MEDIA_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page.

    Attributes:
        tag: its ETag, quoted, which changes when its bytes do.
    """

    body: bytes
    media_type: str
    tag: str


@cache
def load_assets() -> dict[str, Asset]:
    """Returns every file of the page by its path below `static`, with `/` between folders.

    They are read once: half a megabyte.
    """
    folder = files("worker.gateway.page").joinpath("static")
    return {name: _asset(name, file.read_bytes()) for name, file in _walk(folder, "")}


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _walk(each, f"{prefix}{each.name}/")
        elif each.name.rpartition(".")[2] in _MEDIA_TYPES:
            yield f"{prefix}{each.name}", each


def _asset(name: str, body: bytes) -> Asset:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return Asset(body, _MEDIA_TYPES[name.rpartition(".")[2]], tag)
