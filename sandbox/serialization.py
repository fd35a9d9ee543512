"""What the sandbox keeps, in the words of the API, and the pages that it comes in."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import orjson

from sandbox.errors import InvalidRequestError
from sandbox.store import Place
from schemas import api
from schemas.enums import FeatureType, ModelArchitecture, ModelType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from sandbox.learning.ground_truth import Feature, Item, Project
    from sandbox.records import Attachment, Iteration, Model

_TYPES = {
    ModelArchitecture.FASTER_RCNN: ModelType.OBJECT_DETECTION,
    ModelArchitecture.MASK_RCNN: ModelType.SEGMENTATION,
}
FEATURE_TYPES = {
    ModelType.CLASSIFICATION: FeatureType.CLASSIFICATION_OPTION,
    ModelType.OBJECT_DETECTION: FeatureType.BOUNDING_BOX,
    ModelType.SEGMENTATION: FeatureType.POLYGON,
}
"""The ontology features that a model of each type learns from and is attached to."""

# A client that does not quote a token in its query sends another one back, and gets a 422.
_NEEDS_QUOTING = "+/=&%"

Item_ = TypeVar("Item_", bound="BaseModel")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the API; `created` is the uuid of what the call made, if it made anything."""

    status: int
    body: bytes = b""
    created: str | None = None


def ok(body: BaseModel, *, created: str | None = None) -> Reply:
    """Returns a 200 with the body in camelCase."""
    return Reply(200, body.model_dump_json(by_alias=True).encode(), created)


def ok_string(value: str, *, created: str | None = None) -> Reply:
    """Returns a 200 with a bare JSON string."""
    return Reply(200, orjson.dumps(value), created)


def no_content() -> Reply:
    """Returns a 204."""
    return Reply(204)


def page(found: Sequence[tuple[Place, Item_]], size: int) -> Reply:
    """Returns a page of `size` from one result more than that, where there is one more."""
    shown = found[:size]
    more = len(found) > size
    token = _token(shown[-1][0]) if more else None
    results = [result for _, result in shown]
    return ok(api.Page(results=results, next_page_token=token))


def place(token: str | None) -> Place | None:
    """Returns where the page before ended.

    Raises:
        InvalidRequestError: it is not a token of ours.
    """
    if token is None:
        return None
    # Where part of the tail was lost on the way, the rest of it stays on and is no base64.
    text = token.removesuffix(_NEEDS_QUOTING)
    try:
        key, seq = orjson.loads(base64.b64decode(text, validate=True))
        return Place(key, int(seq))
    except (binascii.Error, ValueError, TypeError) as exc:
        message = "not a page token of this list"
        raise InvalidRequestError.of("query", "pageToken", message, "value_error") from exc


def _token(end: Place) -> str:
    return base64.b64encode(orjson.dumps(list(end))).decode() + _NEEDS_QUOTING


def model_type(model: Model) -> ModelType:
    """Returns what a model does; follows from its architecture."""
    return _TYPES.get(ModelArchitecture(model.architecture), ModelType.CLASSIFICATION)


def model_group(model: Model) -> api.ModelGroup:
    """Returns what a model is."""
    return api.ModelGroup(
        created_at=moment(model.created_at_us),
        description=model.description,
        features=list(model.features),
        model=ModelArchitecture(model.architecture),
        model_uuid=UUID(model.uuid),
        title=model.title,
        type=model_type(model),
    )


def iteration(training: Iteration) -> api.ModelIteration:
    """Returns what the API tells of a training."""
    return api.ModelIteration(
        batch_size=training.batch_size,
        created_at=moment(training.created_at_us),
        duration=training.duration_seconds,
        epochs=training.epochs,
        loss_log=dict(training.loss_log),
        training_uuid=UUID(training.uuid),
    )


def model_with_iterations(model: Model, trainings: Sequence[Iteration]) -> api.ModelWithIterations:
    """Returns a model and its trainings."""
    return api.ModelWithIterations(
        model_group=model_group(model),
        model_iterations=[iteration(training) for training in trainings],
    )


def training_data(project: Project, item: Item) -> api.TrainingData:
    """Returns an item that a training was trained on."""
    return api.TrainingData(
        data_uuid=UUID(item.data_uuid),
        dataset_title=project.dataset_title,
        dataset_uuid=UUID(project.dataset_uuid),
        file_title=item.title,
        item_type=item.item_type,
        label_uuid=UUID(item.label_uuid),
        project_title=project.title,
        project_uuid=UUID(project.project_uuid),
    )


def attachment(
    kept: Attachment,
    model: Model,
    features: Mapping[str, Feature],
    trainings: Sequence[Iteration],
) -> api.ProjectModelWithIterations:
    """Returns an attachment; `features` are the ontology's, by model feature."""
    return api.ProjectModelWithIterations(
        model_group=model_group(model),
        project_model=api.ProjectModel(
            created_at=moment(kept.created_at_us),
            iteration_policy=kept.iteration_policy,
            model_uuid=UUID(model.uuid),
            project_model_uuid=UUID(kept.uuid),
            project_uuid=UUID(kept.project_uuid),
            features_mapping={
                name: api.OntologyFeature(
                    feature_node_uuid=feature.feature_hash,
                    name=feature.name,
                    type=feature.type,
                    color=feature.color,
                )
                for name, feature in features.items()
            },
        ),
        project_model_iterations=[iteration(training) for training in trainings],
    )


def moment(time_us: int) -> datetime:
    """Returns a time with its offset."""
    return datetime.fromtimestamp(time_us / 1_000_000, tz=UTC)
