"""Wake-ups: messages of Celery by which one process calls others to what it can't take itself."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from worker.thread_pools import ThreadPool

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

log = structlog.get_logger(__name__)

# Others are called at most so often: each message costs a millisecond of our own core, one is
# enough for any number of commands, and whoever is idle looks by itself.
WAKE_UP_PAUSE_SECONDS = 0.5


class WakeUps:
    """Sends the wake-ups of one process.

    Args:
        loop: that `send` is called on.
        publish: sends the message; may block.
        redis_is_away: whether an outage of Redis is told already.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        publish: Callable[[], None],
        redis_is_away: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._publish = publish
        self._redis_is_away = redis_is_away
        self._is_pending = False
        # A thread of its own: whatever else hangs, others are told that something is due.
        self._thread = ThreadPool("wake-ups", 1)

    def send(self) -> None:
        """Sends one, unless one was sent a moment ago."""
        if self._is_pending:
            return
        self._is_pending = True
        try:
            self._thread.submit(self._send)
        except RuntimeError as exc:
            # No thread can be started now; the sweep sees to what is due, and tries again.
            self._is_pending = False
            log.warning("supervisor.wake_up_failed", error=str(exc), kind=type(exc).__name__)

    def _send(self) -> None:
        trouble = None
        try:
            self._publish()
        except Exception as exc:  # noqa: BLE001 - a lost wake-up is what the sweep is for
            trouble = exc
        finally:
            # The loop may have ended meanwhile.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(
                    self._loop.call_later, WAKE_UP_PAUSE_SECONDS, self._sent, trouble
                )

    def _sent(self, trouble: Exception | None) -> None:
        self._is_pending = False
        # In an outage of Redis that is told already.
        if trouble is not None and not self._redis_is_away():
            log.warning(
                "supervisor.wake_up_failed", error=str(trouble), kind=type(trouble).__name__
            )
