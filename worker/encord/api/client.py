"""The seventeen operations of the ML-models API, one method each.

Reads share pooled connections. What changes something goes out on an own connection, at most once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from pydantic import TypeAdapter

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
from schemas.events import ErrorCode
from schemas.first_problems import first_problems
from worker.encord.api.replies import check_deletion, check_same, parse_reply
from worker.encord.api.request_bodies import request_body, text_of, texts_of
from worker.errors import BadResponseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from schemas.enums import IterationPolicy, ModelArchitecture, PretrainedWeights
    from worker.encord.api.transport import Sender

MAX_LONG_POLL_SECONDS = 60  # The API waits no longer, whatever it is asked for.

# A list that goes on beyond these has no end, or none that fits into memory.
MAX_PAGES = 2_000
MAX_LISTED = 250_000

Result = TypeVar("Result")

_MODEL = first_problems(TypeAdapter(ModelWithIterations))
_MODELS = first_problems(TypeAdapter(Page[ModelWithIterations]))
_TRAINING_STATUS = first_problems(TypeAdapter(TrainingStatus))
_TRAINING_DATA = first_problems(TypeAdapter(Page[TrainingData]))
_ATTACHMENT = first_problems(TypeAdapter(ProjectModelWithIterations))
_ATTACHMENTS = first_problems(TypeAdapter(Page[ProjectModelWithIterations]))
_CLASSIFICATIONS = first_problems(TypeAdapter(ClassificationFrames))
_DETECTIONS = first_problems(TypeAdapter(DetectionFrames))
_SEGMENTATIONS = first_problems(TypeAdapter(SegmentationFrames))
_UUID = first_problems(TypeAdapter(UUID))
_TEXT = first_problems(TypeAdapter(str))


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
        body = request_body(
            features=list(features),
            model=str(model),
            title=title,
            description=description,
        )
        return await self._change("POST", "/ml-models", body, _MODEL)

    async def get_model(self, *, model_uuid: UUID) -> ModelWithIterations:
        """Returns a model with its iterations."""

        def check(model: ModelWithIterations) -> None:
            check_same("modelUuid", model.model_group.model_uuid, model_uuid)

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
        body = request_body(description=description, title=title)
        model = await self._change("PATCH", f"/ml-models/{model_uuid}", body, _MODEL)
        check_same("modelUuid", model.model_group.model_uuid, model_uuid)
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
        body = request_body(
            batchSize=batch_size,
            epochs=epochs,
            featuresMapping={
                str(project): {name: list(to) for name, to in mapping.items()}
                for project, mapping in features_mapping.items()
            },
            labelsUuids=texts_of(labels_uuids),
            pretrainedTrainingUuid=text_of(pretrained_training_uuid),
            pretrainedWeightsType=text_of(pretrained_weights_type),
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
                check_same("trainingUuid", status.result.training_uuid, training_uuid)

        return parse_reply(_TRAINING_STATUS, response, check)

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
        body = request_body(
            featuresMapping=dict(features_mapping),
            iterationPolicy=str(iteration_policy),
            modelUuid=str(model_uuid),
            trainingUuids=texts_of(training_uuids),
        )
        attachment = await self._change("POST", _attachments(project_uuid), body, _ATTACHMENT)
        check_same("projectUuid", attachment.project_model.project_uuid, project_uuid)
        check_same("modelUuid", attachment.project_model.model_uuid, model_uuid)
        return attachment

    async def list_model_attachments(
        self, *, project_uuid: UUID
    ) -> AsyncIterator[ProjectModelWithIterations]:
        """Yields all models attached to a project, asking for a page when it is needed."""

        def check(page: Page[ProjectModelWithIterations]) -> None:
            for attachment in page.results:
                check_same("projectUuid", attachment.project_model.project_uuid, project_uuid)

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
        body = request_body(
            featuresMapping=dict(features_mapping),
            iterationPolicy=str(iteration_policy),
            trainingUuids=texts_of(training_uuids),
        )
        path = f"{_attachments(project_uuid)}/{project_model_uuid}"
        attachment = await self._change("PATCH", path, body, _ATTACHMENT)
        check_same("projectUuid", attachment.project_model.project_uuid, project_uuid)
        check_same(
            "projectModelUuid", attachment.project_model.project_model_uuid, project_model_uuid
        )
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
        body = request_body(
            confThresh=float(conf_thresh),
            dataUuid=text_of(data_uuid),
            dataBase64=data_base64,
            frameRangeFrom=frame_range_from,
            frameRangeTo=frame_range_to,
        )
        data_base64 = None  # The body has it: too large to be held twice.
        path = _predict_path(project_uuid, project_model_uuid, training_uuid, "classification")
        response = await self._transport.send("POST", path, body=body)
        return parse_reply(_CLASSIFICATIONS, response).result

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
        body = request_body(
            allocationEnabled=allocation_enabled,
            confThresh=float(conf_thresh),
            dataUuid=text_of(data_uuid),
            dataBase64=data_base64,
            frameRangeFrom=frame_range_from,
            frameRangeTo=frame_range_to,
            iouThresh=float(iou_thresh),
        )
        data_base64 = None  # The body has it: too large to be held twice.
        path = _predict_path(project_uuid, project_model_uuid, training_uuid, "object-detection")
        response = await self._transport.send("POST", path, body=body)
        return parse_reply(_DETECTIONS, response).result

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
        body = request_body(
            allocationEnabled=allocation_enabled,
            confThresh=float(conf_thresh),
            dataUuid=text_of(data_uuid),
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
        return parse_reply(_SEGMENTATIONS, response).result

    async def _read(
        self,
        path: str,
        read: Callable[[bytes], Result],
        check: Callable[[Result], None] | None = None,
    ) -> Result:
        response = await self._transport.send("GET", path)
        return parse_reply(read, response, check)

    async def _change(
        self, method: str, path: str, body: bytes, read: Callable[[bytes], Result]
    ) -> Result:
        response = await self._transport.send(method, path, body=body, fresh=True)
        return parse_reply(read, response)

    async def _delete(self, path: str) -> None:
        response = await self._transport.send("DELETE", path, fresh=True)
        if response.body:
            check_deletion(response.body)

    async def _pages(
        self,
        path: str,
        parameters: list[tuple[str, str]],
        read: Callable[[bytes], Page[Result]],
        check: Callable[[Page[Result]], None] | None = None,
    ) -> AsyncIterator[Result]:
        token: str | None = None
        seen: set[str] = set()
        listed = 0
        for _ in range(MAX_PAGES):
            query = parameters if token is None else [*parameters, ("pageToken", token)]
            response = await self._transport.send("GET", path, query=query)
            page = parse_reply(read, response, check)
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
