"""Bodies of the ML-models API: snake_case here, camelCase on the wire.

Requests forbid what they don't know. Responses ignore unknown fields and take values of
enumerations that are newer than ours as plain strings.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Generic, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue, with_config
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from schemas.enums import (
    FeatureType,
    ItemType,
    IterationPolicy,
    ModelArchitecture,
    ModelType,
    PretrainedWeights,
    TrainingState,
)


def _assume_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


ApiTime = Annotated[datetime, AfterValidator(_assume_utc)]
"""A time of the API; one without an offset means UTC."""


class Request(BaseModel):
    """A body that we send; None is left out."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
    )


_REPLY: Final = ConfigDict(
    alias_generator=to_camel,
    validate_by_name=True,
    validate_by_alias=True,
    extra="ignore",
)


class Response(BaseModel):
    """A body, or a part of one, that we get."""

    model_config = _REPLY


class CreateModelRequest(Request):
    """Body of create_model."""

    features: list[str]
    model: ModelArchitecture
    title: str
    description: str | None = None


class UpdateModelRequest(Request):
    """Body of update_model."""

    description: str | None = None
    title: str | None = None


class CreateTrainingRequest(Request):
    """Body of create_training_job.

    Attributes:
        features_mapping: Project -> feature of its ontology -> features of the model.
    """

    batch_size: int
    epochs: int
    features_mapping: dict[UUID, dict[str, list[str]]]
    labels_uuids: list[UUID]
    pretrained_training_uuid: UUID | None = None
    pretrained_weights_type: PretrainedWeights | None = None


class UpdateAttachmentRequest(Request):
    """Body of update_model_attachment.

    Attributes:
        features_mapping: Feature of the model -> featureHash of the project's ontology.
    """

    features_mapping: dict[str, str]
    iteration_policy: IterationPolicy
    training_uuids: list[UUID] | None = None


class CreateAttachmentRequest(Request):
    """Body of create_model_attachment.

    Attributes:
        features_mapping: Feature of the model -> featureHash of the project's ontology.
    """

    features_mapping: dict[str, str]
    iteration_policy: IterationPolicy
    model_uuid: UUID
    training_uuids: list[UUID] | None = None


class PredictClassificationRequest(Request):
    """Body of predict_classification."""

    conf_thresh: float
    data_uuid: UUID | None = None
    data_base64: str | None = None
    frame_range_from: int | None = None
    frame_range_to: int | None = None


class PredictObjectDetectionRequest(Request):
    """Body of predict_object_detection."""

    allocation_enabled: bool
    conf_thresh: float
    data_uuid: UUID | None = None
    data_base64: str | None = None
    frame_range_from: int | None = None
    frame_range_to: int | None = None
    iou_thresh: float


class PredictInstanceSegmentationRequest(PredictObjectDetectionRequest):
    """Body of predict_instance_segmentation."""

    rdp_thresh: float | None = None


class ModelGroup(Response):
    """What a model is."""

    created_at: ApiTime
    description: str
    features: list[str]
    model: ModelArchitecture | str
    model_uuid: UUID
    title: str
    type: ModelType | str


class ModelIteration(Response):
    """One finished training of a model.

    Attributes:
        duration: Whole seconds.
        loss_log: As the API gives it.
    """

    batch_size: int
    created_at: ApiTime
    duration: int
    epochs: int
    loss_log: dict[str, JsonValue]
    training_uuid: UUID


class ModelWithIterations(Response):
    """A model and its finished trainings."""

    model_group: ModelGroup
    model_iterations: list[ModelIteration]


class TrainingStatus(Response):
    """What the API says about a training; `result` is there once it is done."""

    status: TrainingState | str
    result: ModelIteration | None = None


class TrainingData(Response):
    """One item that a training was trained on."""

    data_uuid: UUID
    dataset_title: str
    dataset_uuid: UUID
    file_title: str
    item_type: ItemType | str
    label_uuid: UUID
    project_title: str
    project_uuid: UUID


class OntologyFeature(Response):
    """A feature of a project's ontology."""

    feature_node_uuid: str
    name: str
    type: FeatureType | str
    color: str | None


class ProjectModel(Response):
    """How a model is attached to a project.

    Attributes:
        features_mapping: Feature of the model -> feature of the ontology.
    """

    created_at: ApiTime
    iteration_policy: IterationPolicy | str
    model_uuid: UUID
    project_model_uuid: UUID
    project_uuid: UUID
    features_mapping: dict[str, OntologyFeature]


class ProjectModelWithIterations(Response):
    """An attachment, its model and the iterations that it offers."""

    model_group: ModelGroup
    project_model: ProjectModel
    project_model_iterations: list[ModelIteration]


Item = TypeVar("Item")


class Page(Response, Generic[Item]):
    """One page of a list; the last one has no token."""

    results: list[Item]
    next_page_token: str | None = None


# What may come a hundred times in one reply are dicts: they are read in two thirds of the time that
# models take.


@with_config(_REPLY)
class ClassificationItem(TypedDict):
    """The class of a frame.

    Attributes:
        confidence: 0 to 1.
    """

    classification_uuid: UUID
    confidence: float
    created_at: ApiTime
    created_by: str
    feature_id_child: str
    feature_id_parent: str
    manual_annotation: bool
    name: str
    value: str


@with_config(_REPLY)
class BoundingBox(TypedDict):
    """A box, 0 to 1 of the frame; x and y are its top left corner."""

    h: float
    w: float
    x: float
    y: float


@with_config(_REPLY)
class Point(TypedDict):
    """A corner of a polygon, 0 to 1 of the frame."""

    x: float
    y: float


@with_config(_REPLY)
class FoundItem(TypedDict):
    """What detections and segmentations have in common.

    Attributes:
        confidence: 0 to 1.
        object_id: The same from frame to frame for the same object, where tracking is on.
    """

    color: str
    confidence: float
    created_at: ApiTime
    created_by: str
    feature_id: str
    manual_annotation: bool
    name: str
    object_id: str
    value: str


@with_config(_REPLY)
class DetectionItem(FoundItem):
    """An object and its box."""

    bounding_box: BoundingBox


@with_config(_REPLY)
class SegmentationItem(FoundItem):
    """An object and its outline."""

    polygon: list[Point]


class ClassificationFrames(Response):
    """Reply of predict_classification: a class, or none, by frame number."""

    result: dict[int, ClassificationItem | None]


class DetectionFrames(Response):
    """Reply of predict_object_detection: objects by frame number."""

    result: dict[int, list[DetectionItem]]


class SegmentationFrames(Response):
    """Reply of predict_instance_segmentation: objects by frame number."""

    result: dict[int, list[SegmentationItem]]
