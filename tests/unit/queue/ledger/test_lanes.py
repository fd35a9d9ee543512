"""Rules of pausing a lane: both enough ends and enough time, and any success starts anew."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.enums import Priority
from worker.queue.ledger.lanes import FailureRateMonitor

LANE = Priority.BULK


@dataclass
class Clock:
    """A clock that a test moves."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def share_of(clock: Clock) -> FailureRateMonitor:
    return FailureRateMonitor(commands=10, seconds=60, share=0.9, clock=clock)


def test_a_batch_of_bad_commands_that_fails_fast_pauses_nothing() -> None:
    clock = Clock()
    share = share_of(clock)
    assert not any(share.count(LANE, failed=True) for _ in range(1000))


def test_few_failures_over_a_long_time_pause_nothing() -> None:
    clock = Clock()
    share = share_of(clock)
    for _ in range(9):
        clock.now += 3600
        assert not share.count(LANE, failed=True)


def test_many_failures_over_a_long_time_pause_the_lane_once() -> None:
    clock = Clock()
    share = share_of(clock)
    told = []
    for _ in range(12):
        told.append(share.count(LANE, failed=True))
        clock.now += 10
    assert told.index(True) == 9
    assert told.count(True) == 1


def test_enough_successes_start_the_count_anew() -> None:
    clock = Clock()
    share = share_of(clock)
    for _ in range(9):
        share.count(LANE, failed=True)
    for _ in range(2):
        assert not share.count(LANE, failed=False)
    clock.now += 61
    assert not share.count(LANE, failed=True)


def test_one_lane_does_not_count_for_the_other() -> None:
    clock = Clock()
    share = share_of(clock)
    for _ in range(9):
        share.count(LANE, failed=True)
        clock.now += 7
    assert not share.count(Priority.INTERACTIVE, failed=True)
    assert share.count(LANE, failed=True)


def test_a_batch_that_fails_fast_after_a_quiet_hour_pauses_nothing() -> None:
    clock = Clock()
    share = share_of(clock)
    share.count(LANE, failed=False)
    clock.now += 3600
    assert not any(share.count(LANE, failed=True) for _ in range(1000))


def test_a_failure_of_an_hour_ago_does_not_lengthen_a_batch_that_fails_fast() -> None:
    clock = Clock()
    share = share_of(clock)
    share.count(LANE, failed=True)
    clock.now += 3600
    assert not any(share.count(LANE, failed=True) for _ in range(1000))
