"""The circuit breaker: while what commands need is away, nothing is claimed.

It is each process' own, for it is evidence that opens it.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import Context
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from worker.queue.log_listener import LOGS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from worker.queue.telemetry import Listener

log = structlog.get_logger(__name__)


class CircuitState(StrEnum):
    """What a process thinks of the API."""

    CLOSED = "closed"
    OPEN = "open"


class CircuitBreaker:
    """Opens after failures in a row and a failed probe; closes after a probe that succeeds.

    While it is open nothing is claimed, so that no command burns its attempts in an outage.

    Args:
        failures: failures in a row that make it suspicious.
        probe: asks the API for something harmless; returns whether the API works.
        minimum_seconds: between the first probes; each further pause is twice as long.
        maximum_seconds: between later probes.
        telemetry: whoever is told when it opens and closes.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[bool]],
        *,
        failures: int,
        minimum_seconds: float,
        maximum_seconds: float,
        telemetry: Listener = LOGS,
    ) -> None:
        self._probe = probe
        self._failures_allowed = failures
        self._minimum_seconds = minimum_seconds
        self._maximum_seconds = maximum_seconds
        self._telemetry = telemetry
        self._failures = 0
        self._prober: asyncio.Task[None] | None = None
        self._told = asyncio.Event()
        self.health = CircuitState.CLOSED

    @property
    def is_open(self) -> bool:
        """Whether the API is known to be in trouble."""
        return self.health is CircuitState.OPEN

    def succeeded(self) -> None:
        """Counts an answer of the API."""
        self._failures = 0

    def failed(self) -> None:
        """Counts a failure of the API or of the way to it."""
        self._failures += 1
        if self._failures >= self._failures_allowed:
            self._start()

    async def examine(self) -> None:
        """Asks the API how it is now, however few failures there were; `is_open` tells then."""
        if not self.is_open:
            self._start()
            await self._told.wait()

    def _start(self) -> None:
        if self._prober is None:
            self._told.clear()
            # It outlives the run that it begins in, and none of its lines is about that.
            self._prober = asyncio.create_task(self._watch(), name="breaker", context=Context())
            self._prober.add_done_callback(lambda _: self._told.set())

    async def aclose(self) -> None:
        """Stops probing."""
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.gather(self._prober, return_exceptions=True)

    async def _watch(self) -> None:
        pause = self._minimum_seconds
        opened_at = time.monotonic()
        while not await self._probed():
            if self.health is CircuitState.CLOSED:
                self.health = CircuitState.OPEN
                self._telemetry.breaker_moved(True, self._failures, 0.0)
            self._told.set()
            await asyncio.sleep(pause)
            pause = min(self._maximum_seconds, pause * 2)
        self._failures = 0
        self._prober = None
        if self.health is CircuitState.OPEN:
            self.health = CircuitState.CLOSED
            self._telemetry.breaker_moved(False, 0, time.monotonic() - opened_at)

    async def _probed(self) -> bool:
        try:
            return await self._probe()
        except Exception:
            # It tells nothing of the API, and must not be the last probe: what is open stays so
            # until the next one.
            log.exception("api.probe_broken")
            return not self.is_open
