"""The events of a sink that wait after a failure, as its leader knows them, by command."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from worker.integrations.follower_store import order_of
from worker.sinks.deferred import CommandQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.sinks.deferred import DeferredEvent, SinkStore

# So many events wait for another try at most, and so many bytes; then new ones wait in the stream.
MOST_WAITING: Final = 10_000
MOST_WAITING_BYTES: Final = 64 * 1024 * 1024


class Backlog:
    """What waits, a queue for each command, and when each is tried next.

    Attributes:
        wake: set whenever something may have become due.
        settled: set whenever there may be room again.
    """

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.settled = asyncio.Event()
        self._queues: dict[str, CommandQueue] = {}
        self._due: list[tuple[float, str]] = []
        self._waiting = self._bytes = 0
        # While what waits in Redis is read: what ends its wait meanwhile.
        self._gone: set[str] | None = None

    def __len__(self) -> int:
        """How many events wait."""
        return self._waiting

    def __bool__(self) -> bool:
        """Whether a command has a queue; its last event may be settled already."""
        return bool(self._queues)

    def __contains__(self, command_id: str) -> bool:
        """Whether events of a command wait."""
        return command_id in self._queues

    async def wait_for_room(self, size: int, check: Callable[[], None]) -> None:
        """Returns once an event of so many bytes may wait; `check` may raise before each wait."""
        while self._waiting >= MOST_WAITING or (
            self._waiting and self._bytes + size > MOST_WAITING_BYTES
        ):
            # First: whoever comes after the end was told would else wait for nobody.
            check()
            self.settled.clear()
            await self.settled.wait()

    def holds(self, waiting: DeferredEvent) -> bool:
        """Tells whether an event waits already."""
        queue = self._queues.get(waiting.event.command_id)
        return queue is not None and any(
            each.entry_id == waiting.entry_id for each in queue.entries
        )

    def append(self, waiting: DeferredEvent, new: CommandQueue | None = None) -> CommandQueue:
        """Has an event wait behind those of its command; returns their queue.

        Args:
            waiting: the event.
            new: the queue where there is none.
        """
        subject = waiting.event.command_id
        queue = self._queues.get(subject)
        if queue is None:
            queue = self._queues[subject] = new or CommandQueue()
            if new is None:
                # What it was to wait for has been delivered meanwhile.
                self.schedule(subject, queue)
        # It is there already where all that waits was read just between.
        if not self.holds(waiting):
            self._count(waiting)
            queue.entries.append(waiting)
        return queue

    async def load(self, store: SinkStore) -> None:
        """Takes in what waits in Redis and is not known here, each at its place."""
        gone: set[str] = set()
        self._gone = gone
        try:
            found = await store.load()
        finally:
            self._gone = None
        for subject, loaded in found.items():
            self._take_in(subject, loaded, gone)

    def _take_in(self, subject: str, loaded: CommandQueue, gone: set[str]) -> None:
        queue = self._queues.get(subject) or CommandQueue()
        known = {each.entry_id for each in queue.entries} | gone
        more = [each for each in loaded.entries if each.entry_id not in known]
        if not more:
            return
        for each in more:
            self._count(each)
        # The one that is sent at this moment stays first: it is taken off once that is done.
        head = queue.entries[0] if queue.entries else None
        fixed = [head] if head is not None and queue.running else []
        rest = [*list(queue.entries)[len(fixed) :], *more]
        rest.sort(key=lambda each: order_of(each.entry_id))
        queue.entries = deque([*fixed, *rest])
        if subject not in self._queues:
            self._queues[subject] = queue
            queue.tries, queue.since_ms = loaded.tries, loaded.since_ms
            self.schedule(subject, queue)
        elif queue.entries[0] is not head:
            # Those tries were of the one that stands behind it now.
            queue.tries = queue.since_ms = 0
            queue.due = time.monotonic()
            self.schedule(subject, queue)

    def settle(self, queue: CommandQueue) -> None:
        """Takes the first event of a queue off: its wait has ended."""
        waiting = queue.entries.popleft()
        queue.tries = queue.since_ms = 0
        self._waiting -= 1
        self._bytes -= len(waiting.text)
        if self._gone is not None:
            self._gone.add(waiting.entry_id)
        self.settled.set()

    def release(self, subject: str, queue: CommandQueue) -> None:
        """Schedules what a queue still has after a try, or forgets the queue."""
        queue.running = False
        if queue.entries:
            self.schedule(subject, queue)
        elif self._queues.get(subject) is queue:
            del self._queues[subject]
        self.wake.set()

    def schedule(self, subject: str, queue: CommandQueue) -> None:
        """Has a queue be tried when it is due."""
        heapq.heappush(self._due, (queue.due, subject))
        self.wake.set()

    def schedule_all(self) -> None:
        """Makes all that waits due."""
        now = time.monotonic()
        for queue in self._queues.values():
            queue.due = now
        self._due = [(now, subject) for subject in self._queues]
        self.wake.set()

    def next_due(self) -> tuple[str, CommandQueue] | None:
        """Returns a queue that is due and is not tried already, once; None where there is none."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, subject = heapq.heappop(self._due)
            queue = self._queues.get(subject)
            # One that was scheduled anew stands there twice.
            if queue is not None and not queue.running and queue.due <= now:
                return subject, queue
        return None

    @property
    def due_seconds(self) -> float:
        """Until more is due; infinite where nothing is scheduled."""
        return self._due[0][0] - time.monotonic() if self._due else float("inf")

    def oldest(self) -> tuple[str, CommandQueue]:
        """Returns the queue that is probed next."""
        return next(iter(self._queues.items()))

    def put_last(self, subject: str) -> None:
        """Has the other queues be probed first."""
        self._queues[subject] = self._queues.pop(subject)

    def _count(self, waiting: DeferredEvent) -> None:
        self._waiting += 1
        self._bytes += len(waiting.text)
