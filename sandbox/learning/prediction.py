"""Applies trained weights to frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from schemas.enums import ModelArchitecture


@dataclass(frozen=True, slots=True)
class Box:
    """x, y: the top left corner; all 0 to 1 of the frame."""

    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True, slots=True)
class Classification:
    """A model feature that the frame may show, and how sure the model is, 0 to 1."""

    feature: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Detection:
    """A thing that the model found, and the box around it."""

    feature: str
    confidence: float
    box: Box


@dataclass(frozen=True, slots=True)
class Segment:
    """A thing that the model found, its outline, and the box around the outline."""

    feature: str
    confidence: float
    box: Box
    polygon: tuple[tuple[float, float], ...]


class Predictor:
    """A trained model, ready to use; safe to share between threads."""

    architecture: ModelArchitecture
    features: tuple[str, ...]

    def classify(self, frame: NDArray[np.uint8]) -> list[Classification]:
        """Returns every feature with its confidence, the surest first; they sum up to 1."""
        raise SystemExit(frame)

    def detect(self, frame: NDArray[np.uint8], conf: float, iou: float) -> list[Detection]:
        """Returns what is at least `conf` sure; of two boxes of a feature that overlap more
        than `iou`, the surer one.
        """
        raise SystemExit((frame, conf, iou))

    def segment(
        self, frame: NDArray[np.uint8], conf: float, iou: float, rdp: float
    ) -> list[Segment]:
        """Returns outlines, simplified by Ramer-Douglas-Peucker to within `rdp` of the frame."""
        raise SystemExit((frame, conf, iou, rdp))


def load(weights: Path) -> Predictor:
    """Loads and warms up a predictor; takes about a second, so keep it.

    Raises:
        WeightsError: the file holds no weights of ours.
    """
    raise SystemExit(weights)
