"""Who watches, what they want, and what waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainmaster_client.events import event_of
from worker.gateway.events.messages import FIRST, PIECE_BYTES, message_of, order_of
from worker.queue.ledger.keys import EVENT_FIELD

if TYPE_CHECKING:
    from trainmaster_client import Event
    from worker.integrations.patterns import Patterns
    from worker.queue.ledger.streams import StreamEntry

# What waits for one watcher. More means that they don't keep up.
MOST_EVENTS: Final = 1_000
MOST_BYTES: Final = 4 * 1_048_576


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; None is all.

    Attributes:
        types: patterns of event types, like `train.*`.
        subject: the id of a command.
        command_types: what the watcher may see at all.
    """

    types: Patterns | None = None
    subject: str | None = None
    correlation_id: str | None = None
    command_types: frozenset[str] | None = None

    def fits(self, event: Event) -> bool:
        """Whether an event is one of them."""
        return (
            (self.types is None or self.types.match(event.type))
            and self.subject in {None, event.command_id}
            and self.correlation_id in {None, event.correlation_id}
            and (self.command_types is None or event.command_type in self.command_types)
        )


class Watcher:
    """What waits for one watcher."""

    def __init__(self, wanted: EventFilter) -> None:
        self.wanted = wanted
        # The last event that was looked at for it.
        self.known = (0, 0)
        self.is_dropped = False
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._news = asyncio.Event()

    def put(self, message: bytes) -> None:
        """Has a message wait; one too many drops the watcher."""
        if self.is_dropped:
            return
        full = len(self._waiting) >= MOST_EVENTS or self._bytes + len(message) > MOST_BYTES
        if full and self._waiting:
            self.is_dropped = True
            self._waiting.clear()
        else:
            self._waiting.append(message)
            self._bytes += len(message)
        self._news.set()

    def wake(self) -> None:
        """Has `get` return, whatever there is."""
        self._news.set()

    async def get(self, seconds: float) -> bytes:
        """Returns what waits, in pieces; nothing where nothing came in time, or any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        piece: list[bytes] = []
        size = 0
        while self._waiting and (not piece or size + len(self._waiting[0]) <= PIECE_BYTES):
            message = self._waiting.popleft()
            size += len(message)
            piece.append(message)
        self._bytes -= size
        if not self._waiting and not self.is_dropped:
            self._news.clear()
        return b"".join(piece)


class Audience:
    """Those who hear what one reading of the stream reads.

    A reading that was cancelled may go on for a moment, for redis-py may lose that: whatever it
    does then concerns nobody who has come to the next one.
    """

    def __init__(self) -> None:
        self.position = FIRST
        # Once it has a position.
        self.begun = asyncio.Event()
        self.watchers: set[Watcher] = set()
        # While Redis can't be read, so that nothing comes.
        self.is_stalled = False
        self.task: asyncio.Task[None] | None = None

    def tell(self, *, is_stalled: bool) -> None:
        """Has all hear at once that nothing comes for the moment, or that it does again."""
        if self.is_stalled != is_stalled:
            self.is_stalled = is_stalled
            for watcher in self.watchers:
                watcher.wake()

    def go_on_from(self, position: str, notices: list[bytes]) -> None:
        """Reads on from there, and tells all what they may have missed."""
        self.position = position
        for watcher in self.watchers:
            watcher.known = min(watcher.known, order_of(position))
            for each in notices:
                watcher.put(each)

    def hand_out(self, entries: list[StreamEntry]) -> None:
        """Gives each watcher those of the entries that they want and have not had."""
        for each in entries:
            event = event_of(*each)
            if event is None:
                continue
            message = b""
            order = order_of(event.entry_id)
            for watcher in self.watchers:
                # One who has just joined may know it.
                if watcher.known < order:
                    watcher.known = order
                    if watcher.wanted.fits(event):
                        message = message or message_of(event, each[1][EVENT_FIELD])
                        watcher.put(message)
        if entries:
            self.position = entries[-1][0].decode()
