"""A user's folder becomes a project: COCO JSON with real pictures, or a folder per class."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from sandbox.learning.errors import ImportFolderError
from sandbox.learning.folders import import_folder
from schemas.enums import FeatureType, ItemType

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.learning.ground_truth import ObjectTruth, Project

WIDTH, HEIGHT = 40, 20
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


def _picture(file: Path, frames: int = 1, **more: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.new("RGB", (WIDTH, HEIGHT), (number * 40, 90, 120)) for number in range(4)]
    first, *others = pictures[:frames]
    if others:
        more |= {"save_all": True, "append_images": others}
    first.save(file, **more)


def _coco(file: Path, names: list[str], *annotations: dict[str, Any], **more: Any) -> None:
    images = [
        {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for number, name in enumerate(names)
    ]
    body = {"images": images, "annotations": annotations, "categories": CATEGORIES, **more}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(body))


def _thing(image: int = 0, category: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image, "category_id": category, **more}


def _objects(project: Project, kind: FeatureType, item: int = 0) -> list[ObjectTruth]:
    hashes = {each.feature_hash for each in project.ontology if each.type is kind}
    (frame,) = project.items[item].truth["frames"]
    return [each for each in frame["objects"] if each["featureHash"] in hashes]


def _features(project: Project) -> list[tuple[str, str]]:
    return [(each.type.value, each.name) for each in project.ontology]


def test_a_bbox_in_pixels_becomes_a_box_in_shares_of_the_picture(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    _coco(tmp_path / "labels.json", ["a.png"], _thing(bbox=[10, 5, 20, 10]))
    project = import_folder(tmp_path)
    (thing,) = _objects(project, FeatureType.BOUNDING_BOX)
    assert thing["boundingBox"] == {"x": 0.25, "y": 0.25, "w": 0.5, "h": 0.5}
    assert _features(project) == [("boundingBox", "cat")]
    (item,) = project.items
    assert (item.file, item.width, item.height, item.frames) == (tmp_path / "a.png", 40, 20, 1)


def test_a_polygon_teaches_outlines_and_boxes(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    corners = [[4, 2, 36, 2, 36, 18, 4, 18], [0, 0, 2, 0, 2, 2]]
    _coco(tmp_path / "labels.json", ["a.png"], _thing(segmentation=corners))
    project = import_folder(tmp_path)
    assert _features(project) == [("boundingBox", "cat"), ("polygon", "cat")]
    (outlined,) = _objects(project, FeatureType.POLYGON)
    found = [(point["x"], point["y"]) for point in outlined["polygon"]]
    assert found == [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)]
    (boxed,) = _objects(project, FeatureType.BOUNDING_BOX)
    assert boxed["boundingBox"] == pytest.approx({"x": 0.1, "y": 0.1, "w": 0.8, "h": 0.8})


@pytest.mark.parametrize("is_compressed", [True, False])
def test_a_mask_of_run_lengths_becomes_the_outline_around_its_pixels(
    tmp_path: Path, is_compressed: bool
) -> None:
    _picture(tmp_path / "a.png")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:15, 10:30] = 1
    mask[0, 0] = 1
    if is_compressed:
        runs = coco_mask.encode(np.asfortranarray(mask))
        counts: Any = bytes(runs["counts"]).decode()  # type: ignore[arg-type]
    else:
        flat = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
        counts = np.diff([0, *edges, flat.size]).tolist()
    segmentation = {"size": [HEIGHT, WIDTH], "counts": counts}
    _coco(tmp_path / "labels.json", ["a.png"], _thing(segmentation=segmentation))
    (thing,) = _objects(import_folder(tmp_path), FeatureType.POLYGON)
    points = np.array([[point["x"] * WIDTH, point["y"] * HEIGHT] for point in thing["polygon"]])
    assert points.min(axis=0) == pytest.approx([10, 5], abs=0.5)
    assert points.max(axis=0) == pytest.approx([30, 15], abs=0.5)


def test_crowds_are_left_out_and_what_reaches_outside_is_cut(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    crowd = _thing(iscrowd=1, segmentation={"size": [HEIGHT, WIDTH], "counts": [800]})
    _coco(tmp_path / "labels.json", ["a.png"], crowd, _thing(bbox=[30, -5, 20, 15]))
    (thing,) = _objects(import_folder(tmp_path), FeatureType.BOUNDING_BOX)
    assert thing["boundingBox"] == {"x": 0.75, "y": 0.0, "w": 0.25, "h": 0.5}


def test_pictures_are_found_where_coco_puts_them(tmp_path: Path) -> None:
    _picture(tmp_path / "train2017/a.png")
    _picture(tmp_path / "val2017/b.png")
    _coco(tmp_path / "annotations/instances_train2017.json", ["a.png"], _thing(bbox=[0, 0, 9, 9]))
    _coco(tmp_path / "annotations/instances_val2017.json", ["b.png"], _thing(bbox=[0, 0, 9, 9]))
    project = import_folder(tmp_path)
    assert [(each.title, each.split) for each in project.items] == [
        ("train2017/a.png", "train"),
        ("val2017/b.png", "heldout"),
    ]


def test_two_files_on_one_picture_hold_together(tmp_path: Path) -> None:
    _picture(tmp_path / "images/a.png")
    _coco(tmp_path / "cats.json", ["a.png"], _thing(category=1, bbox=[0, 0, 9, 9]))
    _coco(tmp_path / "dogs.json", ["a.png"], _thing(category=2, bbox=[9, 9, 9, 9]))
    project = import_folder(tmp_path)
    assert _features(project) == [("boundingBox", "cat"), ("boundingBox", "dog")]
    assert [each["track"] for each in _objects(project, FeatureType.BOUNDING_BOX)] == [0, 1]


def test_a_fifth_is_held_out_and_always_the_same(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(20)]
    for name in names:
        _picture(tmp_path / name)
    things = [_thing(image=number, bbox=[0, 0, 9, 9]) for number in range(20)]
    _coco(tmp_path / "labels.json", names, *things)
    project = import_folder(tmp_path)
    assert sum(each.split == "heldout" for each in project.items) == 4
    assert import_folder(tmp_path) == project
    _coco(tmp_path / "labels.json", names[::-1], *things)
    again = {each.title: each.split for each in import_folder(tmp_path).items}
    assert again == {each.title: each.split for each in project.items}


def test_a_folder_per_class_gives_every_frame_its_class(tmp_path: Path) -> None:
    for number in range(5):
        _picture(tmp_path / f"cat/{number}.jpg")
    _picture(tmp_path / "dog/clip.gif", frames=3)
    _picture(tmp_path / "dog/group/0.png")
    _picture(tmp_path / "dog/group/1.png")
    project = import_folder(tmp_path)
    assert _features(project) == [("classificationOption", "cat"), ("classificationOption", "dog")]
    cat, dog = (each.feature_hash for each in project.ontology)
    by_title = {each.title: each for each in project.items}
    clip, group = by_title["dog/clip.gif"], by_title["dog/group"]
    assert (clip.item_type, clip.frames) == (ItemType.VIDEO, 3)
    assert (group.item_type, group.frames) == (ItemType.IMAGE_GROUP, 2)
    assert [each["classification"] for each in clip.truth["frames"]] == [dog] * 3
    assert by_title["cat/0.jpg"].truth["frames"][0]["classification"] == cat
    # A fifth of each class, and one at least.
    heldout = [each.title.split("/")[0] for each in project.items if each.split == "heldout"]
    assert sorted(heldout) == ["cat", "dog"]


def test_folders_named_after_splits_hold_the_classes(tmp_path: Path) -> None:
    _picture(tmp_path / "train/cat/a.png")
    _picture(tmp_path / "val/cat/b.png")
    project = import_folder(tmp_path)
    assert [(each.title, each.split) for each in project.items] == [
        ("train/cat/a.png", "train"),
        ("val/cat/b.png", "heldout"),
    ]
    assert _features(project) == [("classificationOption", "cat")]


def test_a_picture_that_its_camera_turned_is_measured_as_it_is_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _picture(tmp_path / "cat/a.jpg", exif=exif)
    (item,) = import_folder(tmp_path).items
    assert (item.width, item.height) == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ({"bbox": [0, 0, 5]}, r"labels.json: annotations\[0\].bbox\[3\]: Field required"),
        ({"bbox": [0, 0, 5, "x"]}, r"annotations\[0\].bbox\[3\]: Input should be a valid number"),
        ({"bbox": [0, 0, 0, 5]}, r"annotations\[0\].bbox: no area inside the picture"),
        ({"bbox": [50, 0, 5, 5]}, r"annotations\[0\].bbox: no area inside the picture"),
        ({}, r"annotations\[0\]: neither bbox nor segmentation"),
        ({"bbox": [], "segmentation": []}, r"annotations\[0\]: neither bbox nor segmentation"),
        ({"bbox": [0, 0, 5, 5], "image_id": 7}, r"annotations\[0\].image_id: no image 7"),
        ({"bbox": [0, 0, 5, 5], "category_id": 9}, r"\[0\].category_id: no category 9"),
        ({"segmentation": [[0, 0, 5, 5, 5, 0, 1]]}, r"segmentation\[0\]: an odd number"),
        ({"segmentation": [[0, 0, 5, 5]]}, r"annotations\[0\].segmentation.*at least 6 items"),
        ({"segmentation": [[1, 1, 5, 5, 9, 9]]}, r"annotations\[0\].segmentation: no area"),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, r"segmentation.size: 9 x 9, but"),
        ({"segmentation": {"size": [20, 40], "counts": [9]}}, "counts: .*not 800 pixels"),
        ({"segmentation": {"size": [20, 40], "counts": "~~"}}, "segmentation.counts: not run"),
    ],
)
def test_a_bad_annotation_is_named_with_its_file_and_field(
    tmp_path: Path, annotation: dict[str, Any], text: str
) -> None:
    _picture(tmp_path / "a.png")
    _coco(tmp_path / "labels.json", ["a.png"], _thing() | annotation)
    with pytest.raises(ImportFolderError, match=text):
        import_folder(tmp_path)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{", "labels.json: the file: Invalid JSON"),
        ("[]", "labels.json: the file: Input should be an object"),
        ("{}", "labels.json: images: Field required"),
        ('{"images": [{"id": 1}]}', r"labels.json: images\[0\].file_name: Field required"),
    ],
)
def test_a_file_that_is_no_coco_json_is_named(tmp_path: Path, body: str, text: str) -> None:
    (tmp_path / "labels.json").write_text(body)
    with pytest.raises(ImportFolderError, match=text):
        import_folder(tmp_path)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ({"file_name": "none.png"}, r"images\[0\].file_name: there is no none.png in"),
        ({"file_name": "../b.png"}, r"images\[0\].file_name: ../b.png lies outside the folder"),
        ({"file_name": "text.png"}, r"images\[0\].file_name: text.png can't be read"),
        ({"file_name": "clip.gif"}, r"images\[0\].file_name: clip.gif has 2 frames"),
        ({"width": 41}, r"images\[0\].width: 41, but a.png has 40"),
        ({"height": 9}, r"images\[0\].height: 9, but a.png has 20"),
    ],
)
def test_a_picture_that_can_not_be_used_is_named(
    tmp_path: Path, image: dict[str, Any], text: str
) -> None:
    folder = tmp_path / "folder"
    _picture(folder / "a.png")
    _picture(folder / "clip.gif", frames=2)
    _picture(tmp_path / "b.png")
    (folder / "text.png").write_text("not a picture")
    images = [{"id": 0, "file_name": "a.png", **image}]
    _coco(folder / "labels.json", ["a.png"], _thing(bbox=[0, 0, 5, 5]), images=images)
    with pytest.raises(ImportFolderError, match=text):
        import_folder(folder)


def test_two_images_with_one_id_and_labels_of_nothing_are_refused(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    twice = [{"id": 0, "file_name": "a.png"}] * 2
    _coco(tmp_path / "labels.json", [], _thing(bbox=[0, 0, 5, 5]), images=twice)
    with pytest.raises(ImportFolderError, match=r"labels.json: images: two of them have one id"):
        import_folder(tmp_path)
    _coco(tmp_path / "labels.json", ["a.png"])
    with pytest.raises(ImportFolderError, match=r"labels.json: annotations: there is none"):
        import_folder(tmp_path)


def test_a_folder_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportFolderError, match="neither a COCO JSON file nor a folder"):
        import_folder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(ImportFolderError, match="cat: there is no picture in it"):
        import_folder(tmp_path)
    (tmp_path / "cat/a.png").write_bytes(b"\x89PNG")
    with pytest.raises(ImportFolderError, match=r"cat/a.png: a.png can't be read"):
        import_folder(tmp_path)
