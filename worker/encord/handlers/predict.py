"""Predictions on one item, by its uuid, its path or its bytes."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, TypeVar

import orjson
from pydantic import TypeAdapter

from schemas.api import ClassificationItem, DetectionItem, SegmentationItem
from schemas.json_text import RawJson
from schemas.predictions import (
    BasePredictData,
    Predict,
    PredictClassificationData,
    PredictInstanceSegmentationData,
    PredictObjectDetectionData,
)
from worker.encord.context import api_of
from worker.files.file_access import AllowedFiles, input_error, local_path, may_be_read
from worker.files.remote_files import MAX_IMAGE_BYTES
from worker.queue.outcome import Outcome, Succeeded
from worker.queue.registry import handles

if TYPE_CHECKING:
    from pathlib import Path

    from worker.queue.run_context import RunContext

T = TypeVar("T")

_CLASSES = TypeAdapter(dict[int, ClassificationItem | None])
_BOXES = TypeAdapter(dict[int, list[DetectionItem]])
_OUTLINES = TypeAdapter(dict[int, list[SegmentationItem]])

# pydantic's own words for frames' numbers and times, in half of its time.
_AS_PYDANTIC = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z

_FIELD = "data.data_path"
_NO_SOURCE_URL = "the URL lies below none of TRAINMASTER_SOURCE_URLS"
_NO_URL = (
    "names a URL, which only an item of a backfill may: name a file below a folder of "
    "TRAINMASTER_DATA_ROOTS, or send the picture in data_base64"
)
# A picture is held in base64, in the body; for a moment as it was read, too.
COPIES = 2
# So that people see the file beside what was found on it. There may be millions a day.
KEPT_BYTES = 4_096


@handles(Predict)
async def predict(run: RunContext[Predict]) -> Outcome:
    """Runs a model on an item; the result is its frames, each with its items."""
    data = run.command.data
    content: str | bytes | None = data.data_base64
    if data.data_path is not None:
        content = await _read(run, data.data_path)
    match data:
        case PredictClassificationData():
            classes = api_of(run).predict_classification(
                project_uuid=data.project_uuid,
                project_model_uuid=data.project_model_uuid,
                training_uuid=data.training_uuid,
                data_uuid=data.data_uuid,
                data_base64=content,
                frame_range_from=data.frame_range_from,
                frame_range_to=data.frame_range_to,
                conf_thresh=data.conf_thresh,
            )
            # The body has it; it is too large to be held twice while the API works.
            content = None
            return _frames(_CLASSES, await classes, data)
        case PredictObjectDetectionData():
            boxes = api_of(run).predict_object_detection(
                project_uuid=data.project_uuid,
                project_model_uuid=data.project_model_uuid,
                training_uuid=data.training_uuid,
                data_uuid=data.data_uuid,
                data_base64=content,
                frame_range_from=data.frame_range_from,
                frame_range_to=data.frame_range_to,
                allocation_enabled=data.allocation_enabled,
                conf_thresh=data.conf_thresh,
                iou_thresh=data.iou_thresh,
            )
            # The body has it; it is too large to be held twice while the API works.
            content = None
            return _frames(_BOXES, await boxes, data)
        case PredictInstanceSegmentationData():
            outlines = api_of(run).predict_instance_segmentation(
                project_uuid=data.project_uuid,
                project_model_uuid=data.project_model_uuid,
                training_uuid=data.training_uuid,
                data_uuid=data.data_uuid,
                data_base64=content,
                frame_range_from=data.frame_range_from,
                frame_range_to=data.frame_range_to,
                allocation_enabled=data.allocation_enabled,
                conf_thresh=data.conf_thresh,
                iou_thresh=data.iou_thresh,
                rdp_thresh=data.rdp_thresh,
            )
            # The body has it; it is too large to be held twice while the API works.
            content = None
            return _frames(_OUTLINES, await outlines, data)


def _frames(adapter: TypeAdapter[T], frames: T, data: BasePredictData) -> Succeeded:
    # An item of the project's has its picture there, and base64 is too much to keep.
    kept_bytes = 0 if data.data_path is None else KEPT_BYTES
    return Succeeded({"frames": RawJson(frames_json(adapter, frames))}, kept_bytes)


def frames_json(adapter: TypeAdapter[T], frames: T) -> bytes:
    """Returns what `adapter.dump_json` does."""
    try:
        return orjson.dumps(frames, option=_AS_PYDANTIC)
    except orjson.JSONEncodeError:
        # A frame's number beyond 64 bits.
        return adapter.dump_json(frames)


async def _read(run: RunContext[Predict], path: str) -> bytes:
    """Returns what a `data_path` names, in base64; only an item of a backfill may name a URL.

    A file's own URL is a path to whoever writes it.
    """
    is_item = bool(run.lease.group)
    if is_item and "://" in path and may_be_read(path, run.dependencies.source_urls):
        return base64.b64encode(await run.download(path, MAX_IMAGE_BYTES, _FIELD, COPIES))
    place = local_path(path)
    if place is None:
        raise input_error(_FIELD, _NO_SOURCE_URL if is_item else _NO_URL)
    files = AllowedFiles(run.dependencies.data_roots, _FIELD, MAX_IMAGE_BYTES)
    return base64.b64encode(await run.read_file(files, place, COPIES))


def read_base64(path: Path, roots: tuple[Path, ...]) -> str:
    """Returns a file's bytes in base64, if the file lies below one of the roots.

    Raises:
        InputError: outside the roots, not a plain file, unreadable, or too large.
    """
    files = AllowedFiles(roots, _FIELD, MAX_IMAGE_BYTES)
    return base64.b64encode(files.read(path)).decode("ascii")
