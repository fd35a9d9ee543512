"""What a failed exchange means; the only place that knows httpx's and aiohttp's errors."""

from __future__ import annotations

from traceback import clear_frames
from typing import TYPE_CHECKING

import aiohttp
import httpx

from schemas.events import ErrorCode
from worker.errors import BadResponseError, ConnectionLostError, NoSocketError, NotSentError
from worker.http.aiohttp_transport import NOT_SENT, LostOnceError
from worker.http.connections import NotWrittenError
from worker.shortages import shortage_in

if TYPE_CHECKING:
    from worker.errors import RetryableError


def failure_for(exc: Exception, domain: str) -> RetryableError:
    """Returns our error for one of httpx, aiohttp or the system that ended an exchange.

    Args:
        exc: What was raised.
        domain: Who was asked, for the message.
    """
    cause = exc.__cause__ if isinstance(exc, LostOnceError) else exc
    if isinstance(cause, NOT_SENT):
        lacking = shortage_in(cause)
        if lacking is not None:
            return NoSocketError(
                f"no connection to {domain}: the worker's machine is out of {lacking}",
                code=ErrorCode.RESOURCE_EXHAUSTED,
            )
        return NotSentError(_without_connection(cause, domain), code=ErrorCode.NOT_CONNECTED)
    if isinstance(cause, httpx.DecodingError):
        message = f"{domain} answered with a body that can't be decompressed"
        return BadResponseError(message, code=ErrorCode.BAD_RESPONSE)
    if isinstance(cause, aiohttp.ClientResponseError):
        message = f"{domain} answered with something that is not HTTP"
        return BadResponseError(message, code=ErrorCode.BAD_RESPONSE)
    return ConnectionLostError(_with_connection(cause, domain), code=ErrorCode.CONNECTION_LOST)


def let_go(exc: BaseException | None) -> None:
    """Frees what a failed exchange held, its body above all.

    aiohttp keeps an error in a frame that the error's own traceback keeps: only a collection of
    garbage would free them, and a busy worker collects rarely.
    """
    while exc is not None:
        clear_frames(exc.__traceback__)
        exc = exc.__cause__ or exc.__context__


def _without_connection(cause: BaseException, domain: str) -> str:
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return f"no connection to {domain} in time"
    if isinstance(cause, NotWrittenError):
        return f"{domain} closed the connection, or sent what nobody asked for, before the request"
    return f"no connection to {domain}: {cause.__cause__ or cause}"


def _with_connection(cause: BaseException | None, domain: str) -> str:
    if isinstance(cause, aiohttp.SocketTimeoutError):
        return f"{domain} did not answer in time"
    if isinstance(cause, TimeoutError) and not isinstance(cause, aiohttp.ClientError):
        return f"the exchange with {domain} took longer than all its timeouts"
    return f"the connection to {domain} was lost: {type(cause).__name__}"
