"""Slots that both lanes wait for, interactive commands never behind hundreds of bulk ones."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from schemas.enums import Priority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class LaneSlots:
    """Slots for which hundreds of bulk commands wait by themselves, few beside all others.

    So an interactive command waits behind no more bulk ones than there are slots, and they behind
    no more interactive ones than wait already.

    Args:
        slots: how many there are.
    """

    def __init__(self, slots: int = 1) -> None:
        self._all = asyncio.Semaphore(slots)
        self._bulk = asyncio.Semaphore(slots)

    @property
    def is_full(self) -> bool:
        """Whether whoever comes now has to wait."""
        return self._all.locked()

    @asynccontextmanager
    async def slot(self, lane: Priority) -> AsyncIterator[None]:
        """Waits for a slot, and has it while the block runs."""
        if lane is not Priority.BULK:
            async with self._all:
                yield
            return
        async with self._bulk, self._all:
            yield
