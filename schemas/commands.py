"""The commands: one class per type, each with its `data`; together one discriminated union.

Parse raw bytes with `schemas.parsing.parse_command`, which also turns pydantic's findings into
problems that people can read.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias, get_args

from pydantic import BaseModel, Field

from schemas.api import ModelWithIterations, ProjectModelWithIterations
from schemas.attributes import Attributes
from schemas.enums import CommandType
from schemas.parameters import (
    AttachData,
    CancelData,
    CreateModelData,
    DeleteModelData,
    DeleteTrainingIterationData,
    DetachData,
    GetModelData,
    GetTrainingDataData,
    GetWeightsDownloadLinkData,
    ListAttachmentsData,
    ListModelsData,
    ResolveData,
    TrainData,
    UpdateAttachmentData,
    UpdateModelData,
    WatchTrainingData,
)
from schemas.predictions import BackfillData, PredictData
from schemas.results import (
    AttachmentsResult,
    BackfillResult,
    CancelResult,
    ModelsResult,
    PredictResult,
    ResolveResult,
    TrainingDataResult,
    TrainingResult,
    WeightsResult,
)

ResultClass: TypeAlias = type[BaseModel] | None
"""What the `result` of a succeeded event holds; None where it is null."""


class CreateModel(Attributes):
    """Creates a model; the result is the model."""

    type: Literal[CommandType.CREATE_MODEL]
    data: CreateModelData
    result: ClassVar[ResultClass] = ModelWithIterations


class GetModel(Attributes):
    """Reads a model with its iterations."""

    type: Literal[CommandType.GET_MODEL]
    data: GetModelData
    result: ClassVar[ResultClass] = ModelWithIterations


class ListModels(Attributes):
    """Reads all models, every page."""

    type: Literal[CommandType.LIST_MODELS]
    data: ListModelsData
    result: ClassVar[ResultClass] = ModelsResult


class UpdateModel(Attributes):
    """Changes a model's title or description."""

    type: Literal[CommandType.UPDATE_MODEL]
    data: UpdateModelData
    result: ClassVar[ResultClass] = ModelWithIterations


class DeleteModel(Attributes):
    """Deletes a model."""

    type: Literal[CommandType.DELETE_MODEL]
    data: DeleteModelData
    result: ClassVar[ResultClass] = None


class Train(Attributes):
    """Trains a model and, unless told otherwise, waits for the end."""

    type: Literal[CommandType.TRAIN]
    data: TrainData
    result: ClassVar[ResultClass] = TrainingResult


class WatchTraining(Attributes):
    """Waits for the end of a training that was created elsewhere."""

    type: Literal[CommandType.WATCH_TRAINING]
    data: WatchTrainingData
    result: ClassVar[ResultClass] = TrainingResult


class GetTrainingData(Attributes):
    """Reads what a training iteration was trained on, every page."""

    type: Literal[CommandType.GET_TRAINING_DATA]
    data: GetTrainingDataData
    result: ClassVar[ResultClass] = TrainingDataResult


class GetWeightsDownloadLink(Attributes):
    """Reads a link to the weights of a training iteration."""

    type: Literal[CommandType.GET_WEIGHTS_DOWNLOAD_LINK]
    data: GetWeightsDownloadLinkData
    result: ClassVar[ResultClass] = WeightsResult


class DeleteTrainingIteration(Attributes):
    """Deletes a training iteration."""

    type: Literal[CommandType.DELETE_TRAINING_ITERATION]
    data: DeleteTrainingIterationData
    result: ClassVar[ResultClass] = None


class Attach(Attributes):
    """Attaches a model to a project."""

    type: Literal[CommandType.ATTACH]
    data: AttachData
    result: ClassVar[ResultClass] = ProjectModelWithIterations


class ListAttachments(Attributes):
    """Reads all models that are attached to a project, every page."""

    type: Literal[CommandType.LIST_ATTACHMENTS]
    data: ListAttachmentsData
    result: ClassVar[ResultClass] = AttachmentsResult


class UpdateAttachment(Attributes):
    """Changes an attachment's features and iterations."""

    type: Literal[CommandType.UPDATE_ATTACHMENT]
    data: UpdateAttachmentData
    result: ClassVar[ResultClass] = ProjectModelWithIterations


class Detach(Attributes):
    """Removes a model from a project."""

    type: Literal[CommandType.DETACH]
    data: DetachData
    result: ClassVar[ResultClass] = None


class Backfill(Attributes):
    """Predicts on all items of a source; the result counts them and says where theirs lie."""

    type: Literal[CommandType.BACKFILL]
    data: BackfillData
    result: ClassVar[ResultClass] = BackfillResult


class Cancel(Attributes):
    """Ends another command that has not ended; the result tells whether it did."""

    type: Literal[CommandType.CANCEL]
    data: CancelData
    result: ClassVar[ResultClass] = CancelResult


class Resolve(Attributes):
    """Says what became of a call that left a command in doubt; it goes on accordingly."""

    type: Literal[CommandType.RESOLVE]
    data: ResolveData
    result: ClassVar[ResultClass] = ResolveResult


class Predict(Attributes):
    """Predicts on one item with one iteration of an attached model."""

    type: Literal[CommandType.PREDICT]
    data: PredictData
    result: ClassVar[ResultClass] = PredictResult


Command = Annotated[
    CreateModel
    | GetModel
    | ListModels
    | UpdateModel
    | DeleteModel
    | Train
    | WatchTraining
    | GetTrainingData
    | GetWeightsDownloadLink
    | DeleteTrainingIteration
    | Attach
    | ListAttachments
    | UpdateAttachment
    | Detach
    | Backfill
    | Cancel
    | Resolve
    | Predict,
    Field(discriminator="type"),
]

COMMAND_CLASSES: dict[CommandType, type[Command]] = {
    get_args(each.model_fields["type"].annotation)[0]: each
    for each in get_args(get_args(Command)[0])
}
"""By type. Whatever else is known of a command stands in its class."""
