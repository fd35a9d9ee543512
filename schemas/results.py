"""What the `result` of a succeeded event holds, by command type; keys are snake_case."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, Field

from schemas.api import (
    ClassificationItem,
    DetectionItem,
    ModelIteration,
    ModelWithIterations,
    ProjectModelWithIterations,
    SegmentationItem,
    TrainingData,
)
from schemas.enums import CommandType


class ModelsResult(BaseModel):
    """Result of `list_models`: every page."""

    models: list[ModelWithIterations]


class TrainingResult(BaseModel):
    """Result of `train` and `watch_training`."""

    training_uuid: UUID
    iteration: ModelIteration | None


class TrainingDataResult(BaseModel):
    """Result of `get_training_data`: every page."""

    training_data: list[TrainingData]


class WeightsResult(BaseModel):
    """Result of `get_weights_download_link`; the link expires."""

    url: str


class AttachmentsResult(BaseModel):
    """Result of `list_attachments`: every page."""

    attachments: list[ProjectModelWithIterations]


class PredictResult(BaseModel):
    """Result of `predict`: a class, or none, or a list of objects, by frame number."""

    frames: dict[int, ClassificationItem | list[DetectionItem] | list[SegmentationItem] | None]


class FileWarning(BaseModel):
    """What is wrong with one of the last files of a backfill, and whether it is there at all."""

    file: str
    message: str
    written: bool


class BackfillResult(BaseModel):
    """Result of `backfill`: how many items ended how, and the folder or URL of the results."""

    items: int
    succeeded: int
    failed: int
    failures: dict[str, int]
    output: str
    seconds: float
    warnings: list[FileWarning] = []
    passed_over: dict[str, int] | None = Field(
        default=None, description="What a folder held besides items, by its kind."
    )


RESULT_CLASSES: dict[CommandType, type[BaseModel] | None] = {
    CommandType.CREATE_MODEL: ModelWithIterations,
    CommandType.GET_MODEL: ModelWithIterations,
    CommandType.LIST_MODELS: ModelsResult,
    CommandType.UPDATE_MODEL: ModelWithIterations,
    CommandType.DELETE_MODEL: None,
    CommandType.TRAIN: TrainingResult,
    CommandType.WATCH_TRAINING: TrainingResult,
    CommandType.GET_TRAINING_DATA: TrainingDataResult,
    CommandType.GET_WEIGHTS_DOWNLOAD_LINK: WeightsResult,
    CommandType.DELETE_TRAINING_ITERATION: None,
    CommandType.ATTACH: ProjectModelWithIterations,
    CommandType.LIST_ATTACHMENTS: AttachmentsResult,
    CommandType.UPDATE_ATTACHMENT: ProjectModelWithIterations,
    CommandType.DETACH: None,
    CommandType.BACKFILL: BackfillResult,
    CommandType.PREDICT: PredictResult,
}
"""None where the result is null."""
