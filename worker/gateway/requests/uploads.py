"""Manifests that come as bodies: kept whole in a temporary file, then where workers read them."""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

import structlog

from worker.backfill.errors import OutputError
from worker.backfill.results.output import Output, folder_name
from worker.gateway.problems import ProblemError
from worker.gateway.requests.bodies import read_parts
from worker.redaction import redact_text
from worker.thread_pools import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fastapi import Request

    from worker.gateway.requests.bodies import Bounds

log = structlog.get_logger(__name__)

_PIECE_BYTES: Final = 1_048_576
_DIGEST_CHARACTERS: Final = 16
# A quota, and the most that one file may have, are a disk that is full to whoever sends.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Spooled:
    """A manifest that is whole, in a file without a name: nothing of it outlives its process.

    Attributes:
        digest: of its content, so that another content under the same id is another source.
    """

    file: IO[bytes]
    digest: str
    size: int


def check_uploads(location: str | None) -> str:
    """Returns where uploads go.

    Raises:
        ProblemError: nothing says where.
    """
    if location is None:
        raise ProblemError(
            501,
            "uploads_not_set",
            "This gateway takes no manifests: set TRAINMASTER_GATEWAY_UPLOADS to a folder below "
            "the workers' TRAINMASTER_DATA_ROOTS, or a URL below one of their "
            "TRAINMASTER_SOURCE_URLS; or send the command backfill with a source that they can "
            "read already.",
        )
    return location


@asynccontextmanager
async def spooled_body(request: Request, bounds: Bounds) -> AsyncIterator[Spooled]:
    """Reads a body to its end, whatever its size; gone when the context ends.

    Raises:
        ProblemError: it is too large, too slow, empty, ends early, or there is no room for it.
    """
    with _temporary_file() as file:
        digest = hashlib.sha256()
        waiting = bytearray()
        size = 0
        async for part in read_parts(request, bounds):
            digest.update(part)
            size += len(part)
            waiting += part
            if len(waiting) >= _PIECE_BYTES:
                await _write(file, bytes(waiting))
                waiting.clear()
        if not size:
            raise ProblemError(400, "empty_manifest", "The body is empty: it is the manifest.")
        await _write(file, bytes(waiting))
        yield Spooled(file, digest.hexdigest(), size)


@asynccontextmanager
async def spooled_file(output: Output, name: str) -> AsyncIterator[Spooled]:
    """Reads a file of a backfill's results likewise.

    Raises:
        OSError: it can't be read.
        ProblemError: there is no room for it.
    """
    with _temporary_file() as file:

        def copy() -> Spooled:
            digest = hashlib.sha256()
            with output.read(name) as source:
                while piece := source.read(_PIECE_BYTES):
                    digest.update(piece)
                    try:
                        _written(file, piece)
                    except OSError as exc:
                        raise _unwritable(exc) from exc
            return Spooled(file, digest.hexdigest(), file.tell())

        yield await in_thread(copy)


def upload_name(backfill_id: str, spooled: Spooled, suffix: str) -> str:
    """Returns the name of a manifest's file: the same for the same id and content only."""
    return f"{folder_name(backfill_id)}-{spooled.digest[:_DIGEST_CHARACTERS]}.{suffix}"


async def store(spooled: Spooled, uploads: str, name: str) -> None:
    """Puts a manifest where workers read it; it is there whole or not.

    Raises:
        ProblemError: it can't be written.
    """
    try:
        await in_thread(_copy, spooled, Output(uploads), name)
    except (OutputError, OSError) as exc:
        raise _unwritable(exc) from exc


def _copy(spooled: Spooled, output: Output, name: str) -> None:
    spooled.file.seek(0)
    with output.write(name) as file:
        shutil.copyfileobj(spooled.file, file, _PIECE_BYTES)


@contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    """Opens a file without a name.

    Raises:
        ProblemError: there is no room for it.
    """
    try:
        # Closed below: what could not be written is written once more then, and fails again.
        file = tempfile.TemporaryFile()  # noqa: SIM115
    except OSError as exc:
        raise _unwritable(exc) from exc
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


async def _write(file: IO[bytes], piece: bytes) -> None:
    try:
        await in_thread(_written, file, piece)
    except OSError as exc:
        raise _unwritable(exc) from exc


def _written(file: IO[bytes], piece: bytes) -> None:
    file.write(piece)
    # Or a full disk is found out only at the end.
    file.flush()


def _unwritable(error: BaseException) -> ProblemError:
    log.warning("gateway.upload_failed", error=redact_text(str(error)))
    why = "the gateway's log says why. Send it again"
    if _is_full(error):
        why = "the disk that it goes to is full. Send it again once operators have made room"
    return ProblemError(
        503,
        "uploads_unavailable",
        f"The manifest can't be kept at the moment: {why}.",
        headers={"Retry-After": "10", "Connection": "close"},
    )


def _is_full(error: BaseException) -> bool:
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in _FULL:
            return True
        found = found.__cause__
    return False
