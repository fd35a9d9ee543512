"""Medians over rounds, how far the rounds lie apart, and ratios of one contender to another."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Summary:
    """What some rounds came to.

    Attributes:
        median: the middle round, or the mean of the two in the middle.
        lowest: the lowest round.
        highest: the highest round.
    """

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Summary:
        """Returns the summary of one round or more."""
        return cls(statistics.median(rounds), min(rounds), max(rounds))

    @property
    def spread(self) -> float:
        """How far the rounds lie apart, as a share of the median."""
        return (self.highest - self.lowest) / self.median if self.median else 0.0


def ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Summary | None:
    """Returns how many times theirs ours is, round by round; None without a common round.

    A ratio is taken within a round, whose two runs follow each other, so that a machine that is
    slower for some minutes changes no ratio.

    Args:
        ours: figures by round.
        theirs: figures by round, above 0.
    """
    common = sorted(ours.keys() & theirs.keys())
    return Summary.of([ours[number] / theirs[number] for number in common]) if common else None


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value below or at which `share` of all lie: always one that was measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
