"""What the `result` of a succeeded event holds; keys are snake_case."""

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


class ResolveResult(BaseModel):
    """Result of `resolve`: whether the command was in doubt, and where it stood."""

    resolved: bool
    state: str


class CancelResult(BaseModel):
    """Result of `cancel`: whether the command is cancelled now, and where it stands."""

    cancelled: bool = Field(
        description="Also true of one that was cancelled before, and of a backfill that winds down."
    )
    state: str = Field(
        description="`cancelled`, `cancelling` for a backfill that writes down what has ended, or "
        "`succeeded` or `failed` where the command had ended before."
    )
