"""What commands say of predictions: on one item, and on all items of a source."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Annotated, Literal, Self
from uuid import UUID

from pydantic import (
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from schemas.enums import PartFormat, PredictTask, SourceFormat
from schemas.parameters import (
    CommandData,
    Count,
    FrameNumber,
    Name,
    ProjectModelUuid,
    ProjectUuid,
    Share,
    TrainingUuid,
)

if TYPE_CHECKING:
    from pydantic.config import JsonDict

_TASK = "What to look for; what the model was made for."
_OF_ITEMS = "As of `predict`, for items that say nothing else."
_BASE64 = (string.ascii_letters + string.digits + "+/").encode()

MAX_FRAMES = 1000  # The API's documented limit of frames in one prediction.


def _only(name: str) -> JsonDict:
    return {"required": [name], "properties": {name: {"type": "string"}}}


class BasePredictData(CommandData):
    """What every prediction needs, whatever its task."""

    # The published schema says of the three sources what `_check_one_source` checks; under `then`,
    # for with `oneOf` beside its properties generators write the type once per source.
    model_config = ConfigDict(
        json_schema_extra={
            "if": {"type": "object"},
            "then": {"oneOf": [_only("data_uuid"), _only("data_path"), _only("data_base64")]},
        }
    )

    project_uuid: ProjectUuid
    project_model_uuid: ProjectModelUuid
    training_uuid: TrainingUuid
    data_uuid: UUID | None = Field(default=None, description="An item that the project knows.")
    data_path: Name | None = Field(
        default=None, description="A file below the worker's data roots."
    )
    data_base64: Name | None = Field(default=None, description="The file itself, in base64.")
    frame_range_from: FrameNumber | None = Field(
        default=None, description="The first frame, counted from 0."
    )
    frame_range_to: FrameNumber | None = Field(
        default=None, description="The last frame; it is included."
    )
    conf_thresh: Share = Field(default=0.6, description="Least confidence of an item.")

    @field_validator("data_base64")
    @classmethod
    def _check_base64(cls, value: str | None) -> str | None:
        if value is not None:
            characters = value.encode(errors="replace")
            unpadded = characters[:-2] + characters[-2:].rstrip(b"=")
            # Six times as fast as decoding it, which matters for images.
            if len(characters) % 4 or unpadded.translate(None, _BASE64):
                raise PydanticCustomError("base64", "must be padded base64 without line breaks")
        return value

    @field_validator("frame_range_to")
    @classmethod
    def _check_frame_range(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is None:
            return value
        first = info.data.get("frame_range_from") or 0
        if value < first:
            raise PydanticCustomError("frame_range", "must not be below frame_range_from")
        if value - first >= MAX_FRAMES:
            raise PydanticCustomError(
                "frame_range",
                "must leave at most {limit} frames",
                {"limit": MAX_FRAMES},
            )
        return value

    @model_validator(mode="after")
    def _check_one_source(self) -> Self:
        named = (
            (self.data_uuid is not None)
            + (self.data_path is not None)
            + (self.data_base64 is not None)
        )
        if named != 1:
            raise PydanticCustomError(
                "one_source",
                "exactly one of data_uuid, data_path and data_base64 is needed, not {named}",
                {"named": named},
            )
        return self


class PredictClassificationData(BasePredictData):
    """Parameters of `predict` for the task `classification`."""

    task: Literal[PredictTask.CLASSIFICATION] = Field(description=_TASK)


class TracedPredictData(BasePredictData):
    """What the tasks that find objects add."""

    iou_thresh: Share = Field(
        default=0.3,
        description="Overlap above which the less confident of two objects is dropped.",
    )
    allocation_enabled: bool = Field(
        default=False,
        description="Whether the same object keeps its id from frame to frame.",
    )


class PredictObjectDetectionData(TracedPredictData):
    """Parameters of `predict` for the task `object_detection`."""

    task: Literal[PredictTask.OBJECT_DETECTION] = Field(description=_TASK)


class PredictInstanceSegmentationData(TracedPredictData):
    """Parameters of `predict` for the task `instance_segmentation`."""

    task: Literal[PredictTask.INSTANCE_SEGMENTATION] = Field(description=_TASK)
    rdp_thresh: Annotated[float, Field(ge=0, le=0.01, allow_inf_nan=False)] = Field(
        default=0.005,
        description="Tolerance of the polygons' simplification, 0 to 0.01.",
    )


PredictData = Annotated[
    PredictClassificationData | PredictObjectDetectionData | PredictInstanceSegmentationData,
    Field(discriminator="task"),
]


ItemField = Literal[
    "data_uuid",
    "data_path",
    "data_base64",
    "frame_range_from",
    "frame_range_to",
    "conf_thresh",
    "iou_thresh",
    "allocation_enabled",
    "rdp_thresh",
]
"""What one item of a backfill may say of itself; the rest is the same for all."""


class BackfillData(CommandData):
    """Parameters of `backfill`."""

    task: PredictTask = Field(description=_TASK)
    project_uuid: ProjectUuid
    project_model_uuid: ProjectModelUuid
    training_uuid: TrainingUuid
    source: Name = Field(
        description="Where the items stand: a file or a folder of images below the worker's data "
        "roots, or a URL that begins with one of its source URLs."
    )
    format: SourceFormat | None = Field(
        default=None, description="What the source is, where its name does not tell."
    )
    columns: dict[ItemField, Name] | None = Field(
        default=None,
        description="parameter of an item -> the source's column, where that has another name",
    )
    conf_thresh: Share | None = Field(default=None, description=_OF_ITEMS)
    iou_thresh: Share | None = Field(default=None, description=_OF_ITEMS)
    allocation_enabled: bool | None = Field(default=None, description=_OF_ITEMS)
    rdp_thresh: Annotated[float, Field(ge=0, le=0.01, allow_inf_nan=False)] | None = Field(
        default=None, description=_OF_ITEMS
    )
    max_failures: Count | None = Field(
        default=None, description="So many failed items pause the backfill."
    )
    max_failure_share: Share | None = Field(
        default=None,
        description="A larger share of failed items pauses the backfill, once 100 have ended.",
    )
    part_format: PartFormat = Field(
        default=PartFormat.JSONL, description="How the results are written."
    )
    item_events: bool = Field(
        default=False, description="Whether the end of each item is an event of its own, too."
    )
