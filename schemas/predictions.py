"""The command `predict`, on one item: what it takes, gives back and looks like."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from schemas.api import ClassificationItem, DetectionItem, SegmentationItem
from schemas.declaration import DeclaredCommand
from schemas.enums import PredictTask
from schemas.examples import DATA_UUID, PROJECT_MODEL_UUID, PROJECT_UUID, TRAINING_UUID
from schemas.parameters import (
    INT32_MAX,
    CommandData,
    Name,
    ProjectModelUuid,
    ProjectUuid,
    Share,
    TrainingUuid,
)
from schemas.wording import counted

if TYPE_CHECKING:
    from pydantic.config import JsonDict

TASK = "What to look for; what the model was made for."
_BASE64 = (string.ascii_letters + string.digits + "+/").encode()

MAX_FRAMES = 1000  # The API's documented limit of frames in one prediction.


FrameNumber = Annotated[int, Field(ge=0, le=INT32_MAX)]


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

    task: Literal[PredictTask.CLASSIFICATION] = Field(description=TASK)


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

    task: Literal[PredictTask.OBJECT_DETECTION] = Field(description=TASK)


class PredictInstanceSegmentationData(TracedPredictData):
    """Parameters of `predict` for the task `instance_segmentation`."""

    task: Literal[PredictTask.INSTANCE_SEGMENTATION] = Field(description=TASK)
    rdp_thresh: Annotated[float, Field(ge=0, le=0.01, allow_inf_nan=False)] = Field(
        default=0.005,
        description="Tolerance of the polygons' simplification, 0 to 0.01.",
    )


PredictData = Annotated[
    PredictClassificationData | PredictObjectDetectionData | PredictInstanceSegmentationData,
    Field(discriminator="task"),
]


class PredictResult(BaseModel):
    """Result of `predict`: a class, or none, or a list of objects, by frame number."""

    frames: dict[int, ClassificationItem | list[DetectionItem] | list[SegmentationItem] | None]


class Predict(DeclaredCommand):
    """Predicts on one item with one iteration of an attached model."""

    type: Literal["predict"]
    data: PredictData
    result = PredictResult
    example = {
        "type": "predict",
        "id": "predict-street-0001",
        "priority": "bulk",
        "deadline": "2027-01-31T12:00:00Z",
        "data": {
            "task": "object_detection",
            "project_uuid": PROJECT_UUID,
            "project_model_uuid": PROJECT_MODEL_UUID,
            "training_uuid": TRAINING_UUID,
            "data_uuid": DATA_UUID,
            "frame_range_from": 0,
            "frame_range_to": 9,
            "conf_thresh": 0.5,
            "allocation_enabled": True,
        },
    }

    @staticmethod
    def summary(result: dict[str, Any]) -> str:
        """Returns how many items were found."""
        found = 0
        for items in result["frames"].values():
            found += len(items) if isinstance(items, list) else items is not None
        return f"{counted(found, 'item')} in {counted(len(result['frames']), 'frame')}"
