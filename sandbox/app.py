"""The routes: 17 operations, the weights' download, and what steers the sandbox itself."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from sandbox.endpoint import Endpoint, refusal
from sandbox.errors import ApiError, ForbiddenError, NotFoundError
from sandbox.faults import Operation
from sandbox.signed_urls import PATH as WEIGHTS_PATH
from sandbox.validation import parse_integer, parse_uuid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from sandbox.attachments import AttachmentOperations
    from sandbox.endpoint import Handler, RequestPipeline
    from sandbox.models import ModelOperations, TrainingOperations
    from sandbox.predictions import PredictionOperations
    from sandbox.signed_urls import WeightsUrls
    from sandbox.state import StateFolder

    _ByMethod: TypeAlias = Mapping[str, tuple[Operation, Handler]]

_BASE = "/v2/public"
_MODELS = f"{_BASE}/ml-models"
_MODEL = f"{_MODELS}/{{model}}"
_TRAINING = f"{_MODEL}/iterations/{{training}}"
_ATTACHMENTS = f"{_BASE}/projects/{{project}}/models-attachments"
_ATTACHMENT = f"{_ATTACHMENTS}/{{attachment}}"
_PREDICT = f"{_ATTACHMENT}/iterations/{{training}}"
_LONGEST_RATE_SECONDS = 3600


class _Resource:
    """The operations that share a path, by method."""

    def __init__(self, by_method: Mapping[str, ASGIApp]) -> None:
        self._by_method = by_method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        await self._by_method["GET" if method == "HEAD" else method](scope, receive, send)


@dataclass(frozen=True, slots=True)
class Operations:
    """The handlers of the 17 operations."""

    models: ModelOperations
    trainings: TrainingOperations
    attachments: AttachmentOperations
    predictions: PredictionOperations


def build_app(pipeline: RequestPipeline, operations: Operations, control: Control) -> Starlette:
    """Returns the whole application."""
    app = Starlette(
        routes=[*_operation_routes(pipeline, operations), *control.routes()],
        exception_handlers={ApiError: _refused, HTTPException: _not_routed},
    )
    # The signature covers the path as it was sent; no redirect may change it.
    app.router.redirect_slashes = False
    return app


def _operation_routes(pipeline: RequestPipeline, operations: Operations) -> list[Route]:
    by_path = {
        # First the two that take nearly all calls: routes are tried in their order.
        f"{_TRAINING}/training": {
            "GET": (Operation.GET_TRAINING_STATUS, operations.trainings.status)
        },
        **_predictions_by_path(operations.predictions),
        **_models_by_path(operations.models),
        **_trainings_by_path(operations.trainings),
        **_attachments_by_path(operations.attachments),
    }
    return [_route(path, by_method, pipeline) for path, by_method in by_path.items()]


def _route(path: str, by_method: _ByMethod, pipeline: RequestPipeline) -> Route:
    endpoints = {
        method: Endpoint(operation, handler, pipeline)
        for method, (operation, handler) in by_method.items()
    }
    return Route(path, _Resource(endpoints), methods=list(endpoints))


def _predictions_by_path(predictions: PredictionOperations) -> dict[str, _ByMethod]:
    return {
        f"{_PREDICT}/classification/predict": {
            "POST": (Operation.PREDICT_CLASSIFICATION, predictions.classify)
        },
        f"{_PREDICT}/object-detection/predict": {
            "POST": (Operation.PREDICT_OBJECT_DETECTION, predictions.detect)
        },
        f"{_PREDICT}/instance-segmentation/predict": {
            "POST": (Operation.PREDICT_INSTANCE_SEGMENTATION, predictions.segment)
        },
    }


def _models_by_path(models: ModelOperations) -> dict[str, _ByMethod]:
    return {
        _MODELS: {
            "GET": (Operation.LIST_MODELS, models.list_all),
            "POST": (Operation.CREATE_MODEL, models.create),
        },
        _MODEL: {
            "GET": (Operation.GET_MODEL, models.get),
            "PATCH": (Operation.UPDATE_MODEL, models.update),
            "DELETE": (Operation.DELETE_MODEL, models.delete),
        },
    }


def _trainings_by_path(trainings: TrainingOperations) -> dict[str, _ByMethod]:
    """Returns all but their status, which stands before all else."""
    return {
        f"{_MODEL}/trainings": {"POST": (Operation.CREATE_TRAINING_JOB, trainings.create)},
        _TRAINING: {"DELETE": (Operation.DELETE_TRAINING_ITERATION, trainings.delete)},
        f"{_TRAINING}/training-data": {"GET": (Operation.GET_TRAINING_DATA, trainings.data)},
        f"{_TRAINING}/weights-link": {
            "GET": (Operation.GET_WEIGHTS_DOWNLOAD_LINK, trainings.weights_link)
        },
    }


def _attachments_by_path(attachments: AttachmentOperations) -> dict[str, _ByMethod]:
    return {
        _ATTACHMENTS: {
            "GET": (Operation.LIST_MODEL_ATTACHMENTS, attachments.list_all),
            "POST": (Operation.CREATE_MODEL_ATTACHMENT, attachments.create),
        },
        _ATTACHMENT: {
            "PATCH": (Operation.UPDATE_MODEL_ATTACHMENT, attachments.update),
            "DELETE": (Operation.DELETE_MODEL_ATTACHMENT, attachments.delete),
        },
    }


class Control:
    """What steers the sandbox itself and is no part of the API."""

    def __init__(self, pipeline: RequestPipeline, links: WeightsUrls, state: StateFolder) -> None:
        self._pipeline = pipeline
        self._links = links
        self._state = state

    def routes(self) -> list[Route]:
        """Returns the routes below /sandbox."""
        return [
            Route(WEIGHTS_PATH, self.weights),
            Route("/sandbox/faults", self.faults, methods=["GET", "PUT", "DELETE"]),
            Route("/sandbox/truth", self.truth, methods=["GET", "DELETE"]),
        ]

    async def weights(self, request: Request) -> Response:
        """Downloads the weights of a training; the link itself is the permission."""
        training_uuid = parse_uuid("trainingUuid", request.path_params["training_uuid"])
        query = request.query_params
        self._links.check(training_uuid, query.get("expires", ""), query.get("signature", ""))
        file = self._state.weights_file(training_uuid)
        if not file.exists():
            message = f"the weights of training {training_uuid} are deleted"
            raise NotFoundError(message)
        name = f"{training_uuid}.safetensors"
        return FileResponse(file, media_type="application/octet-stream", filename=name)

    async def faults(self, request: Request) -> Response:
        """Tells, replaces or clears the fault rules; answers with those that hold now."""
        _from_this_machine(request)
        match request.method:
            case "PUT":
                self._pipeline.faults.replace(await request.body())
            case "DELETE":
                self._pipeline.faults.clear()
        return _json(200, {"rules": self._pipeline.faults.described()})

    async def truth(self, request: Request) -> Response:
        """Tells what happened; DELETE starts the counters anew."""
        _from_this_machine(request)
        if request.method == "DELETE":
            self._pipeline.call_log.reset()
            return Response(status_code=204)
        seconds = request.query_params.get("seconds", "10")
        told = self._pipeline.call_log.told(
            last_seconds=parse_integer("seconds", seconds, low=1, high=_LONGEST_RATE_SECONDS),
            with_created=request.query_params.get("created", "true").lower() != "false",
        )
        return _json(200, told)


def _from_this_machine(request: Request) -> None:
    """Lets only callers on loopback pass.

    Raises:
        ForbiddenError: the caller is on another machine.
    """
    host = request.client.host if request.client else ""
    address = ipaddress.ip_address(host)
    # A socket for both families tells 127.0.0.1 as ::ffff:127.0.0.1.
    address = getattr(address, "ipv4_mapped", None) or address
    if not address.is_loopback:
        message = "the sandbox is steered from its own machine only"
        raise ForbiddenError(message)


def _json(status: int, body: object) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


async def _refused(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, ApiError)  # noqa: S101 - Starlette hands over what it was told to
    reply = refusal(exc)
    return Response(reply.body, reply.status, media_type="application/json")


async def _not_routed(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101 - as above
    body = orjson.dumps({"message": exc.detail})
    return Response(body, exc.status_code, exc.headers, media_type="application/json")
