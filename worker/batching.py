"""Batches that follow one another closely are made fewer and larger."""

from __future__ import annotations

import asyncio
from typing import Final

# A round trip to Redis costs a worker as much for one command as for ten.
BATCH_SECONDS: Final = 0.008


class BatchInterval:
    """The least time between the beginnings of two batches.

    What comes after a rest does not wait, so that latency at rest is as it was; under load what
    comes meanwhile goes with the next batch, a few milliseconds later.

    Args:
        seconds: between two.
    """

    def __init__(self, seconds: float = BATCH_SECONDS) -> None:
        self._seconds = seconds
        self._next_at = 0.0

    async def wait(self) -> None:
        """Waits until the next batch may begin, which it does with that."""
        loop = asyncio.get_running_loop()
        rest = self._next_at - loop.time()
        if rest > 0:
            await asyncio.sleep(rest)
        self._next_at = loop.time() + self._seconds
