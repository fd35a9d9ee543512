"""Rules of slots: how many of each lane may run, and when a claim is worth its script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.enums import Priority
from tests.integration.ledger_acts import new_command
from tests.unit.queue.pool.leases import lease_of
from worker.queue.ledger.models import RowState
from worker.queue.pool.bulk_limit import LAG_SECONDS
from worker.queue.pool.slots import BULK_PAUSE_SECONDS, Slots

if TYPE_CHECKING:
    from worker.queue.pool.bulk_limit import BulkLimit

SLOTS = 64


def run(slots: Slots, lane: Priority, count: int = 1) -> None:
    for _ in range(count):
        slots.count(lease_of(lane), 1)


def make_late(limit: BulkLimit) -> None:
    for _ in range(200):
        limit.observe(4 * LAG_SECONDS)


async def test_bulk_commands_leave_a_sixteenth_and_have_one() -> None:
    slots = Slots(SLOTS)
    assert (slots.bulk_bounds(), slots.bulk_most) == ((4, 60), 60)
    run(slots, Priority.BULK, 10)
    assert (slots.bulk_bounds(), slots.bulk_most) == ((0, 50), 60)


async def test_a_single_slot_is_for_both_lanes_in_turn() -> None:
    slots = Slots(1)
    make_late(slots.bulk_limit)
    run(slots, Priority.INTERACTIVE)
    assert slots.bulk_most == 1
    assert [slots.bulk_bounds() for _ in range(3)] == [(1, 1), (0, 1), (1, 1)]


async def test_on_a_late_loop_bulk_commands_have_an_eighth_while_interactive_ones_come() -> None:
    slots = Slots(SLOTS)
    make_late(slots.bulk_limit)
    assert slots.bulk_bounds() == (4, 60), "no interactive command came yet"
    run(slots, Priority.INTERACTIVE)
    assert (slots.bulk_bounds(), slots.bulk_most) == ((4, 8), 8)
    run(slots, Priority.BULK, 20)
    assert slots.bulk_bounds() == (0, 0)
    assert slots.free == SLOTS - 21, "the others are for interactive ones"


async def test_slots_are_reserved_for_no_more_bytes_than_what_runs_leaves() -> None:
    slots = Slots(SLOTS, text_bytes=1_000)
    commands = [new_command(b"1-0", text=bytes(300)) for _ in range(4)]
    slots.count(lease_of(Priority.INTERACTIVE, text=bytes(500)), 1)
    assert slots.reserve(commands) == 1
    slots.count(lease_of(Priority.INTERACTIVE, text=bytes(500)), -1)
    assert slots.reserve(commands) == 3


async def test_a_look_at_a_training_is_nobody_who_waits() -> None:
    slots = Slots(SLOTS)
    make_late(slots.bulk_limit)
    slots.count(lease_of(Priority.INTERACTIVE, RowState.POLLING), 1)
    assert slots.bulk_bounds() == (4, 60)


async def test_a_claim_is_worth_it_for_a_quarter_of_what_may_run() -> None:
    slots = Slots(SLOTS)
    run(slots, Priority.INTERACTIVE, 48)
    assert slots.is_worth_a_claim
    run(slots, Priority.INTERACTIVE)
    assert not slots.is_worth_a_claim


async def test_of_a_limited_bulk_lane_a_quarter_of_the_limit_is_worth_a_claim() -> None:
    """Most slots are free, but not for bulk commands: a claim for each that ends costs more."""
    slots = Slots(SLOTS)
    make_late(slots.bulk_limit)
    run(slots, Priority.INTERACTIVE)
    run(slots, Priority.BULK, 6)
    assert slots.is_worth_a_claim
    run(slots, Priority.BULK)
    assert not slots.is_worth_a_claim


async def test_while_the_intake_is_behind_the_bulk_share_is_never_put_off_without_end() -> None:
    """A claim may take longer than the pause between two shares, and nothing else wakes a drain."""
    slots = Slots(SLOTS, intake_is_behind=lambda: True)
    assert slots.bulk_pause_seconds > 0, "though the last pause is over"
    assert slots.bulk_bounds() == (4, 4)
    assert 0 < slots.bulk_pause_seconds <= BULK_PAUSE_SECONDS
    assert Slots(SLOTS).bulk_pause_seconds == 0
