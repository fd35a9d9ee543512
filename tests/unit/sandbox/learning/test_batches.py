"""From labels of several projects to what a net sees: mapping, frames, batches."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from sandbox.learning.batches import NO_FEATURE, Batches, load_frames
from sandbox.learning.errors import TrainingJobError
from sandbox.learning.folders import import_folder
from sandbox.learning.generator import generate
from sandbox.learning.ground_truth import sample
from sandbox.learning.nets import MASK_SIDE, Net
from schemas.enums import FeatureType, ModelArchitecture

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.learning.ground_truth import Item, Project

BOXES = Net(ModelArchitecture.FASTER_RCNN, features=2)
MASKS = Net(ModelArchitecture.MASK_RCNN, features=1)


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> list[Project]:
    """The two generated projects, which name the same shapes differently."""
    return generate(tmp_path_factory.mktemp("data"), seed=3)


def _hash(project: Project, name: str) -> str:
    (found,) = [each.feature_hash for each in project.ontology if each.name == name]
    return found


def _showing(project: Project, *names: str, frames: int = 1) -> Item:
    """Returns an item of so many frames whose first shows one of each, whatever else it shows."""
    hashes = {_hash(project, name) for name in names}
    for item in project.items:
        shown = {one["featureHash"] for one in item.truth["frames"][0]["objects"]}
        if hashes <= shown and item.frames == frames:
            return item
    message = f"no item shows {names}"
    raise AssertionError(message)


def test_two_names_in_two_projects_become_one_feature(projects: list[Project]) -> None:
    shapes, pieces = projects
    items = _showing(shapes, "circle"), _showing(pieces, "disc")
    samples = [
        sample(items[0].file, items[0].truth, {_hash(shapes, "circle"): ["round"]}),
        sample(items[1].file, items[1].truth, {_hash(pieces, "disc"): ["round"]}),
    ]
    frames = load_frames(samples, ["other", "round"], BOXES)
    assert len(frames) == 2
    assert {thing.feature for frame in frames for thing in frame.things} == {1}


def test_what_the_mapping_does_not_name_is_background(projects: list[Project]) -> None:
    shapes, _ = projects
    item = _showing(shapes, "circle", "star")
    mapped = sample(item.file, item.truth, {_hash(shapes, "star"): ["star"]})
    (frame,) = mapped["frames"]
    wanted = [
        one
        for one in item.truth["frames"][0]["objects"]
        if one["featureHash"] == _hash(shapes, "star")
    ]
    assert [one["polygon"] for one in frame["objects"]] == [one["polygon"] for one in wanted]
    assert frame["classes"] == []


def test_one_name_may_become_two_features_and_a_class_too(projects: list[Project]) -> None:
    shapes, _ = projects
    item = _showing(shapes, "circle")
    option = item.truth["frames"][0]["classification"]
    assert option is not None
    mapping = {_hash(shapes, "circle"): ["a", "b"], option: ["c"]}
    (frame,) = sample(item.file, item.truth, mapping)["frames"]
    features = [one["feature"] for one in frame["objects"]]
    assert features.count("a") == features.count("b") >= 1
    assert frame["classes"] == ["c"]


@pytest.mark.parametrize("is_folder", [True, False])
def test_every_frame_of_a_group_and_of_a_clip_is_learnt_from(
    projects: list[Project], is_folder: bool
) -> None:
    shapes, _ = projects
    item = next(
        each for each in shapes.items if each.frames > 2 and each.file.is_dir() == is_folder
    )
    mapping = {each.feature_hash: ["a"] for each in shapes.ontology}
    frames = load_frames([sample(item.file, item.truth, mapping)], ["a", "b"], BOXES)
    assert len(frames) == item.frames
    pictures = [frame.picture for frame in frames]
    assert all((one != other).any() for one, other in pairwise(pictures))


def test_a_feature_that_the_model_lacks_and_labels_that_show_nothing_are_told(
    projects: list[Project],
) -> None:
    shapes, _ = projects
    item = _showing(shapes, "circle")
    mapped = sample(item.file, item.truth, {_hash(shapes, "circle"): ["round"]})
    with pytest.raises(TrainingJobError, match="the model has no feature 'round'"):
        load_frames([mapped], ["square", "moon"], BOXES)
    background = sample(item.file, item.truth, {})
    with pytest.raises(TrainingJobError, match="none of the labels shows any of: round"):
        load_frames([background], ["round"], BOXES)


def test_labels_that_show_nothing_beside_others_are_learnt_from_as_background(
    projects: list[Project],
) -> None:
    shapes, _ = projects
    item, other = _showing(shapes, "circle"), _showing(shapes, "star")
    labels = [
        sample(item.file, item.truth, {_hash(shapes, "circle"): ["round"]}),
        sample(other.file, other.truth, {}),
    ]
    frames = load_frames(labels, ["round"], BOXES)
    assert [bool(frame.things) for frame in frames] == [True, False]


def test_labels_of_another_file_are_told(projects: list[Project], tmp_path: Path) -> None:
    item = _showing(projects[0], "circle")
    file = tmp_path / "clip.gif"
    first, second = (Image.new("RGB", (9, 9), color) for color in ("red", "blue"))
    first.save(file, save_all=True, append_images=[second])
    with pytest.raises(TrainingJobError, match=r"clip.gif has 2 frames, its labels 1"):
        load_frames([sample(file, item.truth, {})], ["a"], BOXES)


def test_an_epoch_shows_every_frame_and_boxes_stay_on_their_things(tmp_path: Path) -> None:
    _square_folder(tmp_path, count=5)
    frames = load_frames(_samples(tmp_path, FeatureType.BOUNDING_BOX), ["square"], MASKS)
    batches = Batches(frames, MASKS, 2, np.random.default_rng(0))
    assert len(batches) == 3
    for batch in batches.epoch():
        for picture, boxes, features in zip(
            batch.pictures, batch.boxes, batch.features, strict=True
        ):
            for box in boxes[features != NO_FEATURE]:
                left, top, right, bottom = (box * MASKS.side).round().astype(int)
                inside = picture[top + 2 : bottom - 2, left + 2 : right - 2].mean(axis=(0, 1))
                # However the picture was moved, mirrored and tinted, the red square is in its box.
                assert inside[0] > inside[1] + 60


def test_a_mask_covers_its_thing_in_its_box(tmp_path: Path) -> None:
    _square_folder(tmp_path, count=2)
    frames = load_frames(_samples(tmp_path, FeatureType.POLYGON), ["square"], MASKS)
    (batch,) = Batches(frames, MASKS, 2, np.random.default_rng(0)).epoch()
    masks = batch.masks[batch.mask_counts == 1]
    assert masks.shape == (2, MASK_SIDE, MASK_SIDE)
    # A square fills its box but for the margin of a tenth on each side.
    assert (masks > 0).mean() == pytest.approx((1 / 1.2) ** 2, abs=0.12)
    assert (masks[:, 8:20, 8:20] > 0).all()


def _square_folder(folder: Path, count: int) -> None:
    """Writes COCO JSON on pictures with one red square each."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        picture = np.full((80, 100, 3), 90, np.uint8)
        x, y = 30 + number, 20
        picture[y : y + 40, x : x + 40] = (230, 20, 20)
        Image.fromarray(picture).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png"})
        corners = [x, y, x + 40, y, x + 40, y + 40, x, y + 40]
        annotations.append({"image_id": number, "category_id": 1, "segmentation": [corners]})
    body = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "square"}],
    }
    (folder / "labels.json").write_text(json.dumps(body))


def _samples(folder: Path, kind: FeatureType) -> list[Any]:
    project = import_folder(folder)
    mapping = {each.feature_hash: ["square"] for each in project.ontology if each.type is kind}
    return [sample(item.file, item.truth, mapping) for item in project.items]
