"""The operations on models and their trainings."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from sandbox.errors import BadRequestError, ConflictError, InvalidRequestError, NotFoundError
from sandbox.records import Model, Training, TrainingEffect, TrainingState, now_us
from sandbox.serialization import (
    Reply,
    iteration,
    model_with_iterations,
    no_content,
    ok,
    ok_string,
    page,
    place,
    training_data,
)
from sandbox.store import Place
from sandbox.validation import (
    check_model_update,
    check_new_model,
    check_training,
    parse_body,
    parse_integer,
    parse_uuid,
)
from schemas import api
from schemas.enums import OrderBy
from schemas.enums import TrainingState as ApiTrainingState

if TYPE_CHECKING:
    from sandbox.catalogue import Catalogue
    from sandbox.endpoint import Call
    from sandbox.signed_urls import WeightsUrls
    from sandbox.store import Store
    from sandbox.trainings import Trainings

_LONGEST_POLL_SECONDS = 60
_PENDING = ok(api.TrainingStatus(status=ApiTrainingState.PENDING))
"""Made once: it is the answer to nearly every poll."""
_BOOLEANS = {"true": True, "false": False}


class ModelOperations:
    """Models: create, list, get, update, delete."""

    def __init__(self, store: Store, trainings: Trainings, page_size: int) -> None:
        self._store = store
        self._trainings = trainings
        self._page_size = page_size

    async def create(self, call: Call) -> Reply:
        """create_model."""
        body = parse_body(api.CreateModelRequest, call.body)
        check_new_model(body)
        model = Model(
            uuid=str(uuid4()),
            created_at_us=now_us(),
            title=body.title,
            description=body.description or "",
            architecture=body.model,
            features=tuple(body.features),
        )
        self._store.add_model(model)
        return ok(model_with_iterations(model, []), created=model.uuid)

    async def list_all(self, call: Call) -> Reply:
        """list_models."""
        found = self._store.models(
            _order_by(call.query.get("orderBy", OrderBy.CREATED_AT)),
            ascending=_boolean("orderAsc", call.query.get("orderAsc", "False")),
            query=call.query.get("query", ""),
            after=place(call.query.get("pageToken")),
            limit=self._page_size + 1,
        )
        shown = [(where, self._with_iterations(model, call)) for where, model in found]
        return page(shown, self._page_size)

    async def get(self, call: Call) -> Reply:
        """get_model."""
        return ok(self._with_iterations(find_model(self._store, call), call))

    async def update(self, call: Call) -> Reply:
        """update_model."""
        body = parse_body(api.UpdateModelRequest, call.body)
        check_model_update(body)
        model = find_model(self._store, call)
        title = model.title if body.title is None else body.title
        description = model.description if body.description is None else body.description
        self._store.rename_model(model.uuid, title, description)
        return ok(self._with_iterations(find_model(self._store, call), call))

    async def delete(self, call: Call) -> Reply:
        """delete_model; its trainings end and go with it, and so do its attachments."""
        model = find_model(self._store, call)
        for training_uuid in self._trainings.of_model(model.uuid):
            self._trainings.forget(training_uuid)
        self._store.delete_model(model.uuid)
        return no_content()

    def _with_iterations(self, model: Model, call: Call) -> api.ModelWithIterations:
        states = list(TrainingState) if call.verdict.running_listed else [TrainingState.DONE]
        found = self._store.iterations(model.uuid, states)
        return model_with_iterations(model, [self._trainings.so_far(one) for one in found])


class TrainingOperations:
    """Trainings: create, status, data, weights link, delete."""

    def __init__(
        self,
        store: Store,
        trainings: Trainings,
        catalogue: Catalogue,
        links: WeightsUrls,
        page_size: int,
    ) -> None:
        self._store = store
        self._trainings = trainings
        self._catalogue = catalogue
        self._links = links
        self._page_size = page_size

    async def create(self, call: Call) -> Reply:
        """create_training_job."""
        body = parse_body(api.CreateTrainingRequest, call.body)
        model = find_model(self._store, call)
        check_training(body, model, self._catalogue)
        self._check_earlier(body, model)
        fault = call.verdict.training
        training = Training(
            uuid=str(uuid4()),
            model_uuid=model.uuid,
            created_at_us=now_us(),
            batch_size=body.batch_size,
            epochs=body.epochs,
            features_mapping={str(key): value for key, value in body.features_mapping.items()},
            # Each once: a label that is named twice is one item.
            label_uuids=tuple(dict.fromkeys(str(uuid) for uuid in body.labels_uuids)),
            pretrained_training_uuid=_text(body.pretrained_training_uuid),
            pretrained_weights_type=_text(body.pretrained_weights_type),
            effect=TrainingEffect(fault.training) if fault else TrainingEffect.NORMAL,
            effect_seconds=fault.seconds if fault else 0,
            state=TrainingState.QUEUED,
            duration_seconds=0,
            loss_log={},
        )
        self._trainings.create(training)
        return ok_string(training.uuid, created=training.uuid)

    async def status(self, call: Call) -> Reply:
        """get_training_status; waits for the end, but at most `timeoutSeconds`."""
        timeout = call.query.get("timeoutSeconds", "0")
        seconds = parse_integer("timeoutSeconds", timeout, low=0, high=_LONGEST_POLL_SECONDS)
        training_uuid = self._find(call)
        await self._trainings.wait(training_uuid, seconds)
        # Asked again: it may have ended or been deleted meanwhile.
        match self._trainings.state(parse_uuid("modelUuid", call.path["model"]), training_uuid):
            case TrainingState.DONE:
                result = iteration(self._kept(training_uuid).iteration())
                return ok(api.TrainingStatus(status=ApiTrainingState.DONE, result=result))
            case TrainingState.ERROR:
                return ok(api.TrainingStatus(status=ApiTrainingState.ERROR))
            case TrainingState.QUEUED | TrainingState.RUNNING:
                return _PENDING
            case None:
                raise _no_training(training_uuid)

    async def data(self, call: Call) -> Reply:
        """get_training_data; there from the moment that the training is created."""
        training = self._kept(self._find(call))
        after = place(call.query.get("pageToken"))
        begin = after.seq if after else 0
        labels = training.label_uuids[begin : begin + self._page_size + 1]
        shown = [
            (Place(uuid, begin + number), self._data(uuid)) for number, uuid in enumerate(labels, 1)
        ]
        return page(shown, self._page_size)

    async def weights_link(self, call: Call) -> Reply:
        """get_weights_download_link."""
        training_uuid = self._find(call)
        check_trained(self._kept(training_uuid))
        return ok_string(self._links.link(call.domain, training_uuid))

    async def delete(self, call: Call) -> Reply:
        """delete_training_iteration; only what has ended, as nothing can stop a training."""
        training = self._kept(self._find(call))
        if not training.state.ended:
            message = f"training {training.uuid} has not ended"
            raise ConflictError(message)
        self._trainings.forget(training.uuid)
        self._store.delete_training(training.uuid)
        return no_content()

    def _find(self, call: Call) -> str:
        model_uuid = parse_uuid("modelUuid", call.path["model"])
        training_uuid = parse_uuid("trainingUuid", call.path["training"])
        if self._trainings.state(model_uuid, training_uuid) is None:
            raise _no_training(training_uuid)
        return training_uuid

    def _kept(self, training_uuid: str) -> Training:
        training = self._store.training(training_uuid)
        if training is None:
            raise _no_training(training_uuid)
        return training

    def _data(self, label_uuid: str) -> api.TrainingData:
        label = self._catalogue.labels[label_uuid]
        return training_data(label.project, label.item)

    def _check_earlier(self, body: api.CreateTrainingRequest, model: Model) -> None:
        if body.pretrained_training_uuid is None:
            return
        earlier = self._store.training(str(body.pretrained_training_uuid))
        if earlier is None or earlier.model_uuid != model.uuid:
            message = (
                f"pretrainedTrainingUuid: {body.pretrained_training_uuid} "
                f"is not a training of model {model.uuid}"
            )
            raise BadRequestError(message)
        check_trained(earlier)


def find_model(store: Store, call: Call) -> Model:
    """Returns the model that the path names.

    Raises:
        NotFoundError: there is none.
    """
    return require_model(store, parse_uuid("modelUuid", call.path["model"]))


def require_model(store: Store, model_uuid: str) -> Model:
    """Returns a model.

    Raises:
        NotFoundError: there is none.
    """
    model = store.model(model_uuid)
    if model is None:
        message = f"there is no model {model_uuid}"
        raise NotFoundError(message)
    return model


def check_trained(training: Training) -> None:
    """Lets a training pass that has weights.

    Raises:
        ConflictError: it is not done, or it was only simulated.
    """
    if training.state is not TrainingState.DONE:
        message = f"training {training.uuid} is not done"
        raise ConflictError(message)
    if not training.effect.trains:
        message = f"training {training.uuid} was simulated by a fault rule and has no weights"
        raise ConflictError(message)


def _no_training(training_uuid: str) -> NotFoundError:
    return NotFoundError(f"the model has no training {training_uuid}")


def _order_by(text: str) -> OrderBy:
    try:
        return OrderBy(text)
    except ValueError as exc:
        message = f"not one of {', '.join(OrderBy)}"
        raise InvalidRequestError.of("query", "orderBy", message, "enum") from exc


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise InvalidRequestError.of("query", name, "not True or False", "bool_parsing")
    return _BOOLEANS[text.lower()]


def _text(value: object) -> str | None:
    return None if value is None else str(value)
