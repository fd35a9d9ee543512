"""The differential test: our requests are the SDK's, byte for byte, under a frozen clock."""

from __future__ import annotations

import base64
import inspect
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import pytest
from encord.ml_models_client import MlModelsClient
from encord.objects import ml_models as sdk_types

from schemas.enums import IterationPolicy, ModelArchitecture, OrderBy, PretrainedWeights
from tests.integration.sdk import CREATED, KEY, frozen_sdk_clock, sdk_client
from tests.stub_api import Answer, StubApi, reply
from worker.encord.api.client import MlModelsApi
from worker.encord.api.operations import OPERATIONS, operation_of
from worker.encord.api.signing import RequestSigner
from worker.encord.api.transport import Transport

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stub_api import Recorded

pytestmark = pytest.mark.asyncio

MODEL, TRAINING, PROJECT, ATTACHMENT, DATA = (
    UUID(f"{digit * 8}-{digit * 4}-4{digit * 3}-8{digit * 3}-{digit * 12}") for digit in "12345"
)
IMAGE = bytes(range(256)) * 5

_GROUP = {
    "createdAt": "2026-01-02T03:04:05Z",
    "description": "",
    "features": ["car"],
    "model": "resnet18",
    "modelUuid": str(MODEL),
    "title": "t",
    "type": "classification",
}
_ITERATION = {
    "batchSize": 1,
    "createdAt": "2026-01-02T03:04:05Z",
    "duration": 1,
    "epochs": 1,
    "lossLog": {},
    "trainingUuid": str(TRAINING),
}
_ATTACHED = {
    "modelGroup": _GROUP,
    "projectModel": {
        "createdAt": "2026-01-02T03:04:05Z",
        "iterationPolicy": "useAll",
        "modelUuid": str(MODEL),
        "projectModelUuid": str(ATTACHMENT),
        "projectUuid": str(PROJECT),
        "featuresMapping": {},
    },
    "projectModelIterations": [_ITERATION],
}
_MODEL = {"modelGroup": _GROUP, "modelIterations": [_ITERATION]}
_PAGES = [{"results": [], "nextPageToken": "a/b+c=&ü %"}, {"results": []}]
_FRAMES: dict[str, Any] = {"result": {}}

_IT = {"model_uuid": MODEL, "training_uuid": TRAINING}
_AT = {"project_uuid": PROJECT, "project_model_uuid": ATTACHMENT}
_ON = {**_AT, "training_uuid": TRAINING}
_ODD = 'Stra\u00dfe "7"\\ \u2028 \U0001f697 <&> \x7f'
_RANGE = {"frame_range_from": 0, "frame_range_to": 999}
_WHOLE = {"frame_range_from": None, "frame_range_to": None}

# Operation, arguments of both clients, answers.
CASES: list[tuple[str, dict[str, Any], list[Any]]] = [
    (
        "create_model",
        {
            "features": ["car"],
            "model": ModelArchitecture.RESNET_18,
            "title": "t",
            "description": None,
        },
        [_MODEL],
    ),
    (
        "create_model",
        {
            "features": [_ODD, "\u00e9"],
            "model": ModelArchitecture.MASK_RCNN,
            "title": _ODD,
            "description": "",
        },
        [_MODEL],
    ),
    ("get_model", {"model_uuid": MODEL}, [_MODEL]),
    ("list_models", {"order_by": OrderBy.CREATED_AT, "order_asc": False, "query": None}, _PAGES),
    ("list_models", {"order_by": OrderBy.TITLE, "order_asc": True, "query": ""}, _PAGES),
    (
        "list_models",
        {"order_by": OrderBy.TITLE, "order_asc": True, "query": f"{_ODD}+/=~'*"},
        _PAGES,
    ),
    ("update_model", {"model_uuid": MODEL, "title": _ODD, "description": "d"}, [_MODEL]),
    ("update_model", {"model_uuid": MODEL, "title": None, "description": ""}, [_MODEL]),
    ("update_model", {"model_uuid": MODEL, "title": None, "description": None}, [_MODEL]),
    ("delete_model", {"model_uuid": MODEL}, [None]),
    (
        "create_training_job",
        {
            "model_uuid": MODEL,
            "batch_size": 8,
            "epochs": 20,
            "features_mapping": {PROJECT: {"aB": ["car", _ODD]}, DATA: {"cD": []}},
            "labels_uuids": [DATA, TRAINING],
            "pretrained_training_uuid": TRAINING,
            "pretrained_weights_type": PretrainedWeights.MASK_RCNN_X101_32X8D_FPN3X,
        },
        [str(TRAINING)],
    ),
    (
        "create_training_job",
        {
            "model_uuid": MODEL,
            "batch_size": 1,
            "epochs": 1,
            "features_mapping": {},
            "labels_uuids": [],
            "pretrained_training_uuid": None,
            "pretrained_weights_type": None,
        },
        [str(TRAINING)],
    ),
    (
        "get_training_status",
        {**_IT, "timeout_seconds": 0},
        [{"status": "done", "result": _ITERATION}],
    ),
    (
        "get_training_status",
        {**_IT, "timeout_seconds": 604_800},
        [{"status": "done", "result": _ITERATION}],
    ),
    ("get_training_data", _IT, _PAGES),
    ("get_weights_download_link", _IT, ["https://x"]),
    ("delete_training_iteration", _IT, [None]),
    (
        "create_model_attachment",
        {
            "project_uuid": PROJECT,
            "model_uuid": MODEL,
            "features_mapping": {"car": "aBcD", _ODD: "x"},
            "iteration_policy": IterationPolicy.MANUAL_SELECTION,
            "training_uuids": [TRAINING],
        },
        [_ATTACHED],
    ),
    (
        "create_model_attachment",
        {
            "project_uuid": PROJECT,
            "model_uuid": MODEL,
            "features_mapping": {},
            "iteration_policy": IterationPolicy.USE_LATEST,
            "training_uuids": None,
        },
        [_ATTACHED],
    ),
    ("list_model_attachments", {"project_uuid": PROJECT}, _PAGES),
    (
        "update_model_attachment",
        {
            **_AT,
            "features_mapping": {"car": "aBcD"},
            "iteration_policy": IterationPolicy.USE_ALL,
            "training_uuids": [],
        },
        [_ATTACHED],
    ),
    ("delete_model_attachment", _AT, [None]),
    (
        "predict_classification",
        {**_ON, **_WHOLE, "data_uuid": DATA, "data_path": None, "conf_thresh": 0.6},
        [_FRAMES],
    ),
    (
        "predict_classification",
        {**_ON, **_RANGE, "data_uuid": None, "data_path": "image", "conf_thresh": 1},
        [_FRAMES],
    ),
    (
        "predict_object_detection",
        {
            **_ON,
            **_RANGE,
            "data_uuid": DATA,
            "data_path": None,
            "allocation_enabled": True,
            "conf_thresh": 0.1 + 0.2,
            "iou_thresh": 1e-7,
        },
        [_FRAMES],
    ),
    (
        "predict_object_detection",
        {
            **_ON,
            **_WHOLE,
            "data_uuid": None,
            "data_path": "image",
            "allocation_enabled": False,
            "conf_thresh": 0,
            "iou_thresh": 0.3,
        },
        [_FRAMES],
    ),
    (
        "predict_instance_segmentation",
        {
            **_ON,
            **_RANGE,
            "data_uuid": DATA,
            "data_path": None,
            "allocation_enabled": True,
            "conf_thresh": 0.6,
            "iou_thresh": 0.3,
            "rdp_thresh": 0.005,
        },
        [_FRAMES],
    ),
    (
        "predict_instance_segmentation",
        {
            **_ON,
            **_WHOLE,
            "data_uuid": None,
            "data_path": "image",
            "allocation_enabled": False,
            "conf_thresh": 0.6,
            "iou_thresh": 0.3,
            "rdp_thresh": None,
        },
        [_FRAMES],
    ),
]

_SDK_ENUMS = {
    ModelArchitecture: sdk_types.ModelArchitecture,
    OrderBy: sdk_types.ModelsListOrderBy,
    PretrainedWeights: sdk_types.ModelPretrainedWeightsType,
    IterationPolicy: sdk_types.ModelIterationPolicy,
}


def answers(bodies: list[Any]) -> list[Answer]:
    """Returns the answers with these bodies; None is an empty 204."""
    return [reply(204) if body is None else reply(200, orjson.dumps(body)) for body in bodies]


def ask_sdk(stub: StubApi, operation: str, arguments: dict[str, Any]) -> list[Recorded]:
    """Returns the requests of the SDK."""
    theirs = {
        name: _SDK_ENUMS[type(value)](str(value)) if type(value) in _SDK_ENUMS else value
        for name, value in arguments.items()
    }
    result = getattr(sdk_client(stub.url), operation)(**theirs)
    if inspect.isgenerator(result):
        list(result)
    return list(stub.recorded)


async def ask_ours(stub: StubApi, operation: str, arguments: dict[str, Any]) -> list[Recorded]:
    """Returns the requests of our client."""
    ours = dict(arguments)
    if ours.pop("data_path", None):
        ours["data_base64"] = base64.b64encode(IMAGE).decode()
    signer = RequestSigner(KEY, clock=lambda: CREATED)
    async with Transport(stub.url, signer) as transport:
        result = getattr(MlModelsApi(transport), operation)(**ours)
        if isinstance(result, AsyncIterator):
            _ = [each async for each in result]
        else:
            await result
    return list(stub.recorded)


def compared(recorded: Recorded) -> dict[str, Any]:
    """Returns what must be equal, the base of the signature among it."""
    headers = recorded.headers
    params = headers["signature-input"].removeprefix("encord-sig=")
    return {
        "method": recorded.method,
        "target": recorded.target,
        "body": recorded.body,
        "content-type": headers.get("content-type"),
        "content-digest": headers["content-digest"],
        "signature-input": headers["signature-input"],
        "signature": headers["signature"],
        "signature base": f'"@method": {recorded.method}\n"@request-target": {recorded.target}\n'
        f'"content-digest": {headers["content-digest"]}\n"@signature-params": {params}',
    }


def verify(recorded: Recorded) -> None:
    """Checks the signature against what came over the wire."""
    signature = recorded.headers["signature"].removeprefix("encord-sig=:").removesuffix(":")
    base = compared(recorded)["signature base"]
    KEY.public_key().verify(base64.b64decode(signature), base.encode())


@pytest.mark.parametrize("case", CASES, ids=[each[0] for each in CASES])
async def test_our_requests_are_those_of_the_sdk(
    stub: StubApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, dict[str, Any], list[Any]],
) -> None:
    """Method, target, body, digest, signature input, base and signature are equal."""
    operation, arguments, bodies = case
    (tmp_path / "image").write_bytes(IMAGE)
    if arguments.get("data_path"):
        arguments = {**arguments, "data_path": tmp_path / "image"}

    stub.answers.extend(answers(bodies))
    with frozen_sdk_clock(monkeypatch):
        theirs = ask_sdk(stub, operation, arguments)
    stub.recorded.clear()
    stub.answers.extend(answers(bodies))
    ours = await ask_ours(stub, operation, arguments)

    assert [compared(each) for each in ours] == [compared(each) for each in theirs]
    assert len(ours) == len(bodies)
    for recorded in ours:
        verify(recorded)
        path = recorded.target.removeprefix("/v2/public").partition("?")[0]
        assert operation_of(recorded.method, path) == operation


async def test_every_operation_of_the_sdk_is_compared() -> None:
    """Seventeen of seventeen, and our client has no others."""
    sdk = {name for name, _ in inspect.getmembers(MlModelsClient, inspect.isfunction)}
    public = {name for name in sdk if not name.startswith("_")}
    ours = {name for name, _ in inspect.getmembers(MlModelsApi, inspect.isfunction)}
    assert public == {operation for operation, _, _ in CASES}
    assert public == {name for name in ours if not name.startswith("_")}
    assert public == set(OPERATIONS)
    assert len(public) == 17
