"""Rules of the bulk lane's limit: it follows the loop, while interactive commands come."""

from __future__ import annotations

import asyncio
import time

from worker.queue.pool.bulk_limit import LAG_SECONDS, BulkLimit

SLOTS = 512
LEAST = 64
LATE = 4 * LAG_SECONDS
PATIENCE_SECONDS = 60.0


def looking(limit: BulkLimit) -> BulkLimit:
    limit.saw_interactive()
    limit.saw_bulk(1)
    assert limit.is_looking
    return limit


def looks(limit: BulkLimit) -> bool:
    return limit.is_looking


async def stops_looking(limit: BulkLimit) -> bool:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while limit.is_looking and time.monotonic() < ends_at:
        await asyncio.sleep(0.01)
    return not limit.is_looking


async def limit_that_is_on(quiet_seconds: float = PATIENCE_SECONDS) -> BulkLimit:
    limit = looking(BulkLimit(SLOTS, LEAST, quiet_seconds))
    # What this loop is found to be is left out; the tests tell it.
    await asyncio.sleep(0)
    return limit


async def test_without_interactive_commands_bulk_ones_have_all_slots() -> None:
    limit = BulkLimit(SLOTS, LEAST)
    for _ in range(1000):
        limit.observe(LATE)
    assert limit.value == SLOTS


async def test_a_late_loop_lowers_it_in_a_moment_but_never_below_the_least() -> None:
    limit = await limit_that_is_on()
    values = []
    for _ in range(100):
        limit.observe(LATE)
        values.append(limit.value)
    assert values == sorted(values, reverse=True)
    assert values[30] < SLOTS / 2, "within a third of a second, at a look in 10 ms"
    assert values[-1] == LEAST


async def test_one_late_look_is_no_late_loop() -> None:
    limit = await limit_that_is_on()
    for _ in range(50):
        for lag_seconds in (LATE, 0, 0, 0, 0, 0, 0, 0, 0, 0):
            limit.observe(lag_seconds)
    assert limit.value > SLOTS * 0.9


async def test_a_loop_in_time_gives_the_slots_back_slowly() -> None:
    limit = await limit_that_is_on()
    for _ in range(100):
        limit.observe(LATE)
    for _ in range(100):
        limit.observe(0)
    assert LEAST < limit.value < SLOTS, "within a second it gives back a part"
    for _ in range(1000):
        limit.observe(0)
    assert limit.value == SLOTS


async def test_it_looks_at_the_loop_by_itself() -> None:
    """A loop that is kept busy for longer than may be lowers it; the same at rest does not."""
    limit = looking(BulkLimit(SLOTS, LEAST))
    await asyncio.sleep(0.3)
    at_rest = limit.value
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while limit.value > at_rest // 2 and time.monotonic() < ends_at:
        worked = time.thread_time()
        while time.thread_time() - worked < 8 * LAG_SECONDS:
            pass
        await asyncio.sleep(0)
    assert limit.value <= at_rest // 2


async def test_where_others_have_the_core_fewer_runs_would_not_help() -> None:
    """The thread stands still and does not work: only what it does itself counts."""
    limit = looking(BulkLimit(SLOTS, LEAST))
    for _ in range(20):
        time.sleep(8 * LAG_SECONDS)  # noqa: ASYNC251 - as a core that another process has
        await asyncio.sleep(0.001)
    assert limit.value > SLOTS * 0.9


async def test_some_seconds_after_the_last_interactive_command_it_is_off() -> None:
    limit = await limit_that_is_on(quiet_seconds=0.2)
    for _ in range(100):
        limit.observe(LATE)
    assert limit.value < SLOTS
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while limit.value < SLOTS and time.monotonic() < ends_at:
        limit.observe(LATE)
        await asyncio.sleep(0.01)
    assert limit.value == SLOTS
    limit.saw_interactive()
    assert limit.value < SLOTS / 2, "it begins with what it had found"


async def test_it_looks_only_where_both_lanes_run() -> None:
    """A hundred looks a second would be most of what a worker at rest takes of its core."""
    limit = BulkLimit(SLOTS, LEAST)
    limit.saw_interactive()
    assert not looks(limit), "there is nothing to limit"
    limit.saw_bulk(2)
    assert looks(limit), "whichever lane comes first"
    limit.saw_bulk(0)
    assert await stops_looking(limit)

    limit = BulkLimit(SLOTS, LEAST, quiet_seconds=0.1)
    limit.saw_bulk(1)
    assert not looks(limit), "nobody is held up"
    limit.saw_interactive()
    assert looks(limit)
    assert await stops_looking(limit), "the last interactive command is long over"


async def test_what_it_had_found_is_kept_while_no_bulk_command_runs() -> None:
    limit = await limit_that_is_on()
    for _ in range(100):
        limit.observe(LATE)
    limit.saw_bulk(0)
    assert await stops_looking(limit)
    assert limit.value < SLOTS / 2


async def test_how_late_the_loop_was_before_a_pause_lowers_nothing_after_it() -> None:
    limit = await limit_that_is_on()
    for _ in range(30):
        limit.observe(LATE)
    limit.saw_bulk(0)
    assert await stops_looking(limit)
    lowered = looking(limit).value
    limit.observe(0.0)
    assert limit.value >= lowered
