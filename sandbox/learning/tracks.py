"""Gives the same thing the same number in every frame of an item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sandbox.learning.prediction import Box

# Boxes of one thing in neighbouring frames overlap at least so much; below, it is another thing.
_LEAST_OVERLAP = 0.1

# A thing that is missed in so many frames in a row (hidden, or not sure enough) keeps its number.
_MOST_MISSED_FRAMES = 3


class Trackable(Protocol):
    """A detection or a segment."""

    @property
    def feature(self) -> str:
        """What it is."""

    @property
    def box(self) -> Box:
        """Where it is."""


@dataclass(slots=True)
class _Track:
    """A thing as it was last seen."""

    number: int
    thing: Trackable
    missed: int = 0


class Tracker:
    """Follows things over the frames of one item; feed it the frames in order.

    Things are paired with those of the frames before by the overlap of their boxes, all at once
    and as well as possible (the Hungarian method), and only with things of the same feature.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._next_number = 0

    def assign(self, things: Sequence[Trackable]) -> list[int]:
        """Returns the number of each thing of the next frame; numbers count from 0."""
        overlaps = _overlaps([track.thing for track in self._tracks], things)
        rows, columns = linear_sum_assignment(overlaps, maximize=True)
        numbers: dict[int, int] = {}
        for track in self._tracks:
            track.missed += 1
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if overlaps[row, column] >= _LEAST_OVERLAP:
                track = self._tracks[row]
                track.thing, track.missed = things[column], 0
                numbers[column] = track.number
        self._tracks = [each for each in self._tracks if each.missed <= _MOST_MISSED_FRAMES]
        return [
            numbers[index] if index in numbers else self._begin(thing)
            for index, thing in enumerate(things)
        ]

    def _begin(self, thing: Trackable) -> int:
        self._tracks.append(_Track(self._next_number, thing))
        self._next_number += 1
        return self._tracks[-1].number


def _overlaps(before: Sequence[Trackable], after: Sequence[Trackable]) -> NDArray[np.float64]:
    """Returns intersection over union, (before, after); 0 where the features differ."""
    one = np.array([_corners(each.box) for each in before]).reshape(-1, 1, 4)
    two = np.array([_corners(each.box) for each in after]).reshape(1, -1, 4)
    low, high = np.maximum(one[..., :2], two[..., :2]), np.minimum(one[..., 2:], two[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (one, two)]
    union = areas[0] + areas[1] - shared
    same = np.array([[a.feature == b.feature for b in after] for a in before], dtype=bool)
    overlaps: NDArray[np.float64] = np.where(same.reshape(union.shape), shared, 0.0)
    return overlaps / np.maximum(union, np.finfo(float).tiny)


def _corners(box: Box) -> tuple[float, float, float, float]:
    return box.x, box.y, box.x + box.w, box.y + box.h
