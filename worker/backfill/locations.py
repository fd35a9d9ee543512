"""Where sources and results lie: paths and URLs, and how they are told to people."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

_HTTP: Final = ("http://", "https://")
PACKED_SUFFIXES: Final = frozenset({".gz", ".bz2", ".xz", ".zst"})


def is_web(location: str) -> bool:
    """Tells whether a location is read over HTTP."""
    return location.lower().startswith(_HTTP)


def suffix_of(location: str) -> str:
    """Returns the suffix that tells a format, like `.csv` of `items.csv.gz?signature=…`."""
    suffixes = [each.lower() for each in PurePosixPath(_path_of(location)).suffixes]
    if suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_packed(location: str) -> bool:
    """Tells whether the name of a file says that it is packed."""
    return PurePosixPath(_path_of(location)).suffix.lower() in PACKED_SUFFIXES


def beside(location: str, path: str) -> str:
    """Returns where a path that a manifest names lies: beside the manifest, unless absolute.

    Args:
        location: of the manifest.
        path: as the manifest says it; a URL stays one.
    """
    if not path or path.startswith("/") or "://" in path:
        return path
    if "://" not in location:
        return str(PurePosixPath(location).parent / path)
    if is_web(location):
        # The query of a signed URL holds slashes too, and is none of the file's beside it.
        location = location.partition("#")[0].partition("?")[0]
    return f"{location.rpartition('/')[0]}/{path}"


def _path_of(location: str) -> str:
    if is_web(location):
        return unquote(urlsplit(location).path)
    return location.partition("?")[0] if "://" in location else location
