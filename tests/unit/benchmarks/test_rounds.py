"""A contender that fails is left out of its round; trainmaster is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.contenders.celery_threads import CeleryThreads
from benchmarks.contenders.ours import Trainmaster
from benchmarks.errors import BenchmarkError
from benchmarks.rounds import in_rounds

if TYPE_CHECKING:
    from benchmarks.contenders.contender import Contender


def test_contenders_take_turns() -> None:
    ours, theirs = Trainmaster(), CeleryThreads()
    found = [
        (number, contender.name, title)
        for number, contender, title in in_rounds(2, [ours, theirs], lambda each: each.title)
    ]
    assert found == [
        (0, "trainmaster", "trainmaster"),
        (0, "celery-threads", CeleryThreads.title),
        (1, "trainmaster", "trainmaster"),
        (1, "celery-threads", CeleryThreads.title),
    ]


def test_another_queue_that_fails_is_left_out_of_that_round_and_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tries = iter(["lost", "well", "well", "well"])

    def measure(contender: Contender) -> str:
        if (how := next(tries)) == "lost":
            raise BenchmarkError(f"{contender.name}: events are missing")
        return how

    found = [
        (number, each.name)
        for number, each, _ in in_rounds(2, [CeleryThreads(), Trainmaster()], measure)
    ]
    assert found == [(0, "trainmaster"), (1, "celery-threads"), (1, "trainmaster")]
    assert "left out of round 0: celery-threads: events are missing" in capsys.readouterr().err


def test_our_own_failure_ends_the_scenario() -> None:
    def measure(contender: Contender) -> str:
        raise BenchmarkError(f"{contender.name}: events are missing")

    with pytest.raises(BenchmarkError, match="trainmaster: events are missing"):
        list(in_rounds(1, [CeleryThreads(), Trainmaster()], measure))
