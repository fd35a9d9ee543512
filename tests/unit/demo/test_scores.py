"""Scores of predictions against a known truth."""

from __future__ import annotations

from typing import Any

import pytest

from demo.scores import Scored, accuracy, box_map50, mask_map50

# Two projects call the same thing differently.
ROUND, SQUARE = {"h-circle": "round", "h-disc": "round"}, {"h-box": "square"}
CATEGORIES = {**ROUND, **SQUARE}
OPTIONS = {"o-plain": "plain", "o-blank": "plain", "o-dots": "dotted"}


def box(x: float, y: float, w: float = 0.2, h: float = 0.2) -> dict[str, float]:
    return {"x": x, "y": y, "w": w, "h": h}


def polygon(*corners: tuple[float, float]) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in corners]


def frame(*objects: dict[str, Any], option: str | None = None) -> dict[str, Any]:
    return {"objects": list(objects), "classification": option}


def true_box(feature: str, *place: float) -> dict[str, Any]:
    return {"featureHash": feature, "track": 0, "boundingBox": box(*place)}


def found_box(feature: str, confidence: float, *place: float) -> dict[str, Any]:
    return {"feature_id": feature, "confidence": confidence, "bounding_box": box(*place)}


def test_boxes_found_where_they_are_score_one() -> None:
    item = Scored(
        [frame(true_box("h-circle", 0.1, 0.1), true_box("h-box", 0.6, 0.6))],
        {"0": [found_box("h-circle", 0.9, 0.1, 0.1), found_box("h-box", 0.8, 0.61, 0.6)]},
    )
    assert box_map50([item], CATEGORIES) == pytest.approx(1.0)


def test_hashes_of_two_projects_are_one_category() -> None:
    one = Scored(
        [frame(true_box("h-circle", 0.1, 0.1))], {"0": [found_box("h-circle", 0.9, 0.1, 0.1)]}
    )
    other = Scored(
        [frame(true_box("h-disc", 0.5, 0.5))], {"0": [found_box("h-disc", 0.9, 0.5, 0.5)]}
    )
    assert box_map50([one, other], CATEGORIES) == pytest.approx(1.0)
    missed = Scored(other.truth, {"0": []})
    # One of two things of the one category: 51 of COCO's 101 recalls are reached.
    assert box_map50([one, missed], CATEGORIES) == pytest.approx(51 / 101)


def test_a_box_of_the_wrong_category_finds_nothing() -> None:
    item = Scored(
        [frame(true_box("h-circle", 0.1, 0.1))], {"0": [found_box("h-box", 0.9, 0.1, 0.1)]}
    )
    assert box_map50([item], CATEGORIES) == 0.0


def test_a_box_that_overlaps_less_than_half_finds_nothing() -> None:
    truth = [frame(true_box("h-circle", 0.1, 0.1))]
    near = Scored(truth, {"0": [found_box("h-circle", 0.9, 0.15, 0.1)]})
    far = Scored(truth, {"0": [found_box("h-circle", 0.9, 0.2, 0.1)]})
    assert box_map50([near], CATEGORIES) == pytest.approx(1.0)
    assert box_map50([far], CATEGORIES) == 0.0


def test_a_surer_wrong_box_costs_precision() -> None:
    item = Scored(
        [frame(true_box("h-circle", 0.1, 0.1))],
        {"0": [found_box("h-circle", 0.9, 0.7, 0.7), found_box("h-circle", 0.5, 0.1, 0.1)]},
    )
    assert box_map50([item], CATEGORIES) == pytest.approx(0.5)


def test_a_frame_that_was_not_predicted_counts_as_one_with_nothing_found() -> None:
    truth = [frame(true_box("h-circle", 0.1, 0.1)), frame(true_box("h-circle", 0.1, 0.1))]
    item = Scored(truth, {"0": [found_box("h-circle", 0.9, 0.1, 0.1)]})
    assert box_map50([item], CATEGORIES) == pytest.approx(51 / 101)


def test_outlines_are_scored_by_what_they_cover_not_by_their_boxes() -> None:
    half = polygon((0.2, 0.2), (0.8, 0.2), (0.2, 0.8))
    other_half = polygon((0.8, 0.8), (0.8, 0.2), (0.2, 0.8))
    truth = [frame({"featureHash": "h-box", "track": 0, "polygon": half})]
    found = {"feature_id": "h-box", "confidence": 0.9}
    assert mask_map50(
        [Scored(truth, {"0": [{**found, "polygon": half}]})], CATEGORIES
    ) == pytest.approx(1)
    assert mask_map50([Scored(truth, {"0": [{**found, "polygon": other_half}]})], CATEGORIES) == 0.0


def test_features_that_the_model_does_not_know_are_left_out_of_the_score() -> None:
    item = Scored(
        [frame(true_box("h-circle", 0.1, 0.1), true_box("h-star", 0.6, 0.6))],
        {"0": [found_box("h-circle", 0.9, 0.1, 0.1)]},
    )
    assert box_map50([item], CATEGORIES) == pytest.approx(1.0)


def test_accuracy_is_the_share_of_frames_with_the_right_class() -> None:
    item = Scored(
        [frame(option="o-plain"), frame(option="o-dots"), frame(option="o-dots"), frame()],
        {
            "0": {"feature_id_child": "o-blank"},
            "1": {"feature_id_child": "o-plain"},
            "2": None,
            "3": {"feature_id_child": "o-dots"},
        },
    )
    assert accuracy([item], OPTIONS) == pytest.approx(1 / 3)


@pytest.mark.parametrize("score", [accuracy, box_map50, mask_map50])
def test_without_anything_to_find_there_is_no_score(score: Any) -> None:
    with pytest.raises(ValueError, match="to score"):
        score([Scored([frame()], {"0": []})], CATEGORIES)
