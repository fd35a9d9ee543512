"""Bodies in flight are bounded by their bytes, and whoever waits has a turn."""

from __future__ import annotations

import asyncio

import pytest

from worker.byte_budget import ByteBudget, Reservation


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def growing(
    budget: ByteBudget, size: int, *, bulk: bool = True
) -> tuple[Reservation, asyncio.Task[None]]:
    reservation = budget.reservation(bulk=bulk)
    return reservation, asyncio.create_task(reservation.grow(size))


async def test_no_more_is_handed_out_than_the_budget_has_and_the_first_is_the_first() -> None:
    budget = ByteBudget(100)
    asked = [growing(budget, 40) for _ in range(5)]
    order = []
    while asked:
        await settled()
        assert budget.used_bytes <= 100
        done = [each for each in asked if each[1].done()]
        assert done == asked[:2], "first come, first served"
        order.append(asked.pop(0)[0])
        order[-1].release()
    assert budget.used_bytes == 0
    assert len(order) == 5


async def test_a_body_larger_than_the_budget_has_it_for_itself() -> None:
    budget = ByteBudget(100)
    small, _ = growing(budget, 60)
    large, waiting = growing(budget, 500)
    later, last = growing(budget, 10)
    await settled()
    assert not waiting.done()
    assert not last.done(), "nobody slips past whoever waits"
    small.release()
    await settled()
    assert waiting.done()
    assert not last.done()
    large.release()
    await settled()
    assert last.done()
    later.release()


async def test_the_lanes_take_turns() -> None:
    budget = ByteBudget(10)
    holder, _ = growing(budget, 10)
    await settled()
    waiting = [growing(budget, 10, bulk=True) for _ in range(3)]
    urgent = growing(budget, 10, bulk=False)
    await settled()
    holder.release()
    await settled()
    if not urgent[1].done():
        waiting[0][0].release()
        await settled()
    assert urgent[1].done(), "it waits for one of the others at most"
    urgent[0].release()
    for reservation, task in [*waiting, urgent]:
        task.cancel()
        reservation.release()


async def test_bodies_that_grow_while_they_are_read_never_wait_for_one_another() -> None:
    budget = ByteBudget(100)

    async def read() -> None:
        reservation = budget.reservation(bulk=True)
        for size in (20, 40, 80):
            await reservation.grow(size)
            await asyncio.sleep(0)
            assert budget.used_bytes <= 100 + 80
        reservation.release()

    async with asyncio.timeout(60):
        await asyncio.gather(*(read() for _ in range(50)))
    assert budget.used_bytes == 0


@pytest.mark.parametrize("admitted", [False, True])
async def test_whoever_is_cancelled_while_it_waits_leaves_nothing_behind(admitted: bool) -> None:
    budget = ByteBudget(10)
    holder, _ = growing(budget, 10)
    await settled()
    _, waiting = growing(budget, 10)
    await settled()
    if admitted:
        holder.release()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    holder.release()
    assert budget.used_bytes == 0


async def test_whoever_gives_up_waiting_lets_those_behind_go_on_for_whom_there_is_room() -> None:
    """A cancelled command gives nothing back that could wake them."""
    budget = ByteBudget(100)
    growing(budget, 50)
    _, large = growing(budget, 80)
    _, small = growing(budget, 30)
    await settled()
    assert not small.done()
    large.cancel()
    await settled()
    assert small.done()
