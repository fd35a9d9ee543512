"""Fetches the data of commands that name them by `dataref`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import fsspec

from schemas.events import ErrorCode
from schemas.parsing import InvalidCommandError
from schemas.referral import DATAREF, completed
from worker.errors import InputError, RetryableError
from worker.handlers.files import PlainFiles, input_error, may_be_read

if TYPE_CHECKING:
    from schemas.commands import Command
    from schemas.referral import ReferredCommand
    from worker.handlers.run import Run, Surroundings

# A worker that stops waits for downloads, so none may take much longer than a run's lease.
DOWNLOAD_SECONDS: Final = 30
_FILE: Final = "file://"
_HTTP: Final = ("http://", "https://")


async def fetched(run: Run[ReferredCommand]) -> Command:
    """Returns the command of a run with its data.

    Raises:
        InputError: its data may not be read, are not there, or are none that it takes.
        RetryableError: they can't be read at the moment.
    """
    return await asyncio.to_thread(
        _fetched, run.lease.text, run.command.dataref, run.around, is_begun=bool(run.progress)
    )


def _fetched(text: bytes, dataref: str, around: Surroundings, *, is_begun: bool) -> Command:
    try:
        return _completed(text, _read(dataref, around))
    except InputError as exc:
        if not is_begun:
            raise
        # What was begun at the API is not given up at once because its data were tidied away.
        raise _unavailable(exc.message) from exc


def _completed(text: bytes, data: bytes) -> Command:
    try:
        return completed(text, data)
    except InvalidCommandError as exc:
        raise InputError(
            f"what {DATAREF} names {exc.message}",
            code=ErrorCode.INVALID_INPUT,
            problems=exc.problems,
        ) from exc


def _read(dataref: str, around: Surroundings) -> bytes:
    limit = around.dataref_limit_bytes
    path = dataref.removeprefix(_FILE)
    if "://" not in path and "::" not in path:
        return PlainFiles(around.data_roots, DATAREF, limit).read(Path(path))
    if not may_be_read(dataref, around.source_urls):
        raise input_error(DATAREF, "the URL lies below none of TRAINMASTER_SOURCE_URLS")
    return _download(dataref, limit)


def _download(url: str, limit: int) -> bytes:
    # A server that was named must not send us on to one that was not.
    options: dict[str, Any] = {}
    if url.startswith(_HTTP):
        timeout = aiohttp.ClientTimeout(total=DOWNLOAD_SECONDS)
        options = {"allow_redirects": False, "client_kwargs": {"timeout": timeout}}
    try:
        with fsspec.open(url, "rb", compression=None, **options) as file:
            content: bytes = file.read(limit + 1)
    except FileNotFoundError as exc:
        if _passes(exc.__cause__):
            raise _unavailable("the server can't be asked at the moment") from exc
        raise input_error(DATAREF, "there is nothing at this URL") from exc
    except PermissionError as exc:
        raise input_error(DATAREF, "the URL may not be read with this worker's rights") from exc
    except ImportError as exc:
        raise input_error(DATAREF, f"this worker can't read such URLs: {exc}") from exc
    except Exception as exc:
        # Every kind of store has errors of its own, and each means that nothing was read.
        raise _unavailable(f"can't be read at the moment: {type(exc).__name__}") from exc
    if len(content) > limit:
        raise input_error(DATAREF, f"holds more than {limit} bytes")
    return content


def _passes(cause: BaseException | None) -> bool:
    """Tells whether another try may find a file: fsspec says of any server that has none."""
    if isinstance(cause, aiohttp.ClientResponseError):
        return cause.status >= 500 or cause.status in {408, 429}
    return isinstance(cause, aiohttp.ClientError | TimeoutError)


def _unavailable(message: str) -> RetryableError:
    return RetryableError(f"{DATAREF}: {message}", code=ErrorCode.DATA_UNAVAILABLE)
