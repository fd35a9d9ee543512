"""What is done while Redis is away: tell of it, wait a little, try again, for as long as it takes.

Not redis-py's retries: those end after so many tries, or by an OverflowError, for its backoff
computes 2 to the power of the tries, which is more than a float holds after 1,024 of them.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeVar

from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from worker.queue.ledger.outage import Outage

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.2
# More than the pause between two sweeps, and after an outage other workers would claim what a run
# here is about to record.
LONGEST_PAUSE_SECONDS = 1.0


def next_pause(pause_seconds: float) -> float:
    """Returns the pause that follows on another one, or on none: it doubles up to the longest."""
    return min(LONGEST_PAUSE_SECONDS, 2 * pause_seconds or FIRST_PAUSE_SECONDS)


async def keep_trying(
    act: Callable[[], Awaitable[T]],
    outage: Outage,
    part: str,
    *,
    on_trouble: Callable[[Exception], Awaitable[bool]] | None = None,
) -> T:
    """Returns what `act` returns, however long Redis refuses it or is away until then.

    A cancellation that comes meanwhile ends it at once, even one that redis-py has swallowed. One
    that came before is the caller's to see to (`stop_if_cancelled`): what has to be recorded
    before a task ends would else not be.

    Args:
        act: may be done again.
        outage: is told what became of each try.
        part: whose tries these are.
        on_trouble: called after each try that failed; true where it has mended what was wrong, so
            that there is nothing to tell and nothing to wait for.

    Raises:
        Exception: whatever else `act` raises.
    """
    task = asyncio.current_task()
    cancelled_before = 0 if task is None else task.cancelling()
    pause = 0.0
    while True:
        try:
            result = await act()
        except RETRYABLE_REDIS_ERRORS as exc:
            is_mended = on_trouble is not None and await on_trouble(exc)
            if not is_mended:
                outage.failed(part, exc)
        else:
            outage.worked(part)
            return result
        if task is not None and task.cancelling() > cancelled_before:
            raise asyncio.CancelledError
        if not is_mended:
            pause = next_pause(pause)
            # Loops that all miss Redis would else go on in step, each of their ticks a burst.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
