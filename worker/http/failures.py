"""What httpx has no word for. All else that this package raises is httpx's own.

There are two kinds, and which one it is follows from where it is raised: what comes before the
first byte of a request is written is one of `NOT_SENT`, whatever comes after leaves open whether
the server has carried the request out.
"""

from __future__ import annotations

from typing import Final

import httpx


class NotWrittenError(httpx.ConnectError):
    """The connection ended, or brought bytes nobody asked for, before a request was written."""


class UnresolvedNameError(httpx.ConnectError):
    """No address is known for the name of the server, or of the proxy."""


class ExchangeTimeout(httpx.TimeoutException):
    """The exchange took longer than all its timeouts together."""


NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.LocalProtocolError,
    httpx.UnsupportedProtocol,
)
"""Failures that come before the first byte of a request is written."""
