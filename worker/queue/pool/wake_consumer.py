"""Celery's consumer of wake-ups, made to outlive whatever Redis answers.

Celery's own ends the process at an error that is no loss of the connection: at READONLY,
NOREPLICAS, WRONGTYPE, NOPERM, and at a message that it can't read. A wake-up is worth none of
that: the supervisor drains by itself while none comes through.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery import bootsteps
from celery.worker import state
from celery.worker.consumer import Consumer, Tasks
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.queue.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = structlog.get_logger(__name__)

WAKE_CONSUMER: Final = f"{__name__}:WakeConsumer"
BEAT_SECONDS: Final = 5.0

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 2.0
# An error that comes later than this is a new trouble: it is tried again at once.
_QUIET_SECONDS: Final = 30.0
# Also how late a stop is noticed while it pauses.
_TICK_SECONDS: Final = 0.1


class Beats(bootsteps.StartStopStep):
    """Beats on Celery's own loop, as long as that goes round."""

    requires = (Tasks,)

    def __init__(self, parent: WakeConsumer, heartbeat: Heartbeat, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        parent.heartbeat = heartbeat
        self._timer: Any = None

    def start(self, parent: WakeConsumer) -> None:
        """Begins once there is a connection."""
        parent.heartbeat.beat()
        self._timer = parent.timer.call_repeatedly(BEAT_SECONDS, parent.heartbeat.beat)

    def stop(self, parent: WakeConsumer) -> None:
        """Ends with the connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # A connection may take long to come back; the attempts beat.
        parent.heartbeat.beat()


class WakeConsumer(Consumer):
    """Starts again after every error, with pauses that grow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Before the steps are made, for one of them sets another.
        self.heartbeat = Heartbeat("celery", math.inf)
        super().__init__(*args, **kwargs)
        # What ends the process on purpose is a SystemExit, so it is none of these.
        self.connection_errors = (Exception,)
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._failed_at = float("-inf")
        self._newest: Any = None

    def ensure_connected(self, conn: Any) -> Any:
        """Connects, however long that takes, and beats meanwhile."""
        ensure = conn.ensure_connection

        def ensure_and_beat(*args: Any, callback: Callable[[], None], **kwargs: Any) -> Any:
            def tick() -> None:
                self.heartbeat.beat()
                callback()

            tick()
            return ensure(*args, callback=tick, **kwargs)

        self._newest = conn
        conn.ensure_connection = ensure_and_beat
        return super().ensure_connected(conn)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Tells why there is no connection, and waits.

        There may be one that Redis refused something: nobody else knows it, and it would stay open.
        """
        _close(_channels_of(self._newest))
        self._wait(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Closes the connection and waits."""
        channels = _channels_of(self.connection)
        super().on_connection_error_after_connected(exc)
        # What closes a channel deletes its queue first, and stops where Redis refuses that.
        _close(channels)
        self._wait(exc)

    def _wait(self, exc: Exception) -> None:
        now = time.monotonic()
        if now - self._failed_at > _QUIET_SECONDS:
            self._pause_seconds = _FIRST_PAUSE_SECONDS
        # That Redis is gone is told once for all, see `worker.queue.ledger.outage`.
        gone = isinstance(exc, OSError | RedisConnectionError | RedisTimeoutError)
        told = log.debug if gone and not isinstance(exc, AuthenticationError) else log.warning
        told("wake_ups.failed", error=str(exc)[:200], kind=type(exc).__name__)
        end = now + self._pause_seconds
        while time.monotonic() < end:
            state.maybe_shutdown()
            self.heartbeat.beat()
            time.sleep(_TICK_SECONDS)
        self._pause_seconds = min(_LONGEST_PAUSE_SECONDS, self._pause_seconds * 2)
        self._failed_at = time.monotonic()


# kombu has no other way to what it has open.
def _channels_of(connection: Any) -> list[Any]:
    transport = getattr(connection, "_transport", None)
    return [] if transport is None else [*transport.channels, *transport._avail_channels]  # noqa: SLF001


def _close(channels: Iterable[Any]) -> None:
    for channel in channels:
        with suppress(RedisError, OSError):
            channel._disconnect_pools()  # noqa: SLF001
