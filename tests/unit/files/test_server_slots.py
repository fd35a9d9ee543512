"""Rules of the slots for one server: each is given back, and only the server's silence counts."""

from __future__ import annotations

import asyncio

import pytest

from worker.errors import ShortageError
from worker.files.server_slots import ServerSlots


async def holding(slots: ServerSlots, until: asyncio.Event) -> None:
    async with slots.hold(60):
        await until.wait()


async def let_run(turns: int = 10) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(5))
async def test_who_is_cancelled_while_a_slot_becomes_free_keeps_none(turns: int) -> None:
    slots = ServerSlots(1, quiet_seconds=60)
    over = asyncio.Event()
    first = asyncio.create_task(holding(slots, over))
    await let_run()
    waiting = asyncio.create_task(holding(slots, asyncio.Event()))
    await let_run()
    over.set()
    await first
    await let_run(turns)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(30):
        await holding(slots, over)


async def test_a_server_that_we_kept_waiting_has_been_silent_only_since_then() -> None:
    slots = ServerSlots(1, quiet_seconds=60)
    over = asyncio.Event()
    first = asyncio.create_task(holding(slots, over))
    await let_run()
    with slots.pause():
        slots._heard_at -= 120
    second = asyncio.create_task(holding(slots, over))
    await let_run()
    assert not second.done()
    slots._heard_at -= 120
    with pytest.raises(ShortageError):
        await holding(slots, over)
    over.set()
    await asyncio.gather(first, second)


async def test_who_comes_later_says_nothing_for_a_server_that_is_silent() -> None:
    slots = ServerSlots(2, quiet_seconds=60)
    over = asyncio.Event()
    first = asyncio.create_task(holding(slots, over))
    await let_run()
    slots._heard_at -= 120
    second = asyncio.create_task(holding(slots, over))
    await let_run()
    async with asyncio.timeout(30):
        with pytest.raises(ShortageError):
            await holding(slots, over)
    over.set()
    await asyncio.gather(first, second)
