"""The same thing keeps its number from frame to frame."""

from __future__ import annotations

from sandbox.learning.prediction import Box, Detection
from sandbox.learning.tracks import Tracker

SIDE = 0.2


def _at(x: float, y: float = 0.4, feature: str = "cat") -> Detection:
    return Detection(feature, 0.9, Box(x, y, SIDE, SIDE))


def test_things_keep_their_numbers_in_whatever_order_they_are_found() -> None:
    tracker = Tracker()
    assert tracker.assign([_at(0.1), _at(0.6)]) == [0, 1]
    assert tracker.assign([_at(0.58), _at(0.12)]) == [1, 0]


def test_two_things_that_cross_keep_their_numbers() -> None:
    tracker = Tracker()
    numbers = []
    for step in range(11):
        # One goes right, the other left and a little lower; in the middle they overlap.
        right, left = _at(0.1 + 0.06 * step, 0.4), _at(0.7 - 0.06 * step, 0.5)
        numbers.append(tracker.assign([right, left]))
    assert numbers == [[0, 1]] * 11


def test_pairs_are_the_best_for_all_and_not_for_the_first() -> None:
    tracker = Tracker()
    tracker.assign([_at(0.30), _at(0.40)])
    # The one at 0.37 overlaps most with the second, but then the other would find no partner.
    assert tracker.assign([_at(0.37), _at(0.48)]) == [0, 1]


def test_a_hidden_thing_has_its_number_when_it_is_seen_again() -> None:
    tracker = Tracker()
    assert tracker.assign([_at(0.1), _at(0.6)]) == [0, 1]
    for _ in range(3):
        assert tracker.assign([_at(0.1)]) == [0]
    assert tracker.assign([_at(0.62), _at(0.1)]) == [1, 0]


def test_a_thing_that_was_away_for_longer_is_another_one() -> None:
    tracker = Tracker()
    tracker.assign([_at(0.1)])
    for _ in range(4):
        assert tracker.assign([]) == []
    assert tracker.assign([_at(0.1)]) == [1]


def test_a_thing_far_off_or_of_another_feature_is_another_one() -> None:
    tracker = Tracker()
    assert tracker.assign([_at(0.1)]) == [0]
    assert tracker.assign([_at(0.7), _at(0.1, feature="dog")]) == [1, 2]
    assert tracker.assign([_at(0.1, feature="dog"), _at(0.1)]) == [2, 0]
