"""Predictions on one item, by its uuid, its path or its bytes."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter

from schemas.api import ClassificationItem, DetectionItem, SegmentationItem
from schemas.commands import (
    PredictClassificationData,
    PredictInstanceSegmentationData,
    PredictObjectDetectionData,
)
from schemas.events import ErrorCode, Problem
from worker.errors import InputError
from worker.handlers.outcome import Outcome, Succeeded

if TYPE_CHECKING:
    from schemas.commands import Predict
    from worker.handlers.run import Run

T = TypeVar("T")

_CLASSES = TypeAdapter(dict[int, ClassificationItem | None])
_BOXES = TypeAdapter(dict[int, list[DetectionItem]])
_OUTLINES = TypeAdapter(dict[int, list[SegmentationItem]])

# The API refuses larger bodies; base64 adds a third.
MAX_IMAGE_BYTES = 64 * 1024 * 1024

_OUTSIDE = "the file lies outside the folders of TRAINMASTER_DATA_ROOTS"
_TOO_LARGE = "the file is larger than {} bytes"


async def predict(run: Run[Predict]) -> Outcome:
    """Runs a model on an item; the result is its frames, each with its items."""
    data = run.command.data
    content = data.data_base64
    if data.data_path is not None:
        content = await asyncio.to_thread(read_base64, Path(data.data_path), run.around.data_roots)
    match data:
        case PredictClassificationData():
            classes = await run.api.predict_classification(
                project_uuid=data.project_uuid,
                project_model_uuid=data.project_model_uuid,
                training_uuid=data.training_uuid,
                data_uuid=data.data_uuid,
                data_base64=content,
                frame_range_from=data.frame_range_from,
                frame_range_to=data.frame_range_to,
                conf_thresh=data.conf_thresh,
            )
            return _frames(_CLASSES, classes)
        case PredictObjectDetectionData():
            boxes = await run.api.predict_object_detection(
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
            return _frames(_BOXES, boxes)
        case PredictInstanceSegmentationData():
            outlines = await run.api.predict_instance_segmentation(
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
            return _frames(_OUTLINES, outlines)


def _frames(adapter: TypeAdapter[T], frames: T) -> Succeeded:
    return Succeeded({"frames": adapter.dump_python(frames, mode="json")})


def read_base64(path: Path, roots: tuple[Path, ...]) -> str:
    """Returns a file's bytes in base64, if the file lies below one of the roots.

    Links are resolved first, and the file that was opened is looked at once more: a link that
    is swapped between the check and the opening gains nothing.

    Raises:
        InputError: outside the roots, not a plain file, unreadable, or too large.
    """
    if not roots:
        raise _refusal("no folder may be read: TRAINMASTER_DATA_ROOTS is not set")
    try:
        # Not strictly: of what lies outside the roots not even its existence is told.
        resolved = path.resolve()
        if not any(resolved.is_relative_to(root) for root in roots):
            raise _refusal(_OUTSIDE)
        descriptor = os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError, RuntimeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else "not a usable path"
        raise _refusal(f"the file can't be opened: {reason}") from exc
    try:
        _check_opened(descriptor, roots)
    except InputError:
        os.close(descriptor)
        raise
    try:
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(MAX_IMAGE_BYTES + 1)
    except OSError as exc:
        raise _refusal(f"the file can't be read: {exc.strerror}") from exc
    if len(content) > MAX_IMAGE_BYTES:
        raise _refusal(_TOO_LARGE.format(MAX_IMAGE_BYTES))
    return base64.b64encode(content).decode("ascii")


def _check_opened(descriptor: int, roots: tuple[Path, ...]) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _refusal("not a plain file")
    opened = _opened_path(descriptor)
    if opened is not None and not any(opened.is_relative_to(root) for root in roots):
        raise _refusal(_OUTSIDE)
    if status.st_size > MAX_IMAGE_BYTES:
        raise _refusal(_TOO_LARGE.format(MAX_IMAGE_BYTES))


def _opened_path(descriptor: int) -> Path | None:
    """Returns where an open file really lies, as the kernel knows it; None where it won't tell.

    The link is read, not followed: what lies at its path by now is of no interest.
    """
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        return None


def _refusal(message: str) -> InputError:
    return InputError(
        message,
        code=ErrorCode.INVALID_INPUT,
        problems=[Problem(path="data.data_path", message=message)],
    )
