"""A bound on the bytes of bodies that a process holds at the same time.

Who wants more than is left waits: first come, first served among the interactive and among the
bulk, and both in turns. A body that is larger than the whole budget has it for itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

_LANES: Final = 2


class ByteBudget:
    """Bytes that are handed out and given back, on one event loop.

    Args:
        most_bytes: handed out at the same time, but for one body that grows while it is read.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.used_bytes = 0
        self._waiting: tuple[deque[tuple[int, asyncio.Future[None]]], ...] = tuple(
            deque() for _ in range(_LANES)
        )
        self._turn = 0
        # Whoever holds a part and wants more must not wait for those who do the same.
        self._overdraft = asyncio.Lock()

    def reservation(self, *, bulk: bool) -> Reservation:
        """Returns a reservation that holds nothing yet."""
        return Reservation(self, lane=int(bulk))

    async def _enter(self, size: int, lane: int) -> None:
        if not any(self._waiting) and self._fits(size):
            self.used_bytes += size
            return
        place = asyncio.get_running_loop().create_future()
        entry = (size, place)
        self._waiting[lane].append(entry)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave(size)
            else:
                with suppress(ValueError):
                    self._waiting[lane].remove(entry)
                self._admit()
            raise

    def _leave(self, size: int) -> None:
        self.used_bytes -= size
        self._admit()

    def _admit(self) -> None:
        while any(self._waiting):
            lane = self._turn if self._waiting[self._turn] else 1 - self._turn
            size, place = self._waiting[lane][0]
            if place.cancelled():
                self._waiting[lane].popleft()
                continue
            if not self._fits(size):
                return
            self._waiting[lane].popleft()
            self._turn = 1 - lane
            self.used_bytes += size
            place.set_result(None)

    def _fits(self, size: int) -> bool:
        return not self.used_bytes or self.used_bytes + size <= self.most_bytes


class Reservation:
    """What one run holds of a budget; given back when it ends."""

    def __init__(self, budget: ByteBudget, *, lane: int) -> None:
        self._budget = budget
        self._lane = lane
        self._overdraws = False
        self.size_bytes = 0

    async def grow(self, size_bytes: int) -> None:
        """Waits until so many bytes in all may be held."""
        more = size_bytes - self.size_bytes
        if more <= 0:
            return
        if not self.size_bytes:
            await self._budget._enter(more, self._lane)  # noqa: SLF001 - one class in two
        elif self._overdraws or self._budget.used_bytes + more <= self._budget.most_bytes:
            self._budget.used_bytes += more
        else:
            await self._budget._overdraft.acquire()  # noqa: SLF001
            self._overdraws = True
            self._budget.used_bytes += more
        self.size_bytes = size_bytes

    def release(self) -> None:
        """Gives all of it back."""
        size, self.size_bytes = self.size_bytes, 0
        if self._overdraws:
            self._overdraws = False
            self._budget._overdraft.release()  # noqa: SLF001
        if size:
            self._budget._leave(size)  # noqa: SLF001
