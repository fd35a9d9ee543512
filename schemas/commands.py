"""The commands: one class per type, each with its `data`; together one discriminated union.

Parse raw bytes with `schemas.parsing.parse_command`, which also turns pydantic's findings into
problems that people can read.
"""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Annotated, Literal, Self
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

from schemas.attributes import Attributes
from schemas.enums import (
    CommandType,
    IterationPolicy,
    ModelArchitecture,
    OrderBy,
    PartFormat,
    PredictTask,
    PretrainedWeights,
    SourceFormat,
)

if TYPE_CHECKING:
    from pydantic.config import JsonDict

SEVEN_DAYS_SECONDS = 604_800
MAX_FRAMES = 1000  # The API's documented limit of frames in one prediction.

_INT32_MAX = 2**31 - 1

Count = Annotated[int, Field(ge=1, le=_INT32_MAX)]
FrameNumber = Annotated[int, Field(ge=0, le=_INT32_MAX)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(min_length=1)]


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


class CreateModelData(CommandData):
    """Parameters of `create_model`."""

    features: UniqueNames
    model: ModelArchitecture
    title: Name
    description: str | None = None


class ModelData(CommandData):
    """Parameters of `get_model` and `delete_model`."""

    model_uuid: UUID


class GetModelData(ModelData):
    """Parameters of `get_model`."""


class DeleteModelData(ModelData):
    """Parameters of `delete_model`."""


class ListModelsData(CommandData):
    """Parameters of `list_models`."""

    order_by: OrderBy = OrderBy.CREATED_AT
    order_asc: bool = False
    query: str | None = None


class UpdateModelData(CommandData):
    """Parameters of `update_model`; what is left out stays as it is."""

    model_uuid: UUID
    title: Name | None = None
    description: str | None = None


class TrainData(CommandData):
    """Parameters of `train`."""

    model_uuid: UUID
    batch_size: Count
    epochs: Count
    features_mapping: TrainingFeatures
    labels_uuids: Annotated[list[UUID], Field(min_length=1)]
    pretrained_training_uuid: UUID | None = None
    pretrained_weights_type: PretrainedWeights | None = None
    timeout_seconds: Count = Field(
        default=SEVEN_DAYS_SECONDS, description="How long the training is waited for."
    )
    wait: bool = Field(
        default=True,
        description="Whether the command ends with the training, or once it exists.",
    )


class WatchTrainingData(CommandData):
    """Parameters of `watch_training`."""

    model_uuid: UUID
    training_uuid: UUID
    timeout_seconds: Count = Field(
        default=SEVEN_DAYS_SECONDS, description="How long the training is waited for."
    )


class IterationData(CommandData):
    """Parameters of what names one training iteration."""

    model_uuid: UUID
    training_uuid: UUID


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
    iteration_policy: IterationPolicy
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

    project_uuid: UUID
    model_uuid: UUID


class ListAttachmentsData(CommandData):
    """Parameters of `list_attachments`."""

    project_uuid: UUID


class UpdateAttachmentData(IterationSelection):
    """Parameters of `update_attachment`."""

    project_uuid: UUID
    project_model_uuid: UUID


class DetachData(CommandData):
    """Parameters of `detach`."""

    project_uuid: UUID
    project_model_uuid: UUID


def _only(name: str) -> JsonDict:
    return {"required": [name], "properties": {name: {"type": "string"}}}


class BasePredictData(CommandData):
    """What every prediction needs, whatever its task."""

    # The published schema says of the three sources what `_check_one_source` checks.
    model_config = ConfigDict(
        json_schema_extra={"oneOf": [_only("data_uuid"), _only("data_path"), _only("data_base64")]}
    )

    project_uuid: UUID
    project_model_uuid: UUID
    training_uuid: UUID
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
            try:
                binascii.a2b_base64(value, strict_mode=True)
            except ValueError as exc:
                raise PydanticCustomError(
                    "base64", "must be padded base64 without line breaks"
                ) from exc
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

    task: Literal[PredictTask.CLASSIFICATION]


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

    task: Literal[PredictTask.OBJECT_DETECTION]


class PredictInstanceSegmentationData(TracedPredictData):
    """Parameters of `predict` for the task `instance_segmentation`."""

    task: Literal[PredictTask.INSTANCE_SEGMENTATION]
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

    task: PredictTask
    project_uuid: UUID
    project_model_uuid: UUID
    training_uuid: UUID
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
    conf_thresh: Share | None = Field(
        default=None, description="For items that say nothing else; so are the next three."
    )
    iou_thresh: Share | None = None
    allocation_enabled: bool | None = None
    rdp_thresh: Annotated[float, Field(ge=0, le=0.01, allow_inf_nan=False)] | None = None
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
