"""Who waits for a slot behind whom."""

from __future__ import annotations

import asyncio

import pytest

from schemas.enums import Priority
from worker.queue.lane_slots import LaneSlots

BULK, INTERACTIVE = Priority.BULK, Priority.INTERACTIVE


async def served(slots: LaneSlots, *lanes: Priority) -> list[Priority]:
    """Returns the order in which commands have slots that all come before one is free."""
    order: list[Priority] = []
    all_are_there = asyncio.Event()

    async def one(lane: Priority) -> None:
        async with slots.slot(lane):
            order.append(lane)
            await all_are_there.wait()

    tasks = []
    for lane in lanes:
        tasks.append(asyncio.create_task(one(lane)))
        await asyncio.sleep(0)
    all_are_there.set()
    await asyncio.gather(*tasks)
    return order


@pytest.mark.parametrize("count", [1, 8])
async def test_an_interactive_command_waits_behind_no_more_bulk_ones_than_there_are_slots(
    count: int,
) -> None:
    order = await served(LaneSlots(count), *[BULK] * 100, INTERACTIVE)
    assert order.index(INTERACTIVE) == count
    assert len(order) == 101


async def test_bulk_commands_wait_behind_no_interactive_ones_that_come_after_them() -> None:
    order = await served(LaneSlots(), INTERACTIVE, BULK, *[INTERACTIVE] * 50)
    assert order.index(BULK) == 1


async def test_who_is_cancelled_while_waiting_takes_no_slot_along() -> None:
    slots = LaneSlots()
    async with slots.slot(INTERACTIVE):
        waiting = [
            asyncio.create_task(served(slots, lane)) for lane in (BULK, BULK, INTERACTIVE) * 3
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert not slots.is_full
    assert await served(slots, BULK, INTERACTIVE) == [BULK, INTERACTIVE]
