"""What the demo trains on: mappings between two vocabularies, and labels that are not shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.dataset import Feature, Item, Project
from demo.plan import CLASSIFICATION, DETECTION, MODELS, SEGMENTATION, spread


def ontology(names: str, feature_type: str) -> list[Feature]:
    return [Feature(f"h-{name}", name, feature_type, "#000000") for name in names.split()]


def item(number: int, *features: str, option: str | None = None) -> Item:
    objects = [{"featureHash": f"h-{name}"} for name in features]
    truth = [{"objects": objects, "classification": option}]
    return Item(f"d{number}", f"l{number}", Path("x"), 1, "train", truth)


SHAPES = Project(
    "p-shapes",
    "Shapes",
    tuple(
        ontology("circle square triangle", "boundingBox")
        + ontology("star moon cross", "polygon")
        + ontology("plain stripes dots", "classificationOption")
    ),
    (
        item(0, "circle"),
        item(1, "star"),
        item(2, "circle", "star"),
        item(3, option="h-plain"),
        item(4, "square", option="h-dots"),
    ),
)
PIECES = Project(
    "p-pieces", "Pieces", tuple(ontology("disc box wedge", "boundingBox")), (item(5, "disc"),)
)


def test_both_projects_features_are_mapped_to_the_models_own() -> None:
    assert DETECTION.training_mapping([SHAPES, PIECES]) == {
        "p-shapes": {"h-circle": ["round"], "h-square": ["square"], "h-triangle": ["triangular"]},
        "p-pieces": {"h-disc": ["round"], "h-box": ["square"], "h-wedge": ["triangular"]},
    }


def test_an_attachment_maps_them_back_to_one_project() -> None:
    assert DETECTION.attachment_mapping(PIECES) == {
        "round": "h-disc",
        "square": "h-box",
        "triangular": "h-wedge",
    }


def test_an_ontology_without_a_feature_is_an_error_that_names_both() -> None:
    with pytest.raises(KeyError, match="Pieces has none of the features star, spark"):
        SEGMENTATION.attachment_mapping(PIECES)


def test_labels_that_show_nothing_of_the_model_are_left_out() -> None:
    found = {label for part in (0, 1) for label in DETECTION.labels(SHAPES, part, None)}
    assert found == {"l0", "l2", "l4"}


def test_a_second_training_gets_labels_that_the_first_did_not() -> None:
    assert DETECTION.labels(SHAPES, 0, None) == ["l0", "l2"]
    assert DETECTION.labels(SHAPES, 1, None) == ["l4"]


def test_a_model_that_is_trained_once_gets_all_its_labels() -> None:
    assert CLASSIFICATION.labels(SHAPES, 0, None) == ["l3", "l4"]
    assert SEGMENTATION.labels(SHAPES, 0, None) == ["l1", "l2"]


def test_one_model_is_trained_again_and_each_task_has_one() -> None:
    assert [len(plan.epochs) for plan in MODELS].count(2) == 1
    assert len({plan.task for plan in MODELS}) == len(MODELS) == 3


@pytest.mark.parametrize(("most", "expected"), [(None, range(10)), (20, range(10)), (2, (0, 5))])
def test_a_few_items_come_from_all_over_the_list(most: int | None, expected: range) -> None:
    items = [item(number) for number in range(10)]
    assert spread(items, most) == [items[number] for number in expected]
