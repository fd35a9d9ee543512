"""Rounds: each contender after the other, and all over again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from benchmarks.contenders.ours import Trainmaster
from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.contenders.contender import Contender

T = TypeVar("T")


def in_rounds(
    rounds: int, contenders: Sequence[Contender], measure: Callable[[Contender], T]
) -> Iterator[tuple[int, Contender, T]]:
    """Yields A B C, A B C and so on, so that slow minutes of a machine hit all alike.

    Another queue that loses something, as SAQ does a job now and then, is told and left out of that
    round: all others are measured all the same.

    Args:
        rounds: how many.
        contenders: in the order of each round.
        measure: returns what a contender came to.

    Raises:
        BenchmarkError: it was trainmaster's.
    """
    for number in range(rounds):
        for contender in contenders:
            try:
                found = measure(contender)
            except BenchmarkError as exc:
                if contender.name == Trainmaster.name:
                    raise
                print(f"  left out of round {number}: {exc}", file=sys.stderr, flush=True)
            else:
                yield number, contender, found
