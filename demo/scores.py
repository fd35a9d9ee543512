"""Scores predictions against the known truth, as COCO's own evaluation does.

Predictions are the `frames` of a `predict` command's result, frame number to item or items;
truth is a list, one entry per frame: `{"objects": [{"featureHash", "boundingBox" or "polygon"}],
"classification": featureHash or null}`. A frame that was not predicted counts as one in which
nothing was found.
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Json: TypeAlias = "Mapping[str, Any]"
_Kind: TypeAlias = Literal["bbox", "segm"]

# Everything is laid on a square of so many pixels: overlaps don't depend on a frame's shape.
_SIDE = 512

_OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class Scored:
    """An item's truth, one entry per frame, and what was predicted for it, by frame number."""

    truth: Sequence[Json]
    predicted: Mapping[str, Any]


def accuracy(items: Sequence[Scored], categories: Mapping[str, str]) -> float:
    """Returns the share of the frames with a class in which it was predicted, 0 to 1.

    Args:
        items: what was held out; all frames count alike.
        categories: feature hash to category; hashes of one category mean the same.

    Raises:
        ValueError: no frame has a class of these categories.
    """
    right = [
        predicted is not None and categories.get(predicted["feature_id_child"]) == wanted
        for item in items
        for number, frame in enumerate(item.truth)
        if (wanted := categories.get(frame["classification"])) is not None
        for predicted in (item.predicted.get(str(number)),)
    ]
    if not right:
        raise ValueError("no frame has a class to score")
    return sum(right) / len(right)


def box_map50(items: Sequence[Scored], categories: Mapping[str, str]) -> float:
    """Returns the mean average precision of boxes at an overlap (IoU) of 0.5, 0 to 1.

    Args:
        items: what was held out; all frames count alike.
        categories: feature hash to category; hashes of one category mean the same.

    Raises:
        ValueError: no frame has an object of these categories.
    """
    return _map50(items, categories, "bbox")


def mask_map50(items: Sequence[Scored], categories: Mapping[str, str]) -> float:
    """Returns the mean average precision of outlines at an overlap (IoU) of 0.5, 0 to 1.

    Args:
        items: what was held out; all frames count alike.
        categories: feature hash to category; hashes of one category mean the same.

    Raises:
        ValueError: no frame has an object of these categories.
    """
    return _map50(items, categories, "segm")


def _map50(items: Sequence[Scored], categories: Mapping[str, str], kind: _Kind) -> float:
    numbers = {name: number for number, name in enumerate(sorted(set(categories.values())), 1)}
    category_ids = {feature_hash: numbers[name] for feature_hash, name in categories.items()}
    wanted: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for image, (truth, predicted) in enumerate(_frames(items), 1):
        images.append({"id": image, "width": _SIDE, "height": _SIDE})
        for thing in truth["objects"]:
            if thing["featureHash"] in category_ids:
                shape = _shape(thing.get("boundingBox"), thing.get("polygon"), kind)
                ids = {"id": len(wanted) + 1, "image_id": image, "iscrowd": 0}
                wanted.append({**ids, "category_id": category_ids[thing["featureHash"]], **shape})
        for thing in predicted:
            if thing["feature_id"] in category_ids:
                shape = _shape(thing.get("bounding_box"), thing.get("polygon"), kind)
                ids = {"image_id": image, "category_id": category_ids[thing["feature_id"]]}
                found.append({**ids, "score": thing["confidence"], **shape})
    if not wanted:
        raise ValueError("no frame has an object to score")
    if not found:
        return 0.0
    kinds = [{"id": number, "name": name} for name, number in numbers.items()]
    return _precision({"images": images, "annotations": wanted, "categories": kinds}, found, kind)


def _frames(items: Sequence[Scored]) -> Iterator[tuple[Json, Sequence[Json]]]:
    for item in items:
        for number, truth in enumerate(item.truth):
            yield truth, item.predicted.get(str(number)) or ()


def _shape(box: Json | None, polygon: Sequence[Json] | None, kind: _Kind) -> dict[str, Any]:
    """Returns a box or an outline as COCO has it, in pixels."""
    if kind == "segm" and polygon is not None:
        flat = [point[axis] * _SIDE for point in polygon for axis in ("x", "y")]
        rle = coco_mask.merge(coco_mask.frPyObjects([flat], _SIDE, _SIDE))
        return {
            "segmentation": rle,
            "area": float(coco_mask.area(rle)),
            "bbox": coco_mask.toBbox(rle).tolist(),
        }
    if box is None:
        corners = np.array([[point["x"], point["y"]] for point in polygon or ()]).reshape(-1, 2)
        (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        box = {"x": left, "y": top, "w": right - left, "h": bottom - top}
    left, top, width, height = (box[key] * _SIDE for key in ("x", "y", "w", "h"))
    shape: dict[str, Any] = {"bbox": [left, top, width, height], "area": width * height}
    if kind == "segm":
        corners_flat = [
            left,
            top,
            left + width,
            top,
            left + width,
            top + height,
            left,
            top + height,
        ]
        rle = coco_mask.merge(coco_mask.frPyObjects([corners_flat], _SIDE, _SIDE))
        shape["segmentation"] = rle
    return shape


def _precision(truth: dict[str, Any], found: list[dict[str, Any]], kind: _Kind) -> float:
    """Returns the precision that COCO's evaluation finds, over the categories that occur."""
    # It reports every step on stdout, and has no switch for that.
    with redirect_stdout(io.StringIO()):
        wanted = COCO()
        wanted.dataset = cast("Any", truth)
        wanted.createIndex()
        evaluation = COCOeval(wanted, wanted.loadRes(found), kind)
        evaluation.params.iouThrs = np.array([_OVERLAP])
        evaluation.evaluate()
        evaluation.accumulate()
    # Thresholds, recalls, categories, areas (the first: all), detections (the last: most).
    precision = evaluation.eval["precision"][0, :, :, 0, -1]
    return float(precision[precision > -1].mean())
