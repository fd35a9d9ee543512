"""The seventeen operations of the ML-models API, one method each.

Bodies have the SDK's order of keys and its JSON encoding, so that requests are the same byte for
byte; a key whose value is None is left out. Reads share pooled connections. What changes
something goes out on an own connection, at most once.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import orjson
from pydantic import TypeAdapter, ValidationError

from schemas.api import (
    ClassificationFrames,
    ClassificationItem,
    DetectionFrames,
    DetectionItem,
    ModelWithIterations,
    Page,
    ProjectModelWithIterations,
    SegmentationFrames,
    SegmentationItem,
    TrainingData,
    TrainingStatus,
)
from schemas.enums import OrderBy
from schemas.events import ErrorCode, Problem
from worker.errors import BadResponseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from schemas.enums import IterationPolicy, ModelArchitecture, PretrainedWeights
    from worker.encord.api.transport import Sender
    from worker.http.response import Response

MAX_LONG_POLL_SECONDS = 60  # The API waits no longer, whatever it is asked for.

# A list that goes on beyond these has no end, or none that fits into memory.
MAX_PAGES = 2_000
MAX_LISTED = 250_000

_MAX_PROBLEMS = 5

Result = TypeVar("Result")

_MODEL = TypeAdapter(ModelWithIterations)
_MODELS = TypeAdapter(Page[ModelWithIterations])
_TRAINING_STATUS = TypeAdapter(TrainingStatus)
_TRAINING_DATA = TypeAdapter(Page[TrainingData])
_ATTACHMENT = TypeAdapter(ProjectModelWithIterations)
_ATTACHMENTS = TypeAdapter(Page[ProjectModelWithIterations])
_CLASSIFICATIONS = TypeAdapter(ClassificationFrames)
_DETECTIONS = TypeAdapter(DetectionFrames)
_SEGMENTATIONS = TypeAdapter(SegmentationFrames)
_RESULT_NAMES = frozenset({"modelGroup", "projectModel", "results", "result"})
_UUID = TypeAdapter(UUID)
_TEXT = TypeAdapter(str)

# With blanks after separators and everything but ASCII escaped, as the SDK's requests are.
_encode = json.JSONEncoder(allow_nan=False).encode


class MlModelsApi:
    """The API as methods; every one may raise any error of `worker.errors` with a fate."""

    def __init__(self, transport: Sender) -> None:
        self._transport = transport

    async def create_model(
        self,
        *,
        features: Sequence[str],
        model: ModelArchitecture,
        title: str,
        description: str | None = None,
    ) -> ModelWithIterations:
        """Creates a model and returns it."""
        body = _body(
            features=list(features),
            model=str(model),
            title=title,
            description=description,
        )
        return await self._change("POST", "/ml-models", body, _MODEL)

    async def get_model(self, *, model_uuid: UUID) -> ModelWithIterations:
        """Returns a model with its iterations."""

        def check(model: ModelWithIterations) -> None:
            _same("modelUuid", model.model_group.model_uuid, model_uuid)

        return await self._read(f"/ml-models/{model_uuid}", _MODEL, check)

    async def list_models(
        self,
        *,
        order_by: OrderBy = OrderBy.CREATED_AT,
        order_asc: bool = False,
        query: str | None = None,
    ) -> AsyncIterator[ModelWithIterations]:
        """Yields all models, asking for a page when it is needed."""
        # The SDK sends Python's spelling of a boolean.
        parameters = [("orderBy", str(order_by)), ("orderAsc", str(order_asc))]
        if query is not None:
            parameters.append(("query", query))
        async for model in self._pages("/ml-models", parameters, _MODELS):
            yield model

    async def update_model(
        self,
        *,
        model_uuid: UUID,
        title: str | None = None,
        description: str | None = None,
    ) -> ModelWithIterations:
        """Changes what is given and returns the model."""
        body = _body(description=description, title=title)
        model = await self._change("PATCH", f"/ml-models/{model_uuid}", body, _MODEL)
        _same("modelUuid", model.model_group.model_uuid, model_uuid)
        return model

    async def delete_model(self, *, model_uuid: UUID) -> None:
        """Deletes a model."""
        await self._delete(f"/ml-models/{model_uuid}")

    async def create_training_job(  # noqa: PLR0913 - the operation's own parameters
        self,
        *,
        model_uuid: UUID,
        batch_size: int,
        epochs: int,
        features_mapping: Mapping[UUID, Mapping[str, Sequence[str]]],
        labels_uuids: Iterable[UUID],
        pretrained_training_uuid: UUID | None = None,
        pretrained_weights_type: PretrainedWeights | None = None,
    ) -> UUID:
        """Creates a training and returns its UUID.

        Args:
            model_uuid: What to train.
            batch_size: At least 1.
            epochs: At least 1.
            features_mapping: Project -> feature of its ontology -> features of the model.
            labels_uuids: What to train on.
            pretrained_training_uuid: An earlier training of the model to start from.
            pretrained_weights_type: Published weights to start from.
        """
        body = _body(
            batchSize=batch_size,
            epochs=epochs,
            featuresMapping={
                str(project): {name: list(to) for name, to in mapping.items()}
                for project, mapping in features_mapping.items()
            },
            labelsUuids=_texts(labels_uuids),
            pretrainedTrainingUuid=_text(pretrained_training_uuid),
            pretrainedWeightsType=_text(pretrained_weights_type),
        )
        return await self._change("POST", f"/ml-models/{model_uuid}/trainings", body, _UUID)

    async def get_training_status(
        self, *, model_uuid: UUID, training_uuid: UUID, timeout_seconds: int = 0
    ) -> TrainingStatus:
        """Returns what the API says about a training, asking once.

        Args:
            model_uuid: What is trained.
            training_uuid: The training.
            timeout_seconds: How long the API holds the answer back while the training goes on,
                0 to 60.
        """
        wait = min(max(timeout_seconds, 0), MAX_LONG_POLL_SECONDS)
        response = await self._transport.send(
            "GET",
            f"/ml-models/{model_uuid}/iterations/{training_uuid}/training",
            query=(("timeoutSeconds", str(wait)),),
            read_timeout_seconds=self._transport.timeouts.read + wait,
        )

        def check(status: TrainingStatus) -> None:
            if status.result is not None:
                _same("trainingUuid", status.result.training_uuid, training_uuid)

        return _parse(_TRAINING_STATUS, response, check)

    async def get_training_data(
        self, *, model_uuid: UUID, training_uuid: UUID
    ) -> AsyncIterator[TrainingData]:
        """Yields what a training was trained on, asking for a page when it is needed."""
        path = f"/ml-models/{model_uuid}/iterations/{training_uuid}/training-data"
        async for item in self._pages(path, [], _TRAINING_DATA):
            yield item

    async def get_weights_download_link(self, *, model_uuid: UUID, training_uuid: UUID) -> str:
        """Returns a URL from which the weights can be loaded; it is a secret in itself."""
        path = f"/ml-models/{model_uuid}/iterations/{training_uuid}/weights-link"
        return await self._read(path, _TEXT)

    async def delete_training_iteration(self, *, model_uuid: UUID, training_uuid: UUID) -> None:
        """Deletes a training iteration."""
        await self._delete(f"/ml-models/{model_uuid}/iterations/{training_uuid}")

    async def create_model_attachment(
        self,
        *,
        project_uuid: UUID,
        model_uuid: UUID,
        features_mapping: Mapping[str, str],
        iteration_policy: IterationPolicy,
        training_uuids: Iterable[UUID] | None = None,
    ) -> ProjectModelWithIterations:
        """Attaches a model to a project and returns the attachment.

        Args:
            project_uuid: Where to.
            model_uuid: What.
            features_mapping: Feature of the model -> featureHash of the project's ontology.
            iteration_policy: Which iterations are offered.
            training_uuids: These, where the policy says so.
        """
        body = _body(
            featuresMapping=dict(features_mapping),
            iterationPolicy=str(iteration_policy),
            modelUuid=str(model_uuid),
            trainingUuids=_texts(training_uuids),
        )
        attachment = await self._change("POST", _attachments(project_uuid), body, _ATTACHMENT)
        _same("projectUuid", attachment.project_model.project_uuid, project_uuid)
        _same("modelUuid", attachment.project_model.model_uuid, model_uuid)
        return attachment

    async def list_model_attachments(
        self, *, project_uuid: UUID
    ) -> AsyncIterator[ProjectModelWithIterations]:
        """Yields all models attached to a project, asking for a page when it is needed."""

        def check(page: Page[ProjectModelWithIterations]) -> None:
            for attachment in page.results:
                _same("projectUuid", attachment.project_model.project_uuid, project_uuid)

        path = _attachments(project_uuid)
        async for attachment in self._pages(path, [], _ATTACHMENTS, check):
            yield attachment

    async def update_model_attachment(
        self,
        *,
        project_uuid: UUID,
        project_model_uuid: UUID,
        features_mapping: Mapping[str, str],
        iteration_policy: IterationPolicy,
        training_uuids: Iterable[UUID] | None = None,
    ) -> ProjectModelWithIterations:
        """Changes an attachment and returns it; the arguments are those of its creation."""
        body = _body(
            featuresMapping=dict(features_mapping),
            iterationPolicy=str(iteration_policy),
            trainingUuids=_texts(training_uuids),
        )
        path = f"{_attachments(project_uuid)}/{project_model_uuid}"
        attachment = await self._change("PATCH", path, body, _ATTACHMENT)
        _same("projectUuid", attachment.project_model.project_uuid, project_uuid)
        _same("projectModelUuid", attachment.project_model.project_model_uuid, project_model_uuid)
        return attachment

    async def delete_model_attachment(
        self, *, project_uuid: UUID, project_model_uuid: UUID
    ) -> None:
        """Removes a model from a project."""
        await self._delete(f"{_attachments(project_uuid)}/{project_model_uuid}")

    async def predict_classification(  # noqa: PLR0913 - the operation's own parameters
        self,
        *,
        project_uuid: UUID,
        project_model_uuid: UUID,
        training_uuid: UUID,
        data_uuid: UUID | None = None,
        data_base64: str | bytes | None = None,
        frame_range_from: int | None = None,
        frame_range_to: int | None = None,
        conf_thresh: float = 0.6,
    ) -> dict[int, ClassificationItem | None]:
        """Returns the class of each frame; the arguments are those of the command."""
        body = _body(
            confThresh=float(conf_thresh),
            dataUuid=_text(data_uuid),
            dataBase64=data_base64,
            frameRangeFrom=frame_range_from,
            frameRangeTo=frame_range_to,
        )
        data_base64 = None  # The body has it: too large to be held twice.
        path = _predict_path(project_uuid, project_model_uuid, training_uuid, "classification")
        response = await self._transport.send("POST", path, body=body)
        return _parse(_CLASSIFICATIONS, response).result

    async def predict_object_detection(  # noqa: PLR0913 - the operation's own parameters
        self,
        *,
        project_uuid: UUID,
        project_model_uuid: UUID,
        training_uuid: UUID,
        data_uuid: UUID | None = None,
        data_base64: str | bytes | None = None,
        frame_range_from: int | None = None,
        frame_range_to: int | None = None,
        allocation_enabled: bool = False,
        conf_thresh: float = 0.6,
        iou_thresh: float = 0.3,
    ) -> dict[int, list[DetectionItem]]:
        """Returns the objects of each frame; the arguments are those of the command."""
        body = _body(
            allocationEnabled=allocation_enabled,
            confThresh=float(conf_thresh),
            dataUuid=_text(data_uuid),
            dataBase64=data_base64,
            frameRangeFrom=frame_range_from,
            frameRangeTo=frame_range_to,
            iouThresh=float(iou_thresh),
        )
        data_base64 = None  # The body has it: too large to be held twice.
        path = _predict_path(project_uuid, project_model_uuid, training_uuid, "object-detection")
        response = await self._transport.send("POST", path, body=body)
        return _parse(_DETECTIONS, response).result

    async def predict_instance_segmentation(  # noqa: PLR0913 - the operation's own parameters
        self,
        *,
        project_uuid: UUID,
        project_model_uuid: UUID,
        training_uuid: UUID,
        data_uuid: UUID | None = None,
        data_base64: str | bytes | None = None,
        frame_range_from: int | None = None,
        frame_range_to: int | None = None,
        allocation_enabled: bool = False,
        conf_thresh: float = 0.6,
        iou_thresh: float = 0.3,
        rdp_thresh: float | None = None,
    ) -> dict[int, list[SegmentationItem]]:
        """Returns the outlined objects of each frame; the arguments are those of the command."""
        body = _body(
            allocationEnabled=allocation_enabled,
            confThresh=float(conf_thresh),
            dataUuid=_text(data_uuid),
            dataBase64=data_base64,
            frameRangeFrom=frame_range_from,
            frameRangeTo=frame_range_to,
            iouThresh=float(iou_thresh),
            rdpThresh=None if rdp_thresh is None else float(rdp_thresh),
        )
        data_base64 = None  # The body has it: too large to be held twice.
        path = _predict_path(
            project_uuid, project_model_uuid, training_uuid, "instance-segmentation"
        )
        response = await self._transport.send("POST", path, body=body)
        return _parse(_SEGMENTATIONS, response).result

    async def _read(
        self,
        path: str,
        adapter: TypeAdapter[Result],
        check: Callable[[Result], None] | None = None,
    ) -> Result:
        response = await self._transport.send("GET", path)
        return _parse(adapter, response, check)

    async def _change(
        self, method: str, path: str, body: bytes, adapter: TypeAdapter[Result]
    ) -> Result:
        response = await self._transport.send(method, path, body=body, fresh=True)
        return _parse(adapter, response)

    async def _delete(self, path: str) -> None:
        response = await self._transport.send("DELETE", path, fresh=True)
        if response.body:
            _check_empty(response.body)

    async def _pages(
        self,
        path: str,
        parameters: list[tuple[str, str]],
        adapter: TypeAdapter[Page[Result]],
        check: Callable[[Page[Result]], None] | None = None,
    ) -> AsyncIterator[Result]:
        token: str | None = None
        seen: set[str] = set()
        listed = 0
        for _ in range(MAX_PAGES):
            query = parameters if token is None else [*parameters, ("pageToken", token)]
            response = await self._transport.send("GET", path, query=query)
            page = _parse(adapter, response, check)
            listed += len(page.results)
            if listed > MAX_LISTED:
                raise _endless(f"{MAX_LISTED} entries")
            for result in page.results:
                yield result
            token = page.next_page_token
            if token is None:
                return
            if token in seen:
                # Without this a server's mistake would keep a slot busy for ever.
                raise BadResponseError(
                    "the API names the same next page twice",
                    code=ErrorCode.BAD_RESPONSE,
                )
            seen.add(token)
        raise _endless(f"{MAX_PAGES} pages")


def _endless(most: str) -> BadResponseError:
    return BadResponseError(
        f"the API's list goes on after {most}, which is the most that is read",
        code=ErrorCode.BAD_RESPONSE,
    )


def _attachments(project_uuid: UUID) -> str:
    return f"/projects/{project_uuid}/models-attachments"


def _predict_path(
    project_uuid: UUID, project_model_uuid: UUID, training_uuid: UUID, task: str
) -> str:
    return (
        f"/projects/{project_uuid}/models-attachments/{project_model_uuid}"
        f"/iterations/{training_uuid}/{task}/predict"
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _texts(values: Iterable[object] | None) -> list[str] | None:
    return None if values is None else [str(value) for value in values]


def _body(**parameters: object) -> bytes:
    parts: list[bytes] = []
    for name, value in parameters.items():
        if value is None:
            continue
        parts += (b", " if parts else b"{", b'"%s": ' % name.encode())
        # Base64 that is bytes already is as large as a picture: it is copied into the body only.
        parts += (b'"', value, b'"') if isinstance(value, bytes) else (_value(value),)
    return b"".join((*parts, b"}")) if parts else b"{}"


def _value(value: object) -> bytes:
    """The encoder's bytes, for a prediction's parameters several times as fast as it is."""
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, str) and value.isascii() and "\x7f" not in value:
        return orjson.dumps(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value).encode()
    return _encode(value).encode()


def _same(name: str, told: object, asked: object) -> None:
    """Refuses a reply that says of itself that it answers another request."""
    if told != asked:
        raise BadResponseError(
            f"the API answered for another request: {name} is {told}, asked for was {asked}",
            code=ErrorCode.BAD_RESPONSE,
        )


def _check_empty(body: bytes) -> None:
    """Refuses what answers a deletion with the result of another operation."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    if isinstance(told, dict) and not _RESULT_NAMES.isdisjoint(told):
        raise BadResponseError(
            "the API answered a deletion with the result of another operation",
            code=ErrorCode.BAD_RESPONSE,
        )


def _parse(
    adapter: TypeAdapter[Result],
    response: Response,
    check: Callable[[Result], None] | None = None,
) -> Result:
    """Returns what a reply holds, and gives its connection free.

    Args:
        adapter: Of what the operation promises.
        response: Read by nobody yet.
        check: Refuses what answers another request.

    Raises:
        BadResponseError: It does; the connection has ended.
    """
    try:
        found = adapter.validate_json(response.body)
        if check is not None:
            check(found)
    except ValidationError as exc:
        response.distrust()
        details = exc.errors(include_url=False, include_context=False, include_input=False)
        problems = [
            Problem(path=".".join(str(part) for part in each["loc"]), message=each["msg"])
            for each in details[:_MAX_PROBLEMS]
        ]
        raise BadResponseError(
            "the API reported success with an answer that is not what it promises",
            code=ErrorCode.BAD_RESPONSE,
            problems=problems,
        ) from None
    except BaseException:
        response.distrust()
        raise
    response.accept()
    return found
