"""What a gateway does besides answering: it closes windows, follows events and serves sinks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from worker.queue.ledger.connection import end_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.gateway.read_model.model import ReadModel

log = structlog.get_logger(__name__)

RESTART_SECONDS: Final = 5.0
# Until then each has handed back what it holds; after that it is broken off, and another process
# takes over what it held.
STOP_SECONDS: Final = 10.0


class Service(Protocol):
    """Something that runs beside the requests."""

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set; lives through the loss of Redis."""


class Following:
    """The read model as a service: it follows the events until it is told to stop."""

    def __init__(self, model: ReadModel) -> None:
        self._model = model

    async def run(self, stop: asyncio.Event) -> None:
        """Follows until `stop` is set."""
        following = asyncio.ensure_future(self._model.follow())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            await end_all([following, stopped])


class Services:
    """Runs services until they are stopped; one that fails is told of and begins anew.

    Args:
        services: by the names that logs give them.
    """

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = services
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts all."""
        self._tasks = [
            asyncio.create_task(self._keep(name, service), name=name)
            for name, service in self._services.items()
        ]

    async def stop(self) -> None:
        """Returns once all have ended."""
        self._stop.set()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
        while late:
            for task in late:
                task.cancel()
            _, late = await asyncio.wait(late, timeout=1.0)

    async def _keep(self, name: str, service: Service) -> None:
        while not self._stop.is_set():
            try:
                await service.run(self._stop)
            except Exception:
                log.exception("gateway.service_failed", service=name)
            # Also one that ends by itself must not begin anew without a pause.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), RESTART_SECONDS)
