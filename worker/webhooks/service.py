"""Webhooks in as a gateway process runs them: what receives, and the loops beside it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Self

import structlog

from worker.webhooks.reactions import reactors
from worker.webhooks.receiving import WebhookReceiver
from worker.webhooks.windows import WindowCloser

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from worker.integrations.sources import Source
    from worker.queue.ledger.keys import Keys

log = structlog.get_logger(__name__)

# A loop that ends by a defect begins again after it.
_PAUSE_SECONDS: Final = 5.0


class _Loop(Protocol):
    async def run(self, stop: asyncio.Event) -> None: ...


@dataclass(frozen=True, slots=True)
class WebhookService:
    """Receives deliveries, closes windows and reacts to events.

    Attributes:
        receiver: of deliveries.
        loops: what runs beside it, in each process of the gateway.
    """

    receiver: WebhookReceiver
    loops: Sequence[_Loop]

    @classmethod
    def build(
        cls, redis: Redis, keys: Keys, sources: Mapping[str, Source], *, retention_seconds: int
    ) -> Self:
        """Returns the service of a file's sources.

        Args:
            redis: client that returns bytes.
            keys: the namespace.
            sources: by name.
            retention_seconds: how long deliveries are kept.
        """
        return cls(
            WebhookReceiver(redis, keys, sources, retention_seconds=retention_seconds),
            [
                WindowCloser(redis, keys, sources),
                *reactors(redis, keys, sources, retention_seconds=retention_seconds),
            ],
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Runs all loops until `stop` is set, whatever becomes of one of them."""
        async with asyncio.TaskGroup() as group:
            for loop in self.loops:
                group.create_task(_run_on(loop, stop))


async def _run_on(loop: _Loop, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await loop.run(stop)
        except MemoryError:
            raise
        except Exception:
            # A defect of ours: the others must not stand still for it.
            log.exception("webhooks.loop_failed", loop=type(loop).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _PAUSE_SECONDS)
