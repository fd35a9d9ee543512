"""Manifests that come as bodies: kept whole in a temporary file, then where workers read them."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

import structlog

from worker.backfill.errors import OutputError
from worker.backfill.output import Output, folder_name
from worker.gateway.bodies import read_parts
from worker.gateway.problems import ProblemError
from worker.redaction import redact_text
from worker.thread_pools import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import Request

    from worker.gateway.bodies import Bounds

log = structlog.get_logger(__name__)

_PIECE_BYTES: Final = 1_048_576
_DIGEST_CHARACTERS: Final = 16


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
    with tempfile.TemporaryFile() as file:
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
    """
    with tempfile.TemporaryFile() as file:

        def copy() -> Spooled:
            digest = hashlib.sha256()
            with output.read(name) as source:
                while piece := source.read(_PIECE_BYTES):
                    digest.update(piece)
                    file.write(piece)
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


async def _write(file: IO[bytes], piece: bytes) -> None:
    try:
        await in_thread(_written, file, piece)
    except OSError as exc:
        raise _unwritable(exc) from exc


def _written(file: IO[bytes], piece: bytes) -> None:
    file.write(piece)
    # Or a full disk is found out only at the end.
    file.flush()


def _unwritable(error: Any) -> ProblemError:
    log.warning("gateway.upload_failed", error=redact_text(str(error)))
    return ProblemError(
        503,
        "uploads_unavailable",
        "The manifest can't be kept at the moment; the gateway's log says why. Send it again.",
        headers={"Retry-After": "10", "Connection": "close"},
    )
