"""Sources that are a folder of images, on a disk of this machine or behind a URL."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

import fsspec

from worker.backfill.errors import SourceError
from worker.backfill.rows import SourceRow, readable

if TYPE_CHECKING:
    from collections.abc import Iterator

PICTURE_SUFFIXES: Final = frozenset({
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".png",
    ".tif",
    ".tiff",
    ".webp",
})


@dataclass(frozen=True, slots=True)
class Folder:
    """The images below a folder, in the order of their names; the position is a quoted path.

    Attributes:
        location: a path, or a URL that fsspec can list.
    """

    location: str

    def rows(self, after: str) -> Iterator[SourceRow]:
        behind = tuple(unquote(after, errors="surrogateescape").split("/")) if after else ()
        filesystem, root = self._filesystem()
        for parts in self._walk(filesystem, root, (), behind):
            relative = "/".join(parts)
            position = quote(relative, errors="surrogateescape")
            if relative.isascii() or _is_utf8(relative):
                path = f"{self.location.rstrip('/')}/{relative}"
                yield SourceRow(position, relative, {"data_path": path})
            else:
                shown = relative.encode("utf-8", "replace").decode()
                yield SourceRow(position, shown, None, "its name is not UTF-8")

    def _filesystem(self) -> tuple[Any, str]:
        """Returns what lists the folder and its path there; None lists those of this machine."""
        if "://" in self.location:
            with readable(self.location):
                # Each folder is listed once: a cache would only keep a million names.
                filesystem, root = fsspec.url_to_fs(self.location, use_listings_cache=False)
            return filesystem, str(root)
        if not Path(self.location).is_dir():
            raise SourceError(f"{self.location}: there is no such folder")
        return None, self.location

    def _walk(
        self, filesystem: Any, root: str, within: tuple[str, ...], behind: tuple[str, ...]
    ) -> Iterator[tuple[str, ...]]:
        """Yields the parts of paths; the names of one folder at a time are in memory."""
        path = "/".join((root.rstrip("/"), *within)) or "/"
        for name, is_folder in _local(path) if filesystem is None else _remote(filesystem, path):
            parts = (*within, name)
            if is_folder and parts >= behind[: len(parts)]:
                yield from self._walk(filesystem, root, parts, behind)
            elif not is_folder and parts > behind and _is_picture(name):
                yield parts


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def _is_utf8(name: str) -> bool:
    """Tells whether a name has no bytes that are kept as surrogates, which JSON can't hold."""
    return not any("\udc80" <= character <= "\udcff" for character in name)


def _local(path: str) -> list[tuple[str, bool]]:
    """Returns names and whether each is a folder, in order; a link to a folder is none."""
    try:
        with os.scandir(path) as entries:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as exc:
        raise SourceError(f"{path}: can't be listed: {exc.strerror}") from exc


def _remote(filesystem: Any, path: str) -> list[tuple[str, bool]]:
    url = filesystem.unstrip_protocol(path)
    with readable(url):
        try:
            entries = filesystem.ls(path, detail=True)
        except FileNotFoundError as exc:
            raise SourceError(f"{url}: there is no such folder") from exc
    told = ((str(each["name"]).rstrip("/"), each["type"] == "directory") for each in entries)
    # Object stores list a folder's own marker beside what lies in it.
    return sorted((name.rpartition("/")[2], is_folder) for name, is_folder in told if name != path)
