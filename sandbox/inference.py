"""Runs trained nets on pixels, in threads, and words what they find as the API does."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict
from uuid import NAMESPACE_OID, uuid5

from sandbox.errors import BadRequestError
from sandbox.learning.errors import FrameRangeError, UnreadableMediaError
from sandbox.learning.frames import count_frames, read_frames
from sandbox.learning.prediction import load
from sandbox.learning.tracks import Tracker
from schemas import api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TypeVar

    import numpy as np
    from numpy.typing import NDArray

    from sandbox.learning.ground_truth import Feature
    from sandbox.learning.prediction import Detection, Predictor, Segment
    from sandbox.state import StateFolder

    Frame = NDArray[np.uint8]
    Frames = TypeVar("Frames")

MOST_FRAMES = 1000
"""Frames in one request."""
_KEPT_PREDICTORS = 16
_CREATED_BY = "trainmaster-sandbox"
_OBJECT_ID_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """What to predict on with what; `features` are the ontology's, by model feature."""

    training_uuid: str
    features: Mapping[str, Feature]
    project_uuid: str
    source: Path | bytes
    source_id: str
    """The same for the same data."""
    first: int | None
    last: int | None


class _Found(TypedDict):
    """What detections and segmentations have in common."""

    color: str
    confidence: float
    created_at: datetime
    created_by: str
    feature_id: str
    manual_annotation: bool
    name: str
    object_id: str
    value: str


class Inference:
    """Loaded nets and the threads that run them."""

    def __init__(self, state: StateFolder, threads: int) -> None:
        self._state = state
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="inference")
        self._predictors: OrderedDict[str, asyncio.Future[Predictor]] = OrderedDict()

    def close(self) -> None:
        """Lets the threads go without waiting for what they run."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def classify(self, asked: Asked, *, conf: float) -> api.ClassificationFrames:
        """Returns the surest of the attached features for each frame, if it is sure enough."""
        predictor = await self._predictor(asked.training_uuid)
        return await self._in_thread(lambda: _classified(predictor, asked, conf))

    async def detect(
        self, asked: Asked, *, conf: float, iou: float, tracked: bool
    ) -> api.DetectionFrames:
        """Returns the boxes of each frame."""
        predictor = await self._predictor(asked.training_uuid)
        return await self._in_thread(
            lambda: _detected(predictor, asked, conf=conf, iou=iou, tracked=tracked)
        )

    async def segment(
        self, asked: Asked, *, conf: float, iou: float, rdp: float, tracked: bool
    ) -> api.SegmentationFrames:
        """Returns the outlines of each frame."""
        predictor = await self._predictor(asked.training_uuid)
        return await self._in_thread(
            lambda: _segmented(predictor, asked, conf=conf, iou=iou, rdp=rdp, tracked=tracked)
        )

    async def _predictor(self, training_uuid: str) -> Predictor:
        """Loads each net once, also when many ask for it at once."""
        loading = self._predictors.get(training_uuid)
        if loading is None:
            weights = self._state.weights_file(training_uuid)
            loading = asyncio.ensure_future(self._in_thread(lambda: load(weights)))
            self._predictors[training_uuid] = loading
            if len(self._predictors) > _KEPT_PREDICTORS:
                self._predictors.popitem(last=False)
        self._predictors.move_to_end(training_uuid)
        try:
            return await asyncio.shield(loading)
        except Exception:
            # A net that could not be loaded is tried anew by the next request.
            self._predictors.pop(training_uuid, None)
            raise

    async def _in_thread(self, run: Callable[[], Frames]) -> Frames:
        return await asyncio.get_running_loop().run_in_executor(self._threads, run)


def _classified(predictor: Predictor, asked: Asked, conf: float) -> api.ClassificationFrames:
    now = datetime.now(UTC)
    result: dict[int, api.ClassificationItem | None] = {}
    for number, frame in _frames(asked):
        found = [one for one in predictor.classify(frame) if one.feature in asked.features]
        result[number] = None
        if found and found[0].confidence >= conf:
            feature = asked.features[found[0].feature]
            result[number] = api.ClassificationItem(
                classification_uuid=uuid5(NAMESPACE_OID, _object_id(asked, number, 0)),
                confidence=found[0].confidence,
                created_at=now,
                created_by=_CREATED_BY,
                feature_id_child=feature.feature_hash,
                feature_id_parent=_digest(asked.project_uuid),
                manual_annotation=False,
                name=feature.name,
                value=_value(feature),
            )
    return api.ClassificationFrames(result=result)


def _detected(
    predictor: Predictor, asked: Asked, *, conf: float, iou: float, tracked: bool
) -> api.DetectionFrames:
    words = _Words(asked, tracked=tracked)
    result: dict[int, list[api.DetectionItem]] = {}
    for number, frame in _frames(asked):
        found = [one for one in predictor.detect(frame, conf, iou) if one.feature in asked.features]
        result[number] = [
            api.DetectionItem(
                **common,
                bounding_box=api.BoundingBox(x=one.box.x, y=one.box.y, w=one.box.w, h=one.box.h),
            )
            for one, common in zip(found, words.common(number, found), strict=True)
        ]
    return api.DetectionFrames(result=result)


def _segmented(
    predictor: Predictor, asked: Asked, *, conf: float, iou: float, rdp: float, tracked: bool
) -> api.SegmentationFrames:
    words = _Words(asked, tracked=tracked)
    result: dict[int, list[api.SegmentationItem]] = {}
    for number, frame in _frames(asked):
        found = [
            one for one in predictor.segment(frame, conf, iou, rdp) if one.feature in asked.features
        ]
        result[number] = [
            api.SegmentationItem(**common, polygon=[api.Point(x=x, y=y) for x, y in one.polygon])
            for one, common in zip(found, words.common(number, found), strict=True)
        ]
    return api.SegmentationFrames(result=result)


class _Words:
    """Words what is found in the frames of one request; feed the frames in order."""

    def __init__(self, asked: Asked, *, tracked: bool) -> None:
        self._asked = asked
        self._tracker = Tracker() if tracked else None
        self._now = datetime.now(UTC)

    def common(self, frame: int, found: Sequence[Detection | Segment]) -> list[_Found]:
        """Returns what is said of each thing of a frame, but for its shape."""
        tracks = self._tracker.assign(found) if self._tracker else list(range(len(found)))
        scope = "track" if self._tracker else frame
        return [
            self._said(one.feature, one.confidence, _object_id(self._asked, scope, track))
            for one, track in zip(found, tracks, strict=True)
        ]

    def _said(self, model_feature: str, confidence: float, object_id: str) -> _Found:
        feature = self._asked.features[model_feature]
        return _Found(
            color=feature.color,
            confidence=confidence,
            created_at=self._now,
            created_by=_CREATED_BY,
            feature_id=feature.feature_hash,
            manual_annotation=False,
            name=feature.name,
            object_id=object_id,
            value=_value(feature),
        )


def _frames(asked: Asked) -> Iterator[tuple[int, Frame]]:
    """Returns the frames with their numbers.

    Raises:
        BadRequestError: they are not all there, too many, or not pictures.
    """
    try:
        first = asked.first or 0
        last = count_frames(asked.source) - 1 if asked.last is None else asked.last
        if last - first + 1 > MOST_FRAMES:
            message = f"{last - first + 1} frames, {MOST_FRAMES} at most in one request"
            raise BadRequestError(message)
        yield from enumerate(read_frames(asked.source, first, last), first)
    except FrameRangeError as exc:
        message = f"frameRange: {exc}"
        raise BadRequestError(message) from exc
    except UnreadableMediaError as exc:
        message = f"the data can't be read: {exc}"
        raise BadRequestError(message) from exc


def _object_id(asked: Asked, scope: str | int, number: int) -> str:
    """Returns an id that is the same whenever the same is predicted on the same."""
    text = f"{asked.training_uuid} {asked.project_uuid} {asked.source_id} {scope} {number}"
    return _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_OBJECT_ID_LENGTH]


def _value(feature: Feature) -> str:
    return feature.name.strip().lower().replace(" ", "_")
