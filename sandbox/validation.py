"""What a request has to fulfil, beyond the types of its fields.

A field that is wrong by itself is a 422 with FastAPI's list; one that is wrong for what it names
(a feature that the model lacks, a label of another project) is a 400 with a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from sandbox.errors import (
    BadRequestError,
    Detail,
    InvalidRequestError,
    NotFoundError,
)
from sandbox.serialization import FEATURE_TYPES, model_type
from schemas import api
from schemas.enums import IterationPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandbox.catalogue import Catalogue
    from sandbox.learning.ground_truth import Feature
    from sandbox.records import Model

_NAMED_AT_MOST = 5
_LONGEST_TITLE = 1000
_MOST_EPOCHS = 100_000
_MOST_BATCH = 100_000

_HIGHEST_RDP = 0.01

PredictRequest: TypeAlias = (
    api.PredictClassificationRequest
    | api.PredictObjectDetectionRequest
    | api.PredictInstanceSegmentationRequest
)
Body = TypeVar("Body", bound=BaseModel)


def parse_body(kind: type[Body], body: bytes) -> Body:
    """Returns the body, checked strictly: camelCase keys only, nothing converted.

    Raises:
        InvalidRequestError: tells every problem.
    """
    try:
        return kind.model_validate_json(body, strict=True, by_alias=True, by_name=False)
    except ValidationError as exc:
        raise InvalidRequestError.from_validation("body", exc) from exc


def parse_uuid(name: str, text: str) -> str:
    """Returns a UUID of the path in its usual spelling.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        return str(UUID(text))
    except ValueError as exc:
        raise InvalidRequestError.of("path", name, "not a UUID", "uuid_parsing") from exc


def parse_integer(name: str, text: str, *, low: int, high: int) -> int:
    """Returns an integer of the query.

    Raises:
        InvalidRequestError: it is none, or out of its range.
    """
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        message = f"not an integer from {low} to {high}"
        raise InvalidRequestError.of("query", name, message, "int_parsing")
    return int(text)


def check_new_model(body: api.CreateModelRequest) -> None:
    """Lets a model pass that has a title and features of different names."""
    problems = []
    if not _is_title(body.title):
        problems.append(_too_short_or_long("title"))
    if not body.features:
        problems.append(_body_problem("features", "at least one feature is needed", "too_short"))
    if any(not feature.strip() for feature in body.features):
        problems.append(_body_problem("features", "a feature has no name", "value_error"))
    if len(set(body.features)) < len(body.features):
        problems.append(_body_problem("features", "two features have one name", "value_error"))
    _raise_if_any(problems)


def check_model_update(body: api.UpdateModelRequest) -> None:
    """Lets a new title pass that is one."""
    if body.title is not None and not _is_title(body.title):
        _raise_if_any([_too_short_or_long("title")])


def check_training(body: api.CreateTrainingRequest, model: Model, catalogue: Catalogue) -> None:
    """Lets a training pass that can be run: sizes, features, labels, weights."""
    problems = []
    if not 1 <= body.batch_size <= _MOST_BATCH:
        problems.append(_out_of_range("batchSize", 1, _MOST_BATCH))
    if not 1 <= body.epochs <= _MOST_EPOCHS:
        problems.append(_out_of_range("epochs", 1, _MOST_EPOCHS))
    if not body.labels_uuids:
        problems.append(_body_problem("labelsUuids", "at least one label is needed", "too_short"))
    if not body.features_mapping:
        problems.append(
            _body_problem("featuresMapping", "at least one project is needed", "too_short")
        )
    _raise_if_any(problems)
    _check_mapping(body.features_mapping, model, catalogue)
    _check_labels(body, catalogue)
    _check_weights(body, model)


def _check_mapping(
    mapping: Mapping[UUID, Mapping[str, Sequence[str]]], model: Model, catalogue: Catalogue
) -> None:
    for project, features in mapping.items():
        if str(project) not in catalogue.projects:
            message = f"featuresMapping: there is no project {project}"
            raise BadRequestError(message)
        for feature_hash, model_features in features.items():
            check_feature(str(project), feature_hash, model, catalogue)
            _check_model_features(model_features, model)


def _check_labels(body: api.CreateTrainingRequest, catalogue: Catalogue) -> None:
    unknown = [uuid for uuid in body.labels_uuids if str(uuid) not in catalogue.labels]
    if unknown:
        message = f"labelsUuids: not found: {_some(unknown)}"
        raise BadRequestError(message)
    projects = {
        uuid: UUID(catalogue.labels[str(uuid)].project.project_uuid) for uuid in body.labels_uuids
    }
    elsewhere = [uuid for uuid, project in projects.items() if project not in body.features_mapping]
    if elsewhere:
        message = f"labelsUuids: of a project that featuresMapping lacks: {_some(elsewhere)}"
        raise BadRequestError(message)
    # A label that shows nothing of the mapping is background; only that alone teaches nothing.
    if all(
        catalogue.labelled_features(str(uuid)).isdisjoint(body.features_mapping[project])
        for uuid, project in projects.items()
    ):
        message = f"labelsUuids: without any feature of featuresMapping: {_some(list(projects))}"
        raise BadRequestError(message)


def _check_weights(body: api.CreateTrainingRequest, model: Model) -> None:
    weights = body.pretrained_weights_type
    if weights is None:
        return
    if body.pretrained_training_uuid is not None:
        message = "give pretrainedTrainingUuid or pretrainedWeightsType, not both"
        raise BadRequestError(message)
    # "fasterRcnnR50C41X" fits "fasterRcnn"; there are none for the other architectures.
    if not weights.startswith(model.architecture):
        message = f"pretrainedWeightsType: {weights} does not fit a model of {model.architecture}"
        raise BadRequestError(message)


def check_attachment(
    body: api.UpdateAttachmentRequest | api.CreateAttachmentRequest,
    project_uuid: str,
    model: Model,
    catalogue: Catalogue,
) -> None:
    """Lets an attachment pass whose features exist on both sides."""
    if not body.features_mapping:
        _raise_if_any([
            _body_problem("featuresMapping", "at least one feature is needed", "too_short")
        ])
    if body.iteration_policy is IterationPolicy.MANUAL_SELECTION and not body.training_uuids:
        message = "trainingUuids: manualSelection needs at least one training"
        raise BadRequestError(message)
    _check_model_features(list(body.features_mapping), model)
    for feature_hash in body.features_mapping.values():
        check_feature(project_uuid, feature_hash, model, catalogue)


def check_feature(
    project_uuid: str, feature_hash: str, model: Model, catalogue: Catalogue
) -> Feature:
    """Returns a feature of a project's ontology that fits the model's type.

    Raises:
        BadRequestError: there is no such one, or it has another type.
    """
    feature = catalogue.feature(project_uuid, feature_hash)
    if feature is None:
        message = f"featuresMapping: project {project_uuid} has no feature {feature_hash}"
        raise BadRequestError(message)
    wanted = FEATURE_TYPES[model_type(model)]
    if feature.type != wanted:
        message = (
            f"featuresMapping: {feature_hash} is a {feature.type}, "
            f"a model of type {model_type(model)} needs {wanted}"
        )
        raise BadRequestError(message)
    return feature


def check_project(project_uuid: str, catalogue: Catalogue) -> None:
    """Lets the uuid of a project pass."""
    if project_uuid not in catalogue.projects:
        message = f"there is no project {project_uuid}"
        raise NotFoundError(message)


def check_prediction(body: PredictRequest) -> None:
    """Lets thresholds, range and data source of any prediction pass."""
    problems = [
        _out_of_range(name, 0, high)
        for name, value, high in _thresholds(body)
        if value is not None and not 0 <= value <= high
    ]
    for name, frame in (("From", body.frame_range_from), ("To", body.frame_range_to)):
        if frame is not None and frame < 0:
            problems.append(
                _body_problem(f"frameRange{name}", "frames count from 0", "greater_than_equal")
            )
    _raise_if_any(problems)
    if (body.data_uuid is None) == (body.data_base64 is None):
        message = "give one of dataUuid and dataBase64"
        raise BadRequestError(message)


def _thresholds(body: PredictRequest) -> list[tuple[str, float | None, float]]:
    found: list[tuple[str, float | None, float]] = [("confThresh", body.conf_thresh, 1)]
    if not isinstance(body, api.PredictClassificationRequest):
        found.append(("iouThresh", body.iou_thresh, 1))
    if isinstance(body, api.PredictInstanceSegmentationRequest):
        found.append(("rdpThresh", body.rdp_thresh, _HIGHEST_RDP))
    return found


def _check_model_features(names: Sequence[str], model: Model) -> None:
    unknown = [name for name in names if name not in model.features]
    if unknown or not names:
        message = f"featuresMapping: not a feature of the model: {_some(unknown) or 'none given'}"
        raise BadRequestError(message)


def _is_title(text: str) -> bool:
    return bool(text.strip()) and len(text) <= _LONGEST_TITLE


def _too_short_or_long(name: str) -> Detail:
    return _body_problem(name, f"1 to {_LONGEST_TITLE} characters are needed", "value_error")


def _out_of_range(name: str, low: float, high: float) -> Detail:
    return _body_problem(name, f"not from {low} to {high}", "value_error")


def _body_problem(name: str, message: str, kind: str) -> Detail:
    return Detail(loc=["body", name], msg=message, type=kind)


def _raise_if_any(problems: Sequence[Detail]) -> None:
    if problems:
        raise InvalidRequestError(problems)


def _some(names: Sequence[object]) -> str:
    shown = ", ".join(str(name) for name in names[:_NAMED_AT_MOST])
    rest = len(names) - _NAMED_AT_MOST
    return f"{shown} and {rest} more" if rest > 0 else shown
