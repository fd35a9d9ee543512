"""Where sources and results lie: paths and URLs, and how they are told to people."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from worker.redaction import redact_url

STDIN: Final = "-"
_HTTP: Final = ("http://", "https://")
# Between the links of fsspec's chains: zip://items.csv::https://host/outside.zip
_CHAINED: Final = "::"
PACKED_SUFFIXES: Final = frozenset({".gz", ".bz2", ".xz", ".zst"})


def shown_place(location: str) -> str:
    """Returns a location as it is told to people, without what a URL hides."""
    return "standard input" if location == STDIN else redact_url(location)


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
    if not path or path.startswith("/") or "://" in path or path.lower().startswith("file:/"):
        return path
    if "://" not in location:
        return str(PurePosixPath(location).parent / path)
    before, location, behind = _links(location)
    return f"{before}{_beside(location, path)}{behind}"


def _beside(location: str, path: str) -> str:
    if is_web(location):
        # The query of a signed URL holds slashes too, and is none of the file's beside it.
        location = location.partition("#")[0].partition("?")[0]
    return f"{location.rpartition('/')[0]}/{path}"


def _links(location: str) -> tuple[str, str, str]:
    """Returns the link of a chain of URLs that names the file, and what stands before and behind.

    It is the first with a place; those before it, like `simplecache`, say how it is read.
    """
    if is_web(location):
        return "", location, ""
    links = location.split(_CHAINED)
    at = next((number for number, link in enumerate(links) if "://" in link), 0)
    before = "".join(link + _CHAINED for link in links[:at])
    if is_web(links[at]):
        # An address like [::1] is none of the chain's, and nothing is read behind a web server.
        return before, _CHAINED.join(links[at:]), ""
    return before, links[at], "".join(_CHAINED + link for link in links[at + 1 :])


def _path_of(location: str) -> str:
    if "://" in location:
        location = _links(location)[1]
    if is_web(location):
        return unquote(urlsplit(location).path)
    return location.partition("?")[0] if "://" in location else location
