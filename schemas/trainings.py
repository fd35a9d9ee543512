"""Commands about trainings: what each takes, gives back and looks like."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field

from schemas.api import ModelIteration, TrainingData
from schemas.declaration import DeclaredCommand, Example
from schemas.enums import EventState, PretrainedWeights
from schemas.examples import LABEL_UUID, MODEL_UUID, PROJECT_UUID, TRAINING_UUID
from schemas.parameters import CommandData, Count, ModelUuid, Name, TrainingUuid
from schemas.wording import counted

SEVEN_DAYS_SECONDS = 604_800

_ITERATION: Example = {"model_uuid": MODEL_UUID, "training_uuid": TRAINING_UUID}


TrainingFeatures = Annotated[
    dict[
        UUID,
        Annotated[dict[Name, Annotated[list[Name], Field(min_length=1)]], Field(min_length=1)],
    ],
    Field(
        min_length=1,
        description="project -> feature of its ontology -> features of the model it trains",
    ),
]


class IterationData(CommandData):
    """Parameters of what names one training iteration."""

    model_uuid: ModelUuid
    training_uuid: TrainingUuid


class _TrainingSummary:
    @staticmethod
    def summary(result: dict[str, Any]) -> str:
        """Returns the training in a few words."""
        said = f"training {result['training_uuid']}"
        losses = (result["iteration"] or {}).get("loss_log") or {}
        if not losses:
            return said
        last = list(losses.values())[-1]
        loss = f", last loss {last:.4g}" if isinstance(last, int | float) else ""
        return f"{said}, {counted(len(losses), 'epoch')}{loss}"


class TrainData(CommandData):
    """Parameters of `train`."""

    model_uuid: ModelUuid
    batch_size: Count = Field(description="Labels in one step of the training.")
    epochs: Count = Field(description="How often the training goes through all labels.")
    features_mapping: TrainingFeatures
    labels_uuids: Annotated[
        list[UUID], Field(min_length=1, description="The label rows to train on.")
    ]
    pretrained_training_uuid: UUID | None = Field(
        default=None, description="The iteration of the model to go on from."
    )
    pretrained_weights_type: PretrainedWeights | None = Field(
        default=None, description="Public weights to begin with."
    )
    timeout_seconds: Count = Field(
        default=SEVEN_DAYS_SECONDS, description="How long the training is waited for."
    )
    wait: bool = Field(
        default=True,
        description="Whether the command ends with the training, or once it exists.",
    )


class TrainingResult(BaseModel):
    """Result of `train` and `watch_training`."""

    training_uuid: UUID
    iteration: ModelIteration | None


class Train(_TrainingSummary, DeclaredCommand):
    """Trains a model and, unless told otherwise, waits for the end."""

    type: Literal["train"]
    data: TrainData
    result = TrainingResult
    own_states = frozenset({EventState.STARTED, EventState.IN_DOUBT, EventState.RESOLVED})
    example = {
        "specversion": "1.0",
        "source": "/shop",
        "id": "train-street-7",
        "type": "train",
        "correlationid": "order-4711",
        "replyto": "shop",
        "data": {
            "model_uuid": MODEL_UUID,
            "batch_size": 8,
            "epochs": 20,
            "features_mapping": {PROJECT_UUID: {"aBcD1234": ["car"], "eFgH5678": ["person"]}},
            "labels_uuids": [LABEL_UUID],
            "pretrained_weights_type": "fasterRcnnR50Fpn3X",
        },
    }


class WatchTrainingData(CommandData):
    """Parameters of `watch_training`."""

    model_uuid: ModelUuid
    training_uuid: TrainingUuid
    timeout_seconds: Count = Field(
        default=SEVEN_DAYS_SECONDS, description="How long the training is waited for."
    )


class WatchTraining(_TrainingSummary, DeclaredCommand):
    """Waits for the end of a training that was created elsewhere."""

    type: Literal["watch_training"]
    data: WatchTrainingData
    result = TrainingResult
    example = {
        "type": "watch_training",
        "data": {**_ITERATION, "timeout_seconds": 3600},
    }


class GetTrainingDataData(IterationData):
    """Parameters of `get_training_data`."""


class TrainingDataResult(BaseModel):
    """Result of `get_training_data`: every page."""

    training_data: list[TrainingData]


class GetTrainingData(DeclaredCommand):
    """Reads what a training iteration was trained on, every page."""

    type: Literal["get_training_data"]
    data: GetTrainingDataData
    result = TrainingDataResult
    example = {"type": "get_training_data", "data": _ITERATION}

    @staticmethod
    def summary(result: dict[str, Any]) -> str:
        """Returns the result in a few words."""
        return counted(len(result["training_data"]), "item")


class GetWeightsDownloadLinkData(IterationData):
    """Parameters of `get_weights_download_link`."""


class WeightsResult(BaseModel):
    """Result of `get_weights_download_link`; the link expires."""

    url: str


class GetWeightsDownloadLink(DeclaredCommand):
    """Reads a link to the weights of a training iteration."""

    type: Literal["get_weights_download_link"]
    data: GetWeightsDownloadLinkData
    result = WeightsResult
    example = {"type": "get_weights_download_link", "data": _ITERATION}

    @staticmethod
    def summary(result: dict[str, Any]) -> str:
        """Returns the result in a few words."""
        return str(result["url"])


class DeleteTrainingIterationData(IterationData):
    """Parameters of `delete_training_iteration`."""


class DeleteTrainingIteration(DeclaredCommand):
    """Deletes a training iteration."""

    type: Literal["delete_training_iteration"]
    data: DeleteTrainingIterationData
    example = {"type": "delete_training_iteration", "data": _ITERATION}


TrainingCommand: TypeAlias = (
    Train | WatchTraining | GetTrainingData | GetWeightsDownloadLink | DeleteTrainingIteration
)
