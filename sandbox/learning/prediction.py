"""Applies trained weights to frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from sandbox.learning import nets, views
from sandbox.learning.batches import widened
from sandbox.learning.weights import load_weights
from schemas.enums import ModelType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sandbox.learning.nets import Finding, Net, Params
    from sandbox.learning.views import View
    from schemas.enums import ModelArchitecture

# Suppression compares every box with every other: only the surest take part.
_MOST_CANDIDATES = 300
_MOST_THINGS = 100

# Masks are told for so many boxes at once, in as many rounds as it takes.
_MASKS_AT_ONCE = 8

# A mask's grid is refined so many times before its outline is taken, for a smooth one.
_MASK_REFINEMENT = 4


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


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What suppression left, the surest first; boxes x0 y0 x1 y1, 0 to 1 of the frame."""

    features: list[int]
    confidences: list[float]
    boxes: NDArray[np.float64]


class Predictor:
    """A trained model, ready to use; safe to share between threads."""

    def __init__(self, params: Params, net: Net, features: Sequence[str]) -> None:
        self._params = params
        self._net = net
        self.architecture: ModelArchitecture = net.architecture
        self.features: tuple[str, ...] = tuple(features)

    def classify(self, frame: NDArray[np.uint8]) -> list[Classification]:
        """Returns every feature with its confidence, the surest first; they sum up to 1."""
        square, _ = self._square(frame)
        shares = np.asarray(_classify(self._params, square, net=self._net))
        return [
            Classification(self.features[number], float(shares[number]))
            for number in np.argsort(-shares, kind="stable").tolist()
        ]

    def detect(self, frame: NDArray[np.uint8], conf: float, iou: float) -> list[Detection]:
        """Returns what the model is at least `conf` sure of, the surest first.

        Of two boxes of one feature that overlap by more than `iou` the surer one stays.
        """
        square, view = self._square(frame)
        found = _suppressed(_find(self._params, square, net=self._net), view, conf, iou)
        return [
            Detection(self.features[feature], confidence, _box(box))
            for feature, confidence, box in zip(
                found.features, found.confidences, found.boxes, strict=True
            )
        ]

    def segment(
        self, frame: NDArray[np.uint8], conf: float, iou: float, rdp: float
    ) -> list[Segment]:
        """Returns what the model is at least `conf` sure of, the surest first.

        `iou` is that of the boxes as in `detect`; outlines are simplified by
        Ramer-Douglas-Peucker, `rdp` being the tolerance as a share of the frame's longer side.
        """
        square, view = self._square(frame)
        finding = _find(self._params, square, net=self._net)
        found = _suppressed(finding, view, conf, iou)
        boxes = widened(found.boxes)
        segments: list[Segment] = []
        for feature, confidence, box, mask in zip(
            found.features, found.confidences, boxes, self._masks(finding, view, boxes), strict=True
        ):
            outline = _outline(mask, box, frame.shape, rdp)
            if outline is not None:
                around = np.concatenate([outline.min(axis=0), outline.max(axis=0)])
                polygon = tuple((x, y) for x, y in outline.tolist())
                segments.append(Segment(self.features[feature], confidence, _box(around), polygon))
        return segments

    def warm_up(self) -> None:
        """Compiles what this model will run."""
        frame = np.zeros((self._net.side, self._net.side, 3), np.uint8)
        match nets.model_type(self.architecture):
            case ModelType.CLASSIFICATION:
                self.classify(frame)
            case ModelType.OBJECT_DETECTION:
                self.detect(frame, 1.0, 0.5)
            case ModelType.SEGMENTATION:
                # Sure of nothing, and so of something: the second stage is compiled too.
                self.segment(frame, 0.0, 0.5, 0.0)

    def _square(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], View]:
        picture = views.shrunk(frame, self._net.side)
        view = views.letterbox(picture)
        return views.seen(picture, view, self._net.side)[None], view

    def _masks(
        self, finding: Finding, view: View, boxes: NDArray[np.float64]
    ) -> list[NDArray[np.float32]]:
        """Returns the logits of the mask in each box."""
        corners = view.to_square(boxes.reshape(-1, 2, 2)).reshape(-1, 4).astype(np.float32)
        masks: list[NDArray[np.float32]] = []
        for first in range(0, len(corners), _MASKS_AT_ONCE):
            some = corners[first : first + _MASKS_AT_ONCE]
            padded = np.zeros((_MASKS_AT_ONCE, 4), np.float32)
            padded[: len(some)] = some
            logits = np.asarray(_mask(self._params, finding, padded))
            masks += list(logits[: len(some)])
        return masks


def load(weights: Path) -> Predictor:
    """Loads and warms up a predictor; takes about a second, so keep it.

    Raises:
        WeightsError: the file holds no weights of ours.
    """
    predictor = Predictor(*load_weights(weights))
    predictor.warm_up()
    return predictor


@jax.jit(static_argnames="net")
def _classify(params: Params, squares: jax.Array, *, net: Net) -> jax.Array:
    return jax.nn.softmax(nets.classify(params, net, squares.astype(jnp.float32)))[0]


@jax.jit(static_argnames="net")
def _find(params: Params, squares: jax.Array, *, net: Net) -> Finding:
    finding = nets.find(params, net, squares.astype(jnp.float32))
    return finding._replace(logits=jax.nn.sigmoid(finding.logits))


@jax.jit
def _mask(params: Params, finding: Finding, boxes: jax.Array) -> jax.Array:
    return nets.mask(params, finding, boxes[None])[0]


def _suppressed(finding: Finding, view: View, conf: float, iou: float) -> _Candidates:
    """Returns the things of one frame."""
    shares = np.asarray(finding.logits)[0]
    cells, features = np.nonzero(shares >= conf)
    confidences = shares[cells, features].astype(float)
    surest = np.argsort(-confidences, kind="stable")[:_MOST_CANDIDATES]
    cells, features, confidences = cells[surest], features[surest], confidences[surest]
    corners = np.asarray(finding.boxes)[0][cells].astype(float).reshape(-1, 2, 2)
    boxes = np.clip(view.to_picture(corners), 0, 1).reshape(-1, 4)
    kept = _kept(boxes, confidences, features, iou)
    return _Candidates(features[kept].tolist(), confidences[kept].tolist(), boxes[kept])


def _kept(
    boxes: NDArray[np.float64],
    confidences: NDArray[np.float64],
    features: NDArray[np.int64],
    iou: float,
) -> NDArray[np.int64]:
    """Returns which boxes suppression leaves, the surest first, feature by feature."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    if not len(boxes):
        return np.zeros(0, np.int64)
    rectangles = np.concatenate([boxes[:, :2], sizes], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        rectangles.tolist(), confidences.tolist(), features.tolist(), 0.0, iou
    )
    whole = [index for index in sorted(np.ravel(kept).tolist()) if sizes[index].min() > 0]
    return np.array(whole[:_MOST_THINGS], np.int64)


def _outline(
    mask: NDArray[np.float32], box: NDArray[np.float64], shape: tuple[int, ...], rdp: float
) -> NDArray[np.float64] | None:
    """Returns the largest outline in a mask, (n, 2), 0 to 1 of the frame, if it has an area."""
    side = nets.MASK_SIDE * _MASK_REFINEMENT
    smooth = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
    inside = np.pad((smooth > 0).astype(np.uint8), 1)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    cells = max(contours, key=cv2.contourArea)[:, 0].astype(float)
    # Of the padding 1, and half a cell to its centre.
    outline = np.clip(box[:2] + (cells - 0.5) / side * (box[2:] - box[:2]), 0, 1)
    # The tolerance is the same in both directions of the picture, not of the unit square.
    longer = np.array(shape[1::-1]) / max(shape[:2])
    scaled = (outline * longer).astype(np.float32)[:, None]
    simple = cv2.approxPolyDP(scaled, rdp, closed=True)[:, 0].astype(float) / longer
    return simple if len(simple) > 2 else None


def _box(corners: NDArray[np.float64]) -> Box:
    left, top, right, bottom = corners.tolist()
    return Box(left, top, right - left, bottom - top)
