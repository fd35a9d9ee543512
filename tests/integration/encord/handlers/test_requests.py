"""Every parameter of a command reaches the API: each with a value that is not its default."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import pytest

from tests.integration.worker_bench import Bench, open_bench
from tests.stub_api import reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.sandbox_process import SandboxProcess
    from tests.stub_api import StubApi
    from worker.queue.ledger.ledger import Ledger

PROJECT, ATTACHMENT, TRAINING, MODEL, DATA = (str(uuid4()) for _ in range(5))
ATTACHED = f"projects/{PROJECT}/models-attachments/{ATTACHMENT}"
ITEM: dict[str, Any] = {
    "project_uuid": PROJECT,
    "project_model_uuid": ATTACHMENT,
    "training_uuid": TRAINING,
    "data_uuid": DATA,
    "frame_range_from": 2,
    "frame_range_to": 5,
    "conf_thresh": 0.7,
}
SENT_ITEM = {"dataUuid": DATA, "frameRangeFrom": 2, "frameRangeTo": 5, "confThresh": 0.7}
BOXES = {"iou_thresh": 0.4, "allocation_enabled": True}
SENT_BOXES = {"iouThresh": 0.4, "allocationEnabled": True}
CHOICE = {
    "features_mapping": {"car": "hash"},
    "iteration_policy": "manualSelection",
    "training_uuids": [TRAINING],
}
SENT_CHOICE = {
    "featuresMapping": {"car": "hash"},
    "iterationPolicy": "manualSelection",
    "trainingUuids": [TRAINING],
}


@pytest.fixture
async def bench(
    redis: Redis, ledger: Ledger, sandbox: SandboxProcess, stub: StubApi, tmp_path: Path
) -> AsyncIterator[Bench]:
    """The bench on an API that records what it is asked."""
    async with open_bench(redis, ledger, sandbox, tmp_path, domain=stub.url) as opened:
        yield opened


@pytest.mark.parametrize(
    ("command_type", "data", "path", "sent"),
    [
        (
            "predict",
            {"task": "classification", **ITEM},
            f"{ATTACHED}/iterations/{TRAINING}/classification/predict",
            SENT_ITEM,
        ),
        (
            "predict",
            {"task": "object_detection", **ITEM, **BOXES},
            f"{ATTACHED}/iterations/{TRAINING}/object-detection/predict",
            SENT_ITEM | SENT_BOXES,
        ),
        (
            "predict",
            {"task": "instance_segmentation", **ITEM, **BOXES, "rdp_thresh": 0.01},
            f"{ATTACHED}/iterations/{TRAINING}/instance-segmentation/predict",
            SENT_ITEM | SENT_BOXES | {"rdpThresh": 0.01},
        ),
        (
            "update_model",
            {"model_uuid": MODEL, "title": "another", "description": "told"},
            f"ml-models/{MODEL}",
            {"title": "another", "description": "told"},
        ),
        (
            "update_attachment",
            {"project_uuid": PROJECT, "project_model_uuid": ATTACHMENT, **CHOICE},
            ATTACHED,
            SENT_CHOICE,
        ),
        (
            "attach",
            {"project_uuid": PROJECT, "model_uuid": MODEL, **CHOICE},
            f"projects/{PROJECT}/models-attachments",
            {"modelUuid": MODEL, **SENT_CHOICE},
        ),
        (
            "create_model",
            {"features": ["b", "a"], "model": "resnet34", "title": "t", "description": "d"},
            "ml-models",
            {"features": ["b", "a"], "model": "resnet34", "title": "t", "description": "d"},
        ),
        (
            "list_models",
            {"order_by": "title", "order_asc": True, "query": "x y"},
            "ml-models",
            {"orderBy": "title", "orderAsc": "True", "query": "x y"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
async def test_every_parameter_reaches_the_api(
    bench: Bench,
    stub: StubApi,
    command_type: str,
    data: dict[str, Any],
    path: str,
    sent: dict[str, Any],
) -> None:
    stub.default = reply(200, b'{"results": [], "nextPageToken": null}')
    await bench.attempt(await bench.send(command_type, data))
    last = stub.recorded[-1]
    asked = urlsplit(last.target)
    assert asked.path == f"/v2/public/{path}"
    assert (json.loads(last.body) if last.body else dict(parse_qsl(asked.query))) == sent
