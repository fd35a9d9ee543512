"""What is on the pictures: projects, their items, and the known truth of each item.

The truth of an item is JSON, one entry per frame, all coordinates 0 to 1 of the frame::

    {"frames": [
        {"objects": [
            {"featureHash": "…", "track": 0,
             "boundingBox": {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.3}},
            {"featureHash": "…", "track": 1, "polygon": [{"x": 0.5, "y": 0.5}, …]}
         ],
         "classification": "<featureHash of the option, or null>"}
    ]}

An object has a `boundingBox` or a `polygon`, after the type of its feature; `track` is the same
number for the same thing in every frame of the item. A training reads the same shape in the terms
of its model, a `Sample`: `feature` (a model feature's name) in place of `featureHash`, and
`classes`, the model features of the frame's class, in place of `classification`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NotRequired

from typing_extensions import TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from schemas.enums import FeatureType, ItemType


class BoundingBox(TypedDict):
    """x, y: the top left corner; all 0 to 1 of the frame."""

    x: float
    y: float
    w: float
    h: float


class Point(TypedDict):
    """0 to 1 of the frame."""

    x: float
    y: float


class ObjectTruth(TypedDict):
    """One thing in one frame, in the terms of a project's ontology."""

    featureHash: str
    track: int
    boundingBox: NotRequired[BoundingBox]
    polygon: NotRequired[list[Point]]


class FrameTruth(TypedDict):
    """What one frame shows."""

    objects: list[ObjectTruth]
    classification: str | None


class ItemTruth(TypedDict):
    """What an item shows, frame by frame."""

    frames: list[FrameTruth]


class SampleObject(TypedDict):
    """One thing in one frame, in the terms of a model."""

    feature: str
    boundingBox: NotRequired[BoundingBox]
    polygon: NotRequired[list[Point]]


class SampleFrame(TypedDict):
    """What one frame shows a model; `classes` is empty where the frame has no class of it."""

    objects: list[SampleObject]
    classes: list[str]


class Sample(TypedDict):
    """One item to train on: `file` is a picture, a clip or a folder of frames."""

    file: str
    frames: list[SampleFrame]


@dataclass(frozen=True, slots=True)
class Feature:
    """One entry of a project's ontology; `color` is #rrggbb."""

    feature_hash: str
    name: str
    type: FeatureType
    color: str


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a project; `file` is absolute, for an image group the folder of its frames."""

    data_uuid: str
    label_uuid: str
    title: str
    file: Path
    item_type: ItemType
    frames: int
    width: int
    height: int
    split: Literal["train", "heldout"]
    truth: ItemTruth


@dataclass(frozen=True, slots=True)
class Project:
    """A project: an ontology and labelled items in one dataset."""

    project_uuid: str
    title: str
    dataset_uuid: str
    dataset_title: str
    ontology: tuple[Feature, ...]
    items: tuple[Item, ...]


def sample(file: Path, truth: ItemTruth, mapping: Mapping[str, Sequence[str]]) -> Sample:
    """Returns the item in the terms of a model; `mapping`: feature hash to model features.

    What the mapping does not name is background to the model.
    """
    return {
        "file": str(file),
        "frames": [_sample_frame(frame, mapping) for frame in truth["frames"]],
    }


def _sample_frame(frame: FrameTruth, mapping: Mapping[str, Sequence[str]]) -> SampleFrame:
    objects: list[SampleObject] = []
    for thing in frame["objects"]:
        for feature in mapping.get(thing["featureHash"], ()):
            mapped: SampleObject = {"feature": feature}
            if "boundingBox" in thing:
                mapped["boundingBox"] = thing["boundingBox"]
            if "polygon" in thing:
                mapped["polygon"] = thing["polygon"]
            objects.append(mapped)
    option = frame["classification"]
    return {"objects": objects, "classes": list(mapping.get(option, ())) if option else []}
