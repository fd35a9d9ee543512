"""What a failed exchange means; the only place that knows httpx's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from schemas.events import ErrorCode
from worker.errors import BadResponseError, ConnectionLostError, NoSocketError, NotSentError
from worker.http.failures import NOT_SENT, ExchangeTimeout, NotWrittenError
from worker.shortages import shortage_in

if TYPE_CHECKING:
    from worker.errors import RetryableError


def failure_for(exc: httpx.HTTPError, domain: str) -> RetryableError:
    """Returns our error for one of httpx that ended an exchange.

    Args:
        exc: What was raised.
        domain: Who was asked, for the message.
    """
    if isinstance(exc, NOT_SENT):
        lacking = shortage_in(exc)
        if lacking is not None:
            return NoSocketError(
                f"no connection to {domain}: the worker's machine is out of {lacking}",
                code=ErrorCode.RESOURCE_EXHAUSTED,
            )
        return NotSentError(_without_connection(exc, domain), code=ErrorCode.NOT_CONNECTED)
    if isinstance(exc, httpx.DecodingError):
        message = f"{domain} answered with a body that can't be decompressed"
        return BadResponseError(message, code=ErrorCode.BAD_RESPONSE)
    if isinstance(exc, httpx.RemoteProtocolError):
        message = f"{domain} answered with something that is not HTTP"
        return BadResponseError(message, code=ErrorCode.BAD_RESPONSE)
    return ConnectionLostError(_with_connection(exc, domain), code=ErrorCode.CONNECTION_LOST)


def _without_connection(exc: httpx.HTTPError, domain: str) -> str:
    if isinstance(exc, httpx.TimeoutException):
        return f"no connection to {domain} in time"
    if isinstance(exc, NotWrittenError):
        return f"{domain} closed the connection, or sent what nobody asked for, before the request"
    return f"no connection to {domain}: {exc}"


def _with_connection(exc: httpx.HTTPError, domain: str) -> str:
    match exc:
        case ExchangeTimeout():
            return f"the exchange with {domain} took longer than all its timeouts"
        case httpx.WriteTimeout():
            return f"{domain} did not take the request in time"
        case httpx.TimeoutException():
            return f"{domain} did not answer in time"
        case _:
            return f"the connection to {domain} was lost: {exc}"
