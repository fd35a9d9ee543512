"""What commands say of models, trainings and attachments: the `data` of each."""

from __future__ import annotations

from typing import Annotated, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from schemas.enums import IterationPolicy, ModelArchitecture, OrderBy, PretrainedWeights

SEVEN_DAYS_SECONDS = 604_800

_INT32_MAX = 2**31 - 1

Count = Annotated[int, Field(ge=1, le=_INT32_MAX)]
FrameNumber = Annotated[int, Field(ge=0, le=_INT32_MAX)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(min_length=1)]


ModelUuid = Annotated[UUID, Field(description="The model.")]
TrainingUuid = Annotated[UUID, Field(description="The training iteration.")]
ProjectUuid = Annotated[UUID, Field(description="The project.")]
ProjectModelUuid = Annotated[UUID, Field(description="The model as it is attached to the project.")]


def _check_unique(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise PydanticCustomError("unique", "must not name anything twice")
    return names


UniqueNames = Annotated[
    list[Name],
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_check_unique),
]
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
AttachmentFeatures = Annotated[
    dict[Name, Name],
    Field(min_length=1, description="feature of the model -> featureHash of the ontology"),
]


class CommandData(BaseModel):
    """Parameters of a command; nothing unknown, nothing converted."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class CancelData(CommandData):
    """Parameters of `cancel`."""

    command_id: Name = Field(description="The id of the command that is to end.")


class ResolveData(CommandData):
    """Parameters of `resolve`."""

    command_id: Name = Field(description="The id of the command that is in doubt.")
    created: UUID | None = Field(
        default=None, description="What its lost call created, by its uuid."
    )
    not_created: bool | None = Field(
        default=None, description="`true` where the lost call created nothing: it is sent again."
    )
    by: Name | None = Field(
        default=None, description="Who says so; the id of this command without it."
    )

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.created is None) == (not self.not_created):
            message = "must have either created, or not_created as true"
            raise PydanticCustomError("exactly_one", message)
        return self


class CreateModelData(CommandData):
    """Parameters of `create_model`."""

    features: UniqueNames = Field(description="The names of what the model tells apart.")
    model: ModelArchitecture = Field(description="The network.")
    title: Name = Field(description="What people call the model.")
    description: str | None = Field(default=None, description="What it is for.")


class ModelData(CommandData):
    """Parameters of `get_model` and `delete_model`."""

    model_uuid: ModelUuid


class GetModelData(ModelData):
    """Parameters of `get_model`."""


class DeleteModelData(ModelData):
    """Parameters of `delete_model`."""


class ListModelsData(CommandData):
    """Parameters of `list_models`."""

    order_by: OrderBy = Field(default=OrderBy.CREATED_AT, description="What to sort by.")
    order_asc: bool = Field(default=False, description="Whether the least comes first.")
    query: str | None = Field(default=None, description="Only models whose title has this text.")


class UpdateModelData(CommandData):
    """Parameters of `update_model`; what is left out stays as it is."""

    model_uuid: ModelUuid
    title: Name | None = Field(default=None, description="The new title.")
    description: str | None = Field(default=None, description="The new description.")


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


class WatchTrainingData(CommandData):
    """Parameters of `watch_training`."""

    model_uuid: ModelUuid
    training_uuid: TrainingUuid
    timeout_seconds: Count = Field(
        default=SEVEN_DAYS_SECONDS, description="How long the training is waited for."
    )


class IterationData(CommandData):
    """Parameters of what names one training iteration."""

    model_uuid: ModelUuid
    training_uuid: TrainingUuid


class GetTrainingDataData(IterationData):
    """Parameters of `get_training_data`."""


class GetWeightsDownloadLinkData(IterationData):
    """Parameters of `get_weights_download_link`."""


class DeleteTrainingIterationData(IterationData):
    """Parameters of `delete_training_iteration`."""


class IterationSelection(CommandData):
    """Which features and iterations an attachment offers."""

    # The published schema says what `_check_manual_selection` checks.
    model_config = ConfigDict(
        json_schema_extra={
            "if": {
                "properties": {"iteration_policy": {"const": "manualSelection"}},
                "required": ["iteration_policy"],
            },
            "then": {
                "properties": {"training_uuids": {"type": "array", "minItems": 1}},
                "required": ["training_uuids"],
            },
        }
    )

    features_mapping: AttachmentFeatures
    iteration_policy: IterationPolicy = Field(
        description="Which iterations of the model the project may use."
    )
    training_uuids: list[UUID] | None = Field(
        default=None,
        validate_default=True,
        description="Required, and not empty, with the policy `manualSelection`.",
    )

    @field_validator("training_uuids")
    @classmethod
    def _check_manual_selection(
        cls, value: list[UUID] | None, info: ValidationInfo
    ) -> list[UUID] | None:
        if not value and info.data.get("iteration_policy") is IterationPolicy.MANUAL_SELECTION:
            raise PydanticCustomError(
                "manual_selection",
                "must name at least one training where iteration_policy is manualSelection",
            )
        return value


class AttachData(IterationSelection):
    """Parameters of `attach`."""

    project_uuid: ProjectUuid
    model_uuid: ModelUuid


class ListAttachmentsData(CommandData):
    """Parameters of `list_attachments`."""

    project_uuid: ProjectUuid


class UpdateAttachmentData(IterationSelection):
    """Parameters of `update_attachment`."""

    project_uuid: ProjectUuid
    project_model_uuid: ProjectModelUuid


class DetachData(CommandData):
    """Parameters of `detach`."""

    project_uuid: ProjectUuid
    project_model_uuid: ProjectModelUuid
