"""Results as files: those of backfills, and what is too large for its event."""

from __future__ import annotations

import mimetypes
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeVar

import fsspec
import structlog
from fsspec.implementations.local import LocalFileSystem

from schemas.enums import PartFormat
from schemas.json_text import decode_json
from worker.backfill.results.coco import PICTURES, RESULTS
from worker.backfill.results.finalization import FAILURES, REPORT, SUMMARY
from worker.backfill.results.output import Output
from worker.backfill.results.part_search import PartTooLargeError, find_in_parquet
from worker.backfill.results.parts import PARTS
from worker.errors import BusyThreadsError
from worker.files.remote_files import open_remote, translated
from worker.gateway.files.pictures import no_picture, unavailable
from worker.gateway.problems import ProblemError
from worker.redaction import redact_text
from worker.thread_pools import ThreadPool, in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractContextManager

    from worker.backfill.results.parts import Record

log = structlog.get_logger(__name__)

T = TypeVar("T")

_closers: Final = ThreadPool("closing", 4)

_PIECE_BYTES: Final = 262_144
# Of a part that is looked through for one item: as much as the page reads of one, and no more.
MOST_SEARCHED_BYTES: Final = 30_000_000
_SEARCH_SECONDS: Final = 20.0
_LAST_FILES: Final = (SUMMARY, FAILURES, REPORT, RESULTS, PICTURES)
# Nothing else that may lie there is of the results, and no such name leads out of the folder.
_PART: Final = re.compile(rf"{PARTS}/part-[0-9]{{1,12}}\.(jsonl|parquet)", re.ASCII)
# As `worker.queue.pool.results` names what it keeps: by the entry and a digest.
_KEPT: Final = re.compile(r"b?[0-9]{1,20}-[0-9]{1,20}-[0-9a-f]{16}\.json", re.ASCII)
_TYPES: Final = {
    ".jsonl": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
}


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file of a backfill's results.

    Attributes:
        size: in bytes; None where its store does not tell.
    """

    name: str
    size: int | None


def media_type(name: str) -> str:
    """Returns the media type of a file of results."""
    suffix = Path(name).suffix
    return _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


async def list_results(output: Output) -> list[ResultFile]:
    """Returns the files that are there, the last ones first.

    Raises:
        ProblemError: the gateway can't read where they lie.
    """
    return await _reading(lambda: [*_listed(output, ""), *_listed(output, PARTS)])


async def open_result(output: Output, name: str) -> tuple[AsyncIterator[bytes], int | None]:
    """Returns the bytes of a file as they are read, and how many there are.

    Raises:
        ProblemError: there is no such file, or the gateway can't read it.
    """
    if not _is_result(name):
        raise _unknown()
    opening, size = await _reading(lambda: _opened(output, name))
    # Opened before the answer begins: what can't be read is told, not cut.
    file = await _reading(opening.__enter__)
    return _pieces(opening, file), size


async def open_dataref(store: str, dataref: str) -> tuple[AsyncIterator[bytes], int | None]:
    """Returns the bytes of a result that is too large for its event, and how many there are.

    Nothing is read but what lies in the result store under a name that workers give.

    Args:
        store: `TRAINMASTER_RESULT_STORE`.
        dataref: of the event.

    Raises:
        ProblemError: it lies elsewhere, it is gone, or the gateway can't read it.
    """
    name = dataref.rpartition("/")[2]
    if _KEPT.fullmatch(name) is None:
        raise _elsewhere()
    opening, size = await _reading(lambda: _opened_kept(store, name, dataref), _elsewhere())
    file = await _reading(opening.__enter__, _elsewhere())
    return _pieces(opening, file), size


def _opened_kept(
    store: str, name: str, dataref: str
) -> tuple[AbstractContextManager[IO[bytes]], int | None]:
    filesystem, root = fsspec.url_to_fs(store)
    path = f"{root.rstrip('/')}/{name}"
    if filesystem.unstrip_protocol(path) != dataref:
        raise _elsewhere()
    if isinstance(filesystem, LocalFileSystem):
        return _opened(Output(root), name)
    with translated():
        size = filesystem.info(path).get("size")
    return open_remote(f"{store.rstrip('/')}/{name}"), size


def _elsewhere() -> ProblemError:
    return ProblemError(
        404,
        "result_elsewhere",
        "The result is not in this gateway's TRAINMASTER_RESULT_STORE: set that as the workers "
        "have it, to a store that both reach. If they are the same, somebody deleted it.",
    )


async def find_record(searching: ThreadPool, output: Output, part: str, item: int) -> Record | None:
    """Returns the record of an item; None where it stands in no such part.

    Of one in Parquet it holds only what the item was about.

    Args:
        searching: where parts are looked through: a record may take hundreds of megabytes as JSON.
        output: of the backfill.
        part: the name of a part, like `parts/part-000000.jsonl`.
        item: its number.

    Raises:
        ProblemError: there is no such part, it is too large, the gateway can't read it, or others
            are looked through for too long.
    """
    if _PART.fullmatch(part) is None:
        raise _unknown()
    find = _found if part.endswith(f".{PartFormat.JSONL}") else _found_in_parquet

    async def search(act: Callable[[], Record | None]) -> Record | None:
        try:
            return await searching.run(_SEARCH_SECONDS, act)
        except (TimeoutError, BusyThreadsError) as exc:
            raise unavailable("Parts are looked through for too long.") from exc

    return await _reading(lambda: find(output, part, item), run=search)


def _found(output: Output, part: str, item: int) -> Record | None:
    # A line may hold megabytes of frames: those of other items are not read as JSON.
    told = re.compile(rb'"item":\s*%d\b' % item)
    left = MOST_SEARCHED_BYTES
    opening, _ = _opened(output, part)
    with opening as file:
        while line := file.readline(left):
            left -= len(line)
            if told.search(line) and (record := _record(line, item)) is not None:
                return record
            if left <= 0:
                raise _too_large()
    return None


def _found_in_parquet(output: Output, part: str, item: int) -> Record | None:
    opening, _ = _opened(output, part)
    try:
        with opening as file:
            return find_in_parquet(file, item, MOST_SEARCHED_BYTES)
    except PartTooLargeError:
        raise _too_large() from None
    except ModuleNotFoundError:
        raise no_picture(
            "The part is Parquet, which this gateway can't read: install trainmaster[parquet]."
        ) from None


def _too_large() -> ProblemError:
    return no_picture("The part is too large to be looked through; download it.")


def _record(line: bytes, item: int) -> Record | None:
    try:
        record = decode_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.get("item") == item else None


def _is_result(name: str) -> bool:
    return name in _LAST_FILES or _PART.fullmatch(name) is not None


def _listed(output: Output, folder: str) -> list[ResultFile]:
    location = output.path(folder) if folder else output.location
    filesystem, root = fsspec.url_to_fs(location)
    if not filesystem.exists(root):
        return []
    found = []
    for entry in filesystem.ls(root, detail=True):
        last = str(entry["name"]).rstrip("/").rpartition("/")[2]
        name = f"{folder}/{last}" if folder else last
        if entry.get("type") != "directory" and _is_result(name):
            found.append(ResultFile(name, entry.get("size")))
    return sorted(found, key=lambda each: each.name)


def _opened(output: Output, name: str) -> tuple[AbstractContextManager[IO[bytes]], int | None]:
    if output.folder is None:
        return open_remote(output.path(name)), None
    root = output.folder.resolve()
    path = (output.folder / name).resolve()
    if not path.is_relative_to(root):
        raise FileNotFoundError
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FileNotFoundError
    return os.fdopen(descriptor, "rb"), status.st_size


async def _pieces(
    opening: AbstractContextManager[IO[bytes]], file: IO[bytes]
) -> AsyncIterator[bytes]:
    try:
        while piece := await in_thread(file.read, _PIECE_BYTES):
            yield piece
    finally:
        # Whoever hangs up has this cancelled, and what is waited for with it; and a read that is
        # under way may keep the file for a while.
        _closers.submit(opening.__exit__, None, None, None)


async def _reading(
    act: Callable[[], T],
    missing: ProblemError | None = None,
    run: Callable[[Callable[[], T]], Awaitable[T]] = in_thread,
) -> T:
    try:
        return await run(act)
    except FileNotFoundError:
        raise missing or _unknown() from None
    except ProblemError:
        raise
    except Exception as exc:
        # Every kind of store has errors of its own.
        raise unreadable(exc) from exc


def unreadable(error: Exception) -> ProblemError:
    """Returns the problem of results that lie where the gateway can't read."""
    log.warning("gateway.results_unreadable", error=redact_text(f"{type(error).__name__}: {error}"))
    return ProblemError(
        502,
        "results_unreadable",
        "The gateway can't read where the results lie; its log says why. It must reach the "
        "workers' TRAINMASTER_RESULT_STORE.",
    )


def _unknown() -> ProblemError:
    return ProblemError(
        404,
        "unknown_file",
        "There is no such file of this backfill's results, not yet or not where the gateway can "
        "read; GET …/results lists them.",
    )
