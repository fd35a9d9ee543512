"""Rules of the interval between batches: none after a rest, and the whole of it under load."""

from __future__ import annotations

import asyncio

from worker.batching import BatchInterval

SECONDS = 0.05


async def test_what_comes_after_a_rest_does_not_wait() -> None:
    interval = BatchInterval(SECONDS)
    loop = asyncio.get_running_loop()
    for _ in range(2):
        waiting = loop.create_task(interval.wait())
        await asyncio.sleep(0)
        assert waiting.done()
        await asyncio.sleep(2 * SECONDS)


async def test_batches_that_follow_closely_begin_an_interval_apart() -> None:
    interval = BatchInterval(SECONDS)
    begun = asyncio.get_running_loop().time()
    for number in range(4):
        await interval.wait()
        # A timer may come a little early, never a batch.
        assert asyncio.get_running_loop().time() - begun >= number * SECONDS - 0.002


async def test_the_time_that_a_batch_takes_counts() -> None:
    """Whoever takes longer than the interval waits no more on top of it."""
    interval = BatchInterval(SECONDS)
    await interval.wait()
    await asyncio.sleep(2 * SECONDS)
    waiting = asyncio.get_running_loop().create_task(interval.wait())
    await asyncio.sleep(0)
    assert waiting.done()
