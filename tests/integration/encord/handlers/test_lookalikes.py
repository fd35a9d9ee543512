"""What a command in doubt takes for its own: only what is alike in all that the API tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import orjson

from tests.stub_api import reply
from worker.encord.handlers.attachments import AttachmentCreation
from worker.encord.handlers.models import ModelCreation
from worker.encord.handlers.training import TrainingCreation

if TYPE_CHECKING:
    from tests.integration.worker_bench import Bench
    from tests.stub_api import Answer, StubApi
    from worker.queue.run_context import RunContext

PROJECT, MODEL, OWN = (str(UUID(int=number)) for number in (1, 2, 3))
LABELS: Final = [str(UUID(int=number)) for number in (11, 12)]
AT: Final = "2025-11-25T12:00:00Z"
COLOURLESS: Final = {"featureNodeUuid": "hash", "name": "Car", "type": "boundingBox", "color": None}


async def begun(bench: Bench, command_type: str, data: dict[str, Any]) -> RunContext[Any]:
    return bench.begin(await bench.claim(await bench.send(command_type, data)))


def page(*results: dict[str, Any]) -> Answer:
    return reply(200, orjson.dumps({"results": results}))


def model(uuid: str, **more: Any) -> dict[str, Any]:
    group = {
        "createdAt": AT,
        "description": "",
        "features": ["a", "b"],
        "model": "fasterRcnn",
        "modelUuid": uuid,
        "title": "One",
        "type": "objectDetection",
        **more,
    }
    return {"modelGroup": group, "modelIterations": []}


async def test_a_model_is_told_by_title_architecture_features_and_description(
    stub_bench: Bench, stub: StubApi
) -> None:
    data = {"features": ["a", "b"], "model": "fasterRcnn", "title": "One"}
    run = await begun(stub_bench, "create_model", data)
    others: list[dict[str, Any]] = [
        {"title": "One more"},
        {"model": "yolov5"},
        {"features": ["b", "a"]},
        {"description": "other"},
    ]
    stub.default = page(model(OWN), *(model(str(uuid4()), **each) for each in others))
    assert [each.uuid for each in await ModelCreation().listed(run)] == [OWN]


async def test_an_attachment_is_told_by_model_mapping_and_policy(
    stub_bench: Bench, stub: StubApi
) -> None:
    def attached(uuid: str, **more: Any) -> dict[str, Any]:
        attachment = {
            "createdAt": AT,
            "iterationPolicy": "useLatest",
            "modelUuid": MODEL,
            "projectModelUuid": uuid,
            "projectUuid": PROJECT,
            "featuresMapping": {"car": COLOURLESS},
            **more,
        }
        group = model(MODEL)["modelGroup"]
        return {"modelGroup": group, "projectModel": attachment, "projectModelIterations": []}

    data = {
        "project_uuid": PROJECT,
        "model_uuid": MODEL,
        "features_mapping": {"car": "hash"},
        "iteration_policy": "useLatest",
    }
    run = await begun(stub_bench, "attach", data)
    others: list[dict[str, Any]] = [
        {"modelUuid": str(uuid4())},
        {"iterationPolicy": "useAll"},
        {"featuresMapping": {"car": {**COLOURLESS, "featureNodeUuid": "other"}}},
        {"featuresMapping": {"car": COLOURLESS, "van": COLOURLESS}},
    ]
    stub.default = page(attached(OWN), *(attached(str(uuid4()), **each) for each in others))
    assert [each.uuid for each in await AttachmentCreation().listed(run)] == [OWN]


async def test_a_training_is_told_by_batch_size_epochs_and_labels(
    stub_bench: Bench, stub: StubApi
) -> None:
    def trained(uuid: str, **more: Any) -> dict[str, Any]:
        return {
            "batchSize": 4,
            "createdAt": AT,
            "duration": 60,
            "epochs": 9,
            "lossLog": {},
            "trainingUuid": uuid,
            **more,
        }

    def item(label: str) -> dict[str, Any]:
        named = {name: str(uuid4()) for name in ("dataUuid", "datasetUuid", "projectUuid")}
        titles = {f"{name}Title": name for name in ("dataset", "file", "project")}
        return {**named, **titles, "itemType": "image", "labelUuid": label}

    data = {
        "model_uuid": MODEL,
        "batch_size": 4,
        "epochs": 9,
        "features_mapping": {PROJECT: {"car": ["a"]}},
        "labels_uuids": LABELS,
    }
    run = await begun(stub_bench, "train", data)
    old, fewer, more = (str(uuid4()) for _ in range(3))
    alike = [trained(each) for each in (old, OWN, fewer, more)]
    others = [trained(str(uuid4()), batchSize=5), trained(str(uuid4()), epochs=8)]
    stub.default = reply(200, orjson.dumps(model(MODEL) | {"modelIterations": alike + others}))
    before = [each.uuid for each in await TrainingCreation().listed(run)]
    assert before == [old, OWN, fewer, more]
    run.progress["baseline"] = [old]
    stub.answers.append(stub.default)
    for labels in (LABELS[::-1], LABELS[:1], [*LABELS, str(uuid4())]):
        stub.answers.append(page(*map(item, labels)))
    assert [each.uuid for each in await TrainingCreation().listed(run)] == [OWN]
