"""What a frame shows, as the truth or a model has it, ready to be drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.enums import PredictTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from demo.dataset import Feature, Item, Project
    from demo.scenario import Trained

SURE_ENOUGH: Final = 0.5
"""Less sure things count in a score, as it weighs them, but would only clutter a picture."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One thing in one frame.

    Attributes:
        outline: (n, 2), 0 to 1 of the frame; four corners of a box.
        track: the same number for the same thing in every frame, from 1.
        confidence: 0 to 1, None for the truth.
    """

    feature: Feature
    outline: NDArray[np.float64]
    track: int
    confidence: float | None = None

    @property
    def centre(self) -> NDArray[np.float64]:
        """(2,), the middle of what is drawn."""
        low, high = self.outline.min(axis=0), self.outline.max(axis=0)
        middle: NDArray[np.float64] = (low + high) / 2
        return middle


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its things, and its class where one is known.

    Attributes:
        option_confidence: 0 to 1, None for the truth.
    """

    things: tuple[Shown, ...]
    option: Feature | None = None
    option_confidence: float | None = None


def true_frames(item: Item, project: Project) -> list[Frame]:
    """Returns what each frame of an item really shows."""
    features = {feature.feature_hash: feature for feature in project.ontology}
    return [
        Frame(
            things=tuple(
                Shown(features[thing["featureHash"]], _outline(thing), thing["track"] + 1)
                for thing in frame["objects"]
            ),
            option=features.get(frame["classification"]),
        )
        for frame in item.truth
    ]


def predicted_frames(item: Item, project: Project, models: Iterable[Trained]) -> list[Frame]:
    """Returns what the models together found in each frame of an item, sure enough to show it."""
    features = {feature.feature_hash: feature for feature in project.ontology}
    tracks: dict[str, int] = {}
    things: list[list[Shown]] = [[] for _ in range(item.frames)]
    options: list[Mapping[str, Any] | None] = [None] * item.frames
    for trained in models:
        frames = trained.predicted[item.data_uuid]
        for number in range(item.frames):
            found = frames.get(str(number))
            if trained.plan.task is PredictTask.CLASSIFICATION:
                options[number] = found
                continue
            things[number] += [
                Shown(
                    features[thing["feature_id"]],
                    _outline(thing),
                    tracks.setdefault(thing["object_id"], len(tracks) + 1),
                    thing["confidence"],
                )
                for thing in found or ()
                if thing["confidence"] >= SURE_ENOUGH
            ]
    return [
        Frame(
            things=tuple(shown),
            option=features[option["feature_id_child"]] if option else None,
            option_confidence=option["confidence"] if option else None,
        )
        for shown, option in zip(things, options, strict=True)
    ]


def _outline(thing: Mapping[str, Any]) -> NDArray[np.float64]:
    """Returns the corners of a polygon or of a box, as the API or the truth writes them."""
    if polygon := thing.get("polygon"):
        return np.array([[point["x"], point["y"]] for point in polygon], float)
    box = thing.get("boundingBox") or thing["bounding_box"]
    left, top = box["x"], box["y"]
    right, bottom = left + box["w"], top + box["h"]
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)
