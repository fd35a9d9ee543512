"""Files behind URLs, through fsspec; where its errors become ours."""

from __future__ import annotations

from typing import Any, Final

import aiohttp
import fsspec

from schemas.events import ErrorCode, Problem
from worker.errors import InputError, RetryableError

# A worker that stops waits for downloads, so none may take much longer than a run's lease.
DOWNLOAD_SECONDS: Final = 30
_HTTP: Final = ("http://", "https://")


def download(url: str, most_bytes: int, field: str) -> bytes:
    """Returns what lies at a URL that may be read.

    Args:
        url: what fsspec knows.
        most_bytes: more is refused.
        field: of the command that names it.

    Raises:
        InputError: there is nothing, too much, or it may not be read.
        RetryableError: it can't be read at the moment.
    """
    options: dict[str, Any] = {}
    if url.startswith(_HTTP):
        # A server that was named must not send us on to one that was not.
        timeout = aiohttp.ClientTimeout(total=DOWNLOAD_SECONDS)
        options = {"allow_redirects": False, "client_kwargs": {"timeout": timeout}}
    try:
        with fsspec.open(url, "rb", compression=None, **options) as file:
            content: bytes = file.read(most_bytes + 1)
    except FileNotFoundError as exc:
        if _passes(exc.__cause__):
            raise _unavailable(field, "the server can't be asked at the moment") from exc
        raise _refusal(field, "there is nothing at this URL") from exc
    except PermissionError as exc:
        raise _refusal(field, "the URL may not be read with this worker's rights") from exc
    except ImportError as exc:
        raise _refusal(field, f"this worker can't read such URLs: {exc}") from exc
    except Exception as exc:
        # Every kind of store has errors of its own, and each means that nothing was read.
        raise _unavailable(field, f"can't be read at the moment: {type(exc).__name__}") from exc
    if len(content) > most_bytes:
        raise _refusal(field, f"holds more than {most_bytes} bytes")
    return content


def _passes(cause: BaseException | None) -> bool:
    """Tells whether another try may find a file: fsspec says of any server that has none."""
    if isinstance(cause, aiohttp.ClientResponseError):
        return cause.status >= 500 or cause.status in {408, 429}
    return isinstance(cause, aiohttp.ClientError | TimeoutError)


def _refusal(field: str, message: str) -> InputError:
    return InputError(
        message, code=ErrorCode.INVALID_INPUT, problems=[Problem(path=field, message=message)]
    )


def _unavailable(field: str, message: str) -> RetryableError:
    return RetryableError(f"{field}: {message}", code=ErrorCode.DATA_UNAVAILABLE)
