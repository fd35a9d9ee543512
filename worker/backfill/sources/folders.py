"""Sources that are a folder, on a disk of this machine or behind a URL: of images, or of parts."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from schemas.enums import SourceFormat
from schemas.wording import counted
from worker.backfill.errors import EmptySourceError, SourceError
from worker.backfill.locations import PACKED_SUFFIXES, suffix_of
from worker.backfill.sources.meaning import meant
from worker.backfill.sources.opening import readable
from worker.backfill.sources.rows import ITEM_FIELDS, SourceRow
from worker.files.remote_files import filesystem_of, http_options, is_http
from worker.paths import is_folder
from worker.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from worker.backfill.sources.rows import Source

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
TABLE_FORMATS: Final[dict[str, SourceFormat]] = {
    ".jsonl": SourceFormat.JSONL,
    ".ndjson": SourceFormat.JSONL,
    ".json": SourceFormat.JSONL,
    ".csv": SourceFormat.CSV,
    ".parquet": SourceFormat.PARQUET,
    ".pq": SourceFormat.PARQUET,
}
# What systems and programs leave in folders, besides what begins with a dot.
_LEFT_BEHIND: Final = frozenset({
    "$recycle.bin",
    "@eadir",
    "__macosx",
    "desktop.ini",
    "system volume information",
    "thumbs.db",
})
# How Hive names the folder of rows without a value.
_NO_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"
_LINK: Final = "links to folders"
# A server that lists a folder may be silent for so long.
_IDLE_SECONDS: Final = 60.0
# And one that never ends its list would hold a thread for ever.
_LIST_SECONDS: Final = 300.0
_NO_SUFFIX: Final = "files without a suffix"
_SINGLE: Final = {_LINK: "link to a folder", _NO_SUFFIX: "file without a suffix"}
_MOST_SUFFIX: Final = 12


@dataclass(frozen=True, slots=True)
class Found:
    """A file below a folder, or what stands there in place of one.

    Attributes:
        parts: of its path below the folder.
        kind: its suffix, or what it is.
    """

    parts: tuple[str, ...]
    kind: str

    @property
    def path(self) -> str:
        """Its path below the folder."""
        return "/".join(self.parts)


@dataclass(frozen=True, slots=True)
class Folder:
    """The images below a folder, in the order of their names; the position is a quoted path.

    Attributes:
        location: a path, or a URL that fsspec can list.
        passed: counts what is no image, by its kind, as far as it was read.
        follows: whether a server may send us on to another one.
    """

    location: str
    passed: Counter[str] = field(default_factory=Counter)
    follows: bool = True

    def rows(self, after: str) -> Iterator[SourceRow]:
        for found in walk(self.location, _parts_of(after), follows=self.follows):
            if found.kind not in PICTURE_SUFFIXES:
                self.passed[found.kind] += 1
                continue
            relative = found.path
            position = quote(relative, errors="surrogateescape")
            if relative.isascii() or _is_utf8(relative):
                path = f"{self.location.rstrip('/')}/{relative}"
                yield SourceRow(position, relative, {"data_path": path})
            else:
                shown_name = relative.encode("utf-8", "replace").decode()
                yield SourceRow(position, shown_name, None, "its name is not UTF-8")


@dataclass(frozen=True, slots=True)
class Parts:
    """The rows of all files of one format below a folder, in the order of their names.

    The position is the quoted path of a file and the position in it, with a colon between.

    Attributes:
        location: a path, or a URL that fsspec can list.
        source_format: of the files; those of others are passed over.
        open_part: returns the source that one of them is.
        columns: that are mapped, by the parameter.
        passed: counts files of other formats, by their kind, as far as it was read.
        follows: whether a server may send us on to another one.
    """

    location: str
    source_format: SourceFormat
    open_part: Callable[[str], Source]
    columns: Mapping[str, str]
    passed: Counter[str] = field(default_factory=Counter)
    follows: bool = True

    def rows(self, after: str) -> Iterator[SourceRow]:
        name, _, within = after.partition(":")
        behind = _parts_of(name)
        if behind:
            yield from self._part(Found(behind, ""), within)
        for found in walk(self.location, behind, follows=self.follows):
            if found.parts[-1].startswith("_") or found.kind == ".crc":
                # What those leave beside parts who write them, like _SUCCESS.
                continue
            if TABLE_FORMATS.get(found.kind) is not self.source_format:
                self.passed[found.kind] += 1
                continue
            yield from self._part(found, "")

    def part_locations(self) -> Iterator[str]:
        """Yields where the parts lie."""
        for found in walk(self.location, (), follows=self.follows):
            is_part = TABLE_FORMATS.get(found.kind) is self.source_format
            if is_part and not found.parts[-1].startswith("_"):
                yield self._location(found)

    def _location(self, found: Found) -> str:
        return f"{self.location.rstrip('/')}/{found.path}"

    def _part(self, found: Found, within: str) -> Iterator[SourceRow]:
        location = self._location(found)
        position = quote(found.path, errors="surrogateescape")
        said = self._said_by_folders(found.parts[:-1])
        try:
            for row in self.open_part(location).rows(within):
                yield replace(
                    row,
                    fields=said | dict(row.fields) if said and row.fields else row.fields,
                    position=f"{position}:{row.position}",
                    place=f"{found.path}: {row.place}",
                    manifest=location,
                )
        except EmptySourceError:
            # Who writes in many parts writes some without any rows; this one had some.
            if within:
                raise

    def _said_by_folders(self, folders: tuple[str, ...]) -> dict[str, Any]:
        """Returns what folders like `conf_thresh=0.5` say of all items in them.

        Source: Hive's partitions, as Spark, pyarrow and others write them.
        """
        fields = {self.columns.get(name, name): name for name in ITEM_FIELDS}
        said: dict[str, Any] = {}
        for folder in folders:
            column, is_partition, text = (unquote(each) for each in folder.partition("="))
            if not is_partition or column not in fields or text == _NO_PARTITION:
                continue
            try:
                said[column] = meant(fields[column], text, is_text=True)
            except ValueError:
                # Each item fails by it, as by a value of its own.
                said[column] = text
        return said


def folder_format(location: str, *, follows: bool = True) -> SourceFormat:
    """Returns what a folder is by what it holds: images, or files of one format.

    Args:
        location: a path, or a URL that fsspec can list.
        follows: whether a server may send us on to another one.

    Raises:
        SourceError: it holds neither, or files of several formats.
    """
    tables: Counter[SourceFormat] = Counter()
    kinds: Counter[str] = Counter()
    for found in walk(location, (), follows=follows):
        if found.kind in PICTURE_SUFFIXES:
            return SourceFormat.FOLDER
        if found.parts[-1].startswith("_"):
            continue
        kinds[found.kind] += 1
        if found.kind in TABLE_FORMATS:
            tables[TABLE_FORMATS[found.kind]] += 1
    if len(tables) == 1:
        return next(iter(tables))
    if tables:
        raise SourceError(
            f"{redact_url(location)}: holds no images, and files of more than one format: "
            f"{tell_kinds(kinds)}. Say which are meant with --format (in a command: format)"
        )
    raise no_images(location, kinds)


def no_images(location: str, passed: Mapping[str, int]) -> SourceError:
    """Returns the error of a folder that holds none of what could be an item."""
    holds = f"it holds {tell_kinds(passed)}" if passed else "it is empty"
    if _LINK in passed:
        holds += f", which {'is' if passed[_LINK] == 1 else 'are'} not followed"
    return SourceError(
        f"{redact_url(location)}: holds no images that can be sent ({', '.join(_known())}); "
        f"{holds}. Convert or name such images, or name a manifest"
    )


def tell_kinds(passed: Mapping[str, int]) -> str:
    """Returns what was passed over for people, like `3 .heic, 1 link to a folder`."""
    ranked = sorted(passed.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(counted(count, _SINGLE.get(kind, kind), kind) for kind, count in ranked)


def walk(location: str, behind: tuple[str, ...], *, follows: bool = True) -> Iterator[Found]:
    """Yields what lies below a folder behind a path; the names of one folder at a time are held.

    Hidden files and folders, and what systems leave behind, are not told.

    Args:
        location: a path, or a URL that fsspec can list.
        behind: parts of a path below it, none for everything.
        follows: whether a web server may send us on to another one. On to another of its own
            addresses it may: most do so where a folder is named without the slash at its end.

    Raises:
        SourceError: it can't be listed.
    """
    if "://" in location:
        with readable(location):
            # Each folder is listed once: a cache would only keep a million names.
            options: dict[str, Any] = {"use_listings_cache": False}
            if is_http(location):
                options |= http_options(idle_seconds=_IDLE_SECONDS, total_seconds=_LIST_SECONDS)
                options["client_kwargs"]["stays_at"] = "" if follows else location
            filesystem, root = filesystem_of(location, **options)
        yield from _walk(filesystem, root, (), behind)
        return
    if not is_folder(location):
        raise SourceError(f"{location}: there is no such folder")
    yield from _walk(None, location, (), behind)


def _walk(
    filesystem: Any, root: str, within: tuple[str, ...], behind: tuple[str, ...]
) -> Iterator[Found]:
    path = "/".join((root.rstrip("/"), *within)) or "/"
    for name, kind in _local(path) if filesystem is None else _remote(filesystem, path):
        if _is_hidden(name):
            continue
        parts = (*within, name)
        if kind:
            if parts > behind:
                yield Found(parts, kind)
        elif parts >= behind[: len(parts)]:
            yield from _walk(filesystem, root, parts, behind)


def _is_hidden(name: str) -> bool:
    # A list of a web server's begins with links that sort it.
    return name.startswith((".", "?")) or name.lower() in _LEFT_BEHIND


def _parts_of(position: str) -> tuple[str, ...]:
    return tuple(unquote(position, errors="surrogateescape").split("/")) if position else ()


def _kind(name: str) -> str:
    """Returns the suffix of a file's name, where it is one."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - of a name, not a path
    if suffix in PACKED_SUFFIXES and (inner := suffix_of(name)):
        suffix = inner
    if not suffix or not suffix.isascii() or not suffix.isprintable():
        return _NO_SUFFIX
    return suffix if len(suffix) <= _MOST_SUFFIX else _NO_SUFFIX


def _known() -> list[str]:
    return sorted(PICTURE_SUFFIXES)


def _is_utf8(name: str) -> bool:
    """Tells whether a name has no bytes that are kept as surrogates, which JSON can't hold."""
    return not any("\udc80" <= character <= "\udcff" for character in name)


def _local(path: str) -> list[tuple[str, str]]:
    """Returns names and what each is, in order; a folder is nothing, a link to one is told."""
    try:
        with os.scandir(path) as entries:
            return sorted((entry.name, _kind_of(entry)) for entry in entries)
    except OSError as exc:
        raise SourceError(f"{path}: can't be listed: {exc.strerror}") from exc


def _kind_of(entry: os.DirEntry[str]) -> str:
    if entry.is_dir(follow_symlinks=False):
        return ""
    return _LINK if entry.is_symlink() and _leads_to_folder(entry) else _kind(entry.name)


def _leads_to_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:
        # It leads to itself, or to where we may not look: its item fails, and no other.
        return False


def _remote(filesystem: Any, path: str) -> list[tuple[str, str]]:
    url = filesystem.unstrip_protocol(path)
    with readable(url):
        try:
            entries = filesystem.ls(path, detail=True)
        except FileNotFoundError as exc:
            raise SourceError(f"{redact_url(url)}: there is no such folder") from exc
    told = ((str(each["name"]).rstrip("/"), each["type"] == "directory") for each in entries)
    # Object stores list a folder's own marker beside what lies in it.
    names = ((name.rpartition("/")[2], is_folder) for name, is_folder in told if name != path)
    return sorted((name, "" if is_folder else _kind(name)) for name, is_folder in names)
