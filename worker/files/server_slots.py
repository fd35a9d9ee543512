"""How much may wait for one server: a bound, and no wait behind a server that is silent."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from schemas.events import ErrorCode
from worker.errors import SilentServerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# A server that brings bytes to nobody for so long is not waited for by any more.
QUIET_SECONDS: Final = 5.0


class ServerSlots:
    """Slots for requests to one server, on one event loop.

    While the server brings bytes, whoever finds no slot waits for one. Once it has been silent for
    a while, they go back to where they came from instead: each would hold a slot of the worker
    that other commands need.

    Args:
        most: requests at the same time.
        quiet_seconds: how long a server may be silent while others wait.
    """

    def __init__(self, most: int, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._most = most
        self._quiet_seconds = quiet_seconds
        self._slots = asyncio.Semaphore(most)
        self._held = 0
        self._paused = 0
        self._heard_at = 0.0

    def hear(self) -> None:
        """Notes that the server has brought something."""
        self._heard_at = time.monotonic()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Marks that it is we who keep the server waiting."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1
            self.hear()

    @asynccontextmanager
    async def hold(self, seconds: float) -> AsyncIterator[None]:
        """Holds a slot.

        Args:
            seconds: to wait for one, at most.

        Raises:
            SilentServerError: none is free in time, or the server is silent.
        """
        await self._enter(seconds)
        if not self._held:
            # Nobody asked it for anything until now.
            self.hear()
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._slots.release()

    async def _enter(self, seconds: float) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        end = time.monotonic() + seconds
        entering = asyncio.ensure_future(self._slots.acquire())
        try:
            while not entering.done():
                await asyncio.wait({entering}, timeout=self._patience(end))
        except BaseException:
            if entering.done() and not entering.cancelled():
                self._slots.release()
            entering.cancel()
            raise

    def _patience(self, end: float) -> float:
        """Returns for how many seconds nothing but a free slot changes whether to wait."""
        now = time.monotonic()
        heard_at = now if self._paused else self._heard_at
        rest = min(end, heard_at + self._quiet_seconds) - now
        if rest <= 0:
            raise SilentServerError(
                f"{self._most} downloads wait for the same server already, and it is silent",
                code=ErrorCode.DATA_UNAVAILABLE,
            )
        return rest
