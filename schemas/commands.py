"""The commands: one class per type, each with its `data`; together one discriminated union.

Parse raw bytes with `schemas.parsing.parse_command`, which also turns pydantic's findings into
problems that people can read.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.attributes import Attributes
from schemas.enums import CommandType
from schemas.parameters import (
    AttachData,
    CreateModelData,
    DeleteModelData,
    DeleteTrainingIterationData,
    DetachData,
    GetModelData,
    GetTrainingDataData,
    GetWeightsDownloadLinkData,
    ListAttachmentsData,
    ListModelsData,
    TrainData,
    UpdateAttachmentData,
    UpdateModelData,
    WatchTrainingData,
)
from schemas.predictions import BackfillData, PredictData


class CreateModel(Attributes):
    """Creates a model; the result is the model."""

    type: Literal[CommandType.CREATE_MODEL]
    data: CreateModelData


class GetModel(Attributes):
    """Reads a model with its iterations."""

    type: Literal[CommandType.GET_MODEL]
    data: GetModelData


class ListModels(Attributes):
    """Reads all models, every page."""

    type: Literal[CommandType.LIST_MODELS]
    data: ListModelsData


class UpdateModel(Attributes):
    """Changes a model's title or description."""

    type: Literal[CommandType.UPDATE_MODEL]
    data: UpdateModelData


class DeleteModel(Attributes):
    """Deletes a model."""

    type: Literal[CommandType.DELETE_MODEL]
    data: DeleteModelData


class Train(Attributes):
    """Trains a model and, unless told otherwise, waits for the end."""

    type: Literal[CommandType.TRAIN]
    data: TrainData


class WatchTraining(Attributes):
    """Waits for the end of a training that was created elsewhere."""

    type: Literal[CommandType.WATCH_TRAINING]
    data: WatchTrainingData


class GetTrainingData(Attributes):
    """Reads what a training iteration was trained on, every page."""

    type: Literal[CommandType.GET_TRAINING_DATA]
    data: GetTrainingDataData


class GetWeightsDownloadLink(Attributes):
    """Reads a link to the weights of a training iteration."""

    type: Literal[CommandType.GET_WEIGHTS_DOWNLOAD_LINK]
    data: GetWeightsDownloadLinkData


class DeleteTrainingIteration(Attributes):
    """Deletes a training iteration."""

    type: Literal[CommandType.DELETE_TRAINING_ITERATION]
    data: DeleteTrainingIterationData


class Attach(Attributes):
    """Attaches a model to a project."""

    type: Literal[CommandType.ATTACH]
    data: AttachData


class ListAttachments(Attributes):
    """Reads all models that are attached to a project, every page."""

    type: Literal[CommandType.LIST_ATTACHMENTS]
    data: ListAttachmentsData


class UpdateAttachment(Attributes):
    """Changes an attachment's features and iterations."""

    type: Literal[CommandType.UPDATE_ATTACHMENT]
    data: UpdateAttachmentData


class Detach(Attributes):
    """Removes a model from a project."""

    type: Literal[CommandType.DETACH]
    data: DetachData


class Backfill(Attributes):
    """Predicts on all items of a source; the result counts them and says where theirs lie."""

    type: Literal[CommandType.BACKFILL]
    data: BackfillData


class Predict(Attributes):
    """Predicts on one item with one iteration of an attached model."""

    type: Literal[CommandType.PREDICT]
    data: PredictData


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
    | Predict,
    Field(discriminator="type"),
]

COMMAND_CLASSES: dict[CommandType, type[Command]] = {
    CommandType.CREATE_MODEL: CreateModel,
    CommandType.GET_MODEL: GetModel,
    CommandType.LIST_MODELS: ListModels,
    CommandType.UPDATE_MODEL: UpdateModel,
    CommandType.DELETE_MODEL: DeleteModel,
    CommandType.TRAIN: Train,
    CommandType.WATCH_TRAINING: WatchTraining,
    CommandType.GET_TRAINING_DATA: GetTrainingData,
    CommandType.GET_WEIGHTS_DOWNLOAD_LINK: GetWeightsDownloadLink,
    CommandType.DELETE_TRAINING_ITERATION: DeleteTrainingIteration,
    CommandType.ATTACH: Attach,
    CommandType.LIST_ATTACHMENTS: ListAttachments,
    CommandType.UPDATE_ATTACHMENT: UpdateAttachment,
    CommandType.DETACH: Detach,
    CommandType.BACKFILL: Backfill,
    CommandType.PREDICT: Predict,
}
