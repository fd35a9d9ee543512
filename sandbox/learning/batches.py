"""Turns samples into batches of arrays with fixed shapes, varied anew in every epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from sandbox.learning import views
from sandbox.learning.errors import TrainingJobError
from sandbox.learning.frames import count_frames, read_frames
from sandbox.learning.nets import MASK_SIDE, model_type
from schemas.enums import ModelType
from schemas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from sandbox.learning.ground_truth import Sample, SampleFrame, SampleObject
    from sandbox.learning.nets import Net

NO_FEATURE = -1
"""Stands where a frame has fewer things than the array has rows."""

MASK_MARGIN = 0.1
"""A mask is told in its box and so much of the box's size around it, at training as later."""

# So many masks of a frame are learnt from at once; of more, others each time.
_MOST_MASKS = 4

# A found box is never quite right: masks are learnt in boxes whose edges are off by this share.
_BOX_ERROR = 0.06

# A thing that a varied view cuts down to less than this share is no longer shown as one.
_LEAST_VISIBLE = 0.35

_SUBPIXEL_BITS = 4


class Batch(NamedTuple):
    """`things`, `masks`: rows per frame, padded; all boxes x0 y0 x1 y1, 0 to 1 of the square."""

    pictures: NDArray[np.uint8]
    """(batch, side, side, 3)"""
    classes: NDArray[np.float32]
    """(batch, features), each row sums up to 1 where the frame has a class"""
    boxes: NDArray[np.float32]
    """(batch, things, 4)"""
    features: NDArray[np.int32]
    """(batch, things), NO_FEATURE in the padding"""
    mask_boxes: NDArray[np.float32]
    """(batch, masks, 4)"""
    masks: NDArray[np.uint8]
    """(batch, masks, MASK_SIDE, MASK_SIDE), 0 or 255"""
    mask_counts: NDArray[np.float32]
    """(batch, masks), 1 or 0 in the padding"""


@dataclass(frozen=True, slots=True)
class Thing:
    """`outline`: (n, 2), 0 to 1 of the picture; four corners where only a box is known."""

    feature: int
    outline: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelledFrame:
    """A frame no larger than the net's input, and what it shows."""

    picture: NDArray[np.uint8]
    things: tuple[Thing, ...]
    classes: tuple[int, ...]


def load_frames(
    samples: Sequence[Sample], features: Sequence[str], net: Net
) -> list[LabelledFrame]:
    """Returns the frames that the net can learn from.

    A classifier learns from frames with a class, a detector from all, also from those that show
    nothing.

    Raises:
        TrainingJobError: a sample doesn't fit its file or the features, or no frame is labelled.
        UnreadableMediaError: a sample's file can't be read.
    """
    numbers = {feature: number for number, feature in enumerate(features)}
    frames = [frame for sample in samples for frame in _sample_frames(sample, numbers, net.side)]
    if model_type(net.architecture) is ModelType.CLASSIFICATION:
        labelled = [frame for frame in frames if frame.classes]
    else:
        labelled = frames if any(frame.things for frame in frames) else []
    if not labelled:
        raise TrainingJobError(f"none of the labels shows any of: {', '.join(features)}")
    return labelled


class Batches:
    """Goes through the frames in an order and in views of its own in every epoch."""

    def __init__(
        self, frames: Sequence[LabelledFrame], net: Net, batch_size: int, rng: np.random.Generator
    ) -> None:
        self._frames = frames
        self._net = net
        self._rng = rng
        self._batch_size = min(batch_size, len(frames))
        self._things = max(1, *(len(frame.things) for frame in frames), 1)
        masked = model_type(net.architecture) is ModelType.SEGMENTATION
        self._masks = min(self._things, _MOST_MASKS) if masked else 0

    def __len__(self) -> int:
        """Returns the batches of an epoch."""
        return math.ceil(len(self._frames) / self._batch_size)

    def epoch(self) -> Iterator[Batch]:
        """Yields batches that show every frame once; the last is filled up with the first."""
        order = self._rng.permutation(len(self._frames))
        order = np.resize(order, len(self) * self._batch_size)
        for chosen in order.reshape(-1, self._batch_size):
            yield self._batch([self._frames[index] for index in chosen])

    def _batch(self, frames: Sequence[LabelledFrame]) -> Batch:
        count, side = len(frames), self._net.side
        batch = Batch(
            pictures=np.zeros((count, side, side, 3), np.uint8),
            classes=np.zeros((count, self._net.features), np.float32),
            boxes=np.zeros((count, self._things, 4), np.float32),
            features=np.full((count, self._things), NO_FEATURE, np.int32),
            mask_boxes=np.zeros((count, self._masks, 4), np.float32),
            masks=np.zeros((count, self._masks, MASK_SIDE, MASK_SIDE), np.uint8),
            mask_counts=np.zeros((count, self._masks), np.float32),
        )
        for row, frame in enumerate(frames):
            view = views.varied(views.letterbox(frame.picture), self._rng)
            batch.pictures[row] = self._tinted(views.seen(frame.picture, view, side))
            for number in frame.classes:
                batch.classes[row, number] = 1 / len(frame.classes)
            shown = [
                (thing.feature, outline)
                for thing in frame.things
                if _is_shown(outline := view.to_square(thing.outline))
            ]
            for slot, (feature, outline) in enumerate(shown):
                batch.boxes[row, slot] = np.clip(box_around(outline), 0, 1)
                batch.features[row, slot] = feature
            self._put_masks(batch, row, [outline for _, outline in shown])
        return batch

    def _tinted(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        gain = self._rng.uniform(0.85, 1.15, 3)
        offset = self._rng.uniform(-16, 16)
        return np.clip(picture * gain + offset, 0, 255).astype(np.uint8)

    def _put_masks(self, batch: Batch, row: int, outlines: Sequence[NDArray[np.float64]]) -> None:
        for slot, index in enumerate(self._rng.permutation(len(outlines))[: self._masks]):
            box = np.clip(box_around(outlines[index]), 0, 1)
            size = np.tile(box[2:] - box[:2], 2)
            box = widened(box + size * self._rng.uniform(-_BOX_ERROR, _BOX_ERROR, 4))
            batch.mask_boxes[row, slot] = box
            batch.masks[row, slot] = _mask(outlines[index], box)
            batch.mask_counts[row, slot] = 1


def box_around(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns x0 y0 x1 y1 of points (n, 2)."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def widened(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns boxes (…, 4) with the margin in which masks are told."""
    size = boxes[..., 2:] - boxes[..., :2]
    margin = np.concatenate([-size, size], axis=-1) * MASK_MARGIN
    return boxes + margin


def _mask(outline: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.uint8]:
    cells = (outline - box[:2]) / np.maximum(box[2:] - box[:2], 1e-6) * MASK_SIDE
    # OpenCV puts a cell's centre at whole numbers, we at halves.
    points = np.round((cells - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    mask = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    cv2.fillPoly(mask, [points], 255, shift=_SUBPIXEL_BITS)
    return mask


def _is_shown(outline: NDArray[np.float64]) -> bool:
    whole, shown = box_around(outline), box_around(np.clip(outline, 0, 1))
    area, visible = (np.prod(box[2:] - box[:2]) for box in (whole, shown))
    return bool(visible > 0 and visible >= _LEAST_VISIBLE * area)


def _sample_frames(sample: Sample, numbers: dict[str, int], side: int) -> Iterator[LabelledFrame]:
    file = Path(sample["file"])
    if count_frames(file) != len(sample["frames"]):
        raise TrainingJobError(
            f"{file.name} has {counted(count_frames(file), 'frame')}, its labels "
            f"{len(sample['frames'])}"
        )
    for picture, labels in zip(read_frames(file), sample["frames"], strict=True):
        yield _labelled(views.shrunk(picture, side), labels, numbers)


def _labelled(
    picture: NDArray[np.uint8], labels: SampleFrame, numbers: dict[str, int]
) -> LabelledFrame:
    try:
        things = tuple(
            Thing(numbers[thing["feature"]], _outline(thing)) for thing in labels["objects"]
        )
        classes = tuple(sorted({numbers[feature] for feature in labels["classes"]}))
    except KeyError as error:
        raise TrainingJobError(f"the model has no feature {error}") from error
    return LabelledFrame(picture, things, classes)


def _outline(thing: SampleObject) -> NDArray[np.float64]:
    if "polygon" in thing:
        return np.array([[point["x"], point["y"]] for point in thing["polygon"]], float)
    if "boundingBox" in thing:
        box = thing["boundingBox"]
        left, top, right, bottom = box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    raise TrainingJobError(f"an object of {thing['feature']} has neither box nor polygon")
