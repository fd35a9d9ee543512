"""Events as workers publish them, and what a follower handed over."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from schemas.enums import EventState
from schemas.events import event_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

    from trainmaster_client import Event
    from worker.integrations.event_follower import EventFollower
    from worker.queue.ledger.keys import Keys

# A busy machine is slow; no test passes because of this.
PATIENCE_SECONDS = 60.0


def event_text(
    subject: str,
    number: int = 0,
    *,
    state: EventState = EventState.RETRYING,
    command_type: str = "train",
    data: dict[str, Any] | None = None,
    **context: str,
) -> bytes:
    """Returns an event of a command, the `number`th that tells of it."""
    return event_json(
        event_id=f"{subject}/{state}/{number}",
        command_type=command_type,
        state=state,
        subject=subject,
        time_ms=1_700_000_000_000 + number,
        data=data or {"number": number},
        context=context,
    )


async def publish(redis: Redis, keys: Keys, subject: str, numbers: range, **told: Any) -> None:
    """Adds events of a command to the stream."""
    pipe = redis.pipeline(transaction=False)
    for number in numbers:
        pipe.xadd(keys.events, {"event": event_text(subject, number, **told)})
    await pipe.execute()


class Received:
    """A handler that notes what it got."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    async def __call__(self, event: Event, _text: bytes) -> None:
        self.events.append((event.command_id, event.data["number"]))

    def has_more_than(self, events: int) -> bool:
        """Tells whether so many events have come, and more."""
        return len(self.events) > events

    def of(self, subject: str) -> list[int]:
        """Returns the numbers of a command's events in the order in which they came."""
        return [number for name, number in self.events if name == subject]


async def wait_until(is_so: Callable[[], object], told: str = "") -> None:
    """Waits for a state; fails where it does not come."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            while not is_so():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            raise AssertionError(f"it never came to that: {told}") from None


@asynccontextmanager
async def following(follower: EventFollower) -> AsyncIterator[asyncio.Event]:
    """Runs a follower, that leads once this is entered."""
    stop = asyncio.Event()
    task = asyncio.create_task(follower.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await task


@asynccontextmanager
async def killed(follower: EventFollower) -> AsyncIterator[None]:
    """Runs a follower that ends without a word, as one whose process is killed."""
    task = asyncio.create_task(follower.run(asyncio.Event()))

    async def say_nothing(*_args: Any, **_named: Any) -> Any:
        raise ConnectionError("it is dead")

    try:
        yield
    finally:
        follower.store.lead = say_nothing  # type: ignore[method-assign]
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
