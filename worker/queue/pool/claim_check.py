"""Fetches the data of commands that name them by `dataref`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.claim_check import DATAREF, completed
from schemas.events import ErrorCode
from schemas.parsing import InvalidCommandError
from worker.errors import InputError, RetryableError
from worker.files.file_access import AllowedFiles, input_error, local_path, may_be_read

if TYPE_CHECKING:
    from schemas.claim_check import ClaimCheck
    from schemas.commands import Command
    from worker.queue.run_context import RunContext

# As it was read, parsed, and as the body that is sent.
COPIES: Final = 4
# Hundreds of megabytes take some seconds, and others may stand before them.
PARSE_SECONDS: Final = 300.0


async def fetched(run: RunContext[ClaimCheck]) -> Command:
    """Returns the command of a run with its data.

    Raises:
        InputError: its data may not be read, are not there, or are none that it takes.
        RetryableError: they can't be read at the moment.
    """
    text = run.lease.text
    try:
        content = await _read(run)
        return await run.dependencies.threads.parsing.run(PARSE_SECONDS, _completed, text, content)
    except InputError as exc:
        if not run.progress:
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


async def _read(run: RunContext[ClaimCheck]) -> bytes:
    dataref, dependencies = run.command.dataref, run.dependencies
    limit = dependencies.dataref_limit_bytes
    path = local_path(dataref)
    if path is not None:
        files = AllowedFiles(dependencies.data_roots, DATAREF, limit)
        return await run.read_file(files, path, COPIES)
    if not may_be_read(dataref, dependencies.source_urls):
        raise input_error(DATAREF, "the URL lies below none of TRAINMASTER_SOURCE_URLS")
    return await run.download(dataref, limit, DATAREF, COPIES)


def _unavailable(message: str) -> RetryableError:
    return RetryableError(f"{DATAREF}: {message}", code=ErrorCode.DATA_UNAVAILABLE)
