"""Celery's consumer of wake-ups, made to outlive whatever Redis answers.

Celery's own ends the process at an error that is no loss of the connection: at READONLY,
NOREPLICAS, WRONGTYPE, NOPERM, and at a message that it can't read. A wake-up is worth none of
that: the supervisor drains by itself while none comes through.
"""

from __future__ import annotations

import time
from typing import Any, Final

import structlog
from celery.worker import state
from celery.worker.consumer import Consumer
from redis.exceptions import AuthenticationError, ConnectionError, TimeoutError  # noqa: A004

log = structlog.get_logger(__name__)

WAKE_CONSUMER: Final = f"{__name__}:WakeConsumer"

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 2.0
# An error that comes later than this is a new trouble: it is tried again at once.
_QUIET_SECONDS: Final = 30.0
# Also how late a stop is noticed while it pauses.
_TICK_SECONDS: Final = 0.1


class WakeConsumer(Consumer):
    """Starts again after every error, with pauses that grow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What ends the process on purpose is a SystemExit, so it is none of these.
        self.connection_errors = (Exception,)
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._failed_at = float("-inf")

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Tells why there is no connection, and waits."""
        self._wait(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Closes the connection and waits."""
        super().on_connection_error_after_connected(exc)
        self._wait(exc)

    def _wait(self, exc: Exception) -> None:
        now = time.monotonic()
        if now - self._failed_at > _QUIET_SECONDS:
            self._pause_seconds = _FIRST_PAUSE_SECONDS
        # That Redis is gone is told once for all, see `worker.queue.ledger.outage`.
        gone = isinstance(exc, OSError | ConnectionError | TimeoutError)
        told = log.debug if gone and not isinstance(exc, AuthenticationError) else log.warning
        told("wake_ups.failed", error=str(exc)[:200], kind=type(exc).__name__)
        end = now + self._pause_seconds
        while time.monotonic() < end:
            state.maybe_shutdown()
            time.sleep(_TICK_SECONDS)
        self._pause_seconds = min(_LONGEST_PAUSE_SECONDS, self._pause_seconds * 2)
        self._failed_at = time.monotonic()
