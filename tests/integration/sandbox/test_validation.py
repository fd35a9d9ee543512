"""What the sandbox refuses, with which status, and where the answer says the problem is."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.sandbox_process import SIMULATED, SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = "/v2/public/ml-models"


@pytest.fixture(scope="module")
def sandbox(sandbox: SandboxProcess) -> SandboxProcess:
    """The sandbox, whose trainings end at once."""
    sandbox.faults(SIMULATED)
    return sandbox


@pytest.fixture(scope="module")
def model(sandbox: SandboxProcess) -> str:
    return sandbox.create_model()


@pytest.fixture(scope="module")
def other_model(sandbox: SandboxProcess) -> str:
    return sandbox.create_model()


def test_every_problem_of_a_body_is_told_as_fastapi_does(sandbox: SandboxProcess) -> None:
    body = {"features": "a", "model": "resnet9", "extra": 1, "description": None}
    reply = sandbox.http.post(MODELS, json=body)
    assert reply.status_code == 422
    details = reply.json()["detail"]
    assert all(set(detail) == {"loc", "msg", "type"} for detail in details)
    assert sorted(tuple(detail["loc"]) for detail in details) == [
        ("body", "extra"),
        ("body", "features"),
        ("body", "model"),
        ("body", "title"),
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"features": []}, "features"),
        ({"features": ["a", " "]}, "features"),
        ({"features": ["a", "a"]}, "features"),
        ({"features": [1]}, "features"),
        ({"title": "  "}, "title"),
        ({"title": "x" * 1001}, "title"),
        ({"title": 7}, "title"),
    ],
)
def test_a_bad_model_is_a_422(
    sandbox: SandboxProcess, change: dict[str, object], problem: str
) -> None:
    body = {"features": ["a"], "model": "resnet18", "title": "t", **change}
    _assert_422(sandbox.http.post(MODELS, json=body), "body", problem)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_a_body_that_is_no_json_object_is_a_422(sandbox: SandboxProcess, text: bytes) -> None:
    reply = sandbox.http.post(MODELS, content=text)
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body"]


def test_snake_case_keys_are_not_the_wire_format(sandbox: SandboxProcess, model: str) -> None:
    body = sandbox.training_body()
    body["batch_size"] = body.pop("batchSize")
    _assert_422(sandbox.http.post(f"{MODELS}/{model}/trainings", json=body), "body", "batch_size")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"labelsUuids": []}, "labelsUuids"),
        ({"featuresMapping": {}}, "featuresMapping"),
        ({"batchSize": 0}, "batchSize"),
        ({"batchSize": 1.5}, "batchSize"),
        ({"batchSize": "8"}, "batchSize"),
        ({"batchSize": True}, "batchSize"),
        ({"epochs": 0}, "epochs"),
        ({"pretrainedWeightsType": "resnet50"}, "pretrainedWeightsType"),
        ({"labelsUuids": ["x"]}, "labelsUuids"),
    ],
)
def test_a_bad_training_is_a_422(
    sandbox: SandboxProcess, model: str, change: dict[str, Any], problem: str
) -> None:
    body = sandbox.training_body(**change)
    _assert_422(sandbox.http.post(f"{MODELS}/{model}/trainings", json=body), "body", problem)


def _unknown_project(sandbox: SandboxProcess) -> dict[str, Any]:
    mapping = {str(uuid4()): {"x": ["circle"]}}
    return sandbox.training_body(featuresMapping=mapping)


def _unknown_feature(sandbox: SandboxProcess) -> dict[str, Any]:
    mapping = {sandbox.project()["project_uuid"]: {"nosuch": ["circle"]}}
    return sandbox.training_body(featuresMapping=mapping)


def _feature_of_another_type(sandbox: SandboxProcess) -> dict[str, Any]:
    outlined = next(iter(sandbox.features("maskRcnn").values()))
    mapping = {sandbox.project()["project_uuid"]: {outlined: ["circle"]}}
    return sandbox.training_body(featuresMapping=mapping)


def _feature_that_the_model_lacks(sandbox: SandboxProcess) -> dict[str, Any]:
    boxed = next(iter(sandbox.features("fasterRcnn").values()))
    mapping = {sandbox.project()["project_uuid"]: {boxed: ["giraffe"]}}
    return sandbox.training_body(featuresMapping=mapping)


def _unknown_label(sandbox: SandboxProcess) -> dict[str, Any]:
    return sandbox.training_body(labelsUuids=[str(uuid4())])


def _label_of_another_project(sandbox: SandboxProcess) -> dict[str, Any]:
    return sandbox.training_body(labelsUuids=[sandbox.items(project=1)[0]["label_uuid"]])


def _label_without_the_features(sandbox: SandboxProcess) -> dict[str, Any]:
    feature, label = _missing_feature(sandbox)
    mapping = {sandbox.project()["project_uuid"]: {feature: ["circle"]}}
    return sandbox.training_body(featuresMapping=mapping, labelsUuids=[label])


def _weights_of_another_family(sandbox: SandboxProcess) -> dict[str, Any]:
    return sandbox.training_body(pretrainedWeightsType="maskRcnnR50C41X")


def _both_pretrained(sandbox: SandboxProcess) -> dict[str, Any]:
    return sandbox.training_body(
        pretrainedWeightsType="fasterRcnnR50C41X", pretrainedTrainingUuid=str(uuid4())
    )


def _unknown_pretrained_training(sandbox: SandboxProcess) -> dict[str, Any]:
    return sandbox.training_body(pretrainedTrainingUuid=str(uuid4()))


@pytest.mark.parametrize(
    ("build", "part"),
    [
        (_unknown_project, "there is no project"),
        (_unknown_feature, "has no feature nosuch"),
        (_feature_of_another_type, "needs boundingBox"),
        (_feature_that_the_model_lacks, "giraffe"),
        (_unknown_label, "not found"),
        (_label_of_another_project, "of a project that featuresMapping lacks"),
        (_label_without_the_features, "without any feature"),
        (_weights_of_another_family, "does not fit a model of fasterRcnn"),
        (_both_pretrained, "not both"),
        (_unknown_pretrained_training, "is not a training of model"),
    ],
)
def test_a_training_that_does_not_fit_is_a_400(
    sandbox: SandboxProcess,
    model: str,
    build: Callable[[SandboxProcess], dict[str, Any]],
    part: str,
) -> None:
    reply = sandbox.http.post(f"{MODELS}/{model}/trainings", json=build(sandbox))
    assert reply.status_code == 400
    assert part in reply.json()["message"]


def test_a_label_without_the_features_is_background_beside_one_that_has_them(
    sandbox: SandboxProcess, model: str
) -> None:
    feature, without = _missing_feature(sandbox)
    mapping = {sandbox.project()["project_uuid"]: {feature: ["circle"]}}
    having = next(item["label_uuid"] for item in sandbox.items() if feature in str(item["truth"]))
    for labels, code in (([without, having], 200), ([having, without], 200), ([without], 400)):
        body = sandbox.training_body(featuresMapping=mapping, labelsUuids=labels)
        reply = sandbox.http.post(f"{MODELS}/{model}/trainings", json=body)
        assert reply.status_code == code, reply.text


def test_a_warm_start_from_another_model_is_a_400(
    sandbox: SandboxProcess, model: str, other_model: str
) -> None:
    earlier = sandbox.create_training(other_model)
    body = sandbox.training_body(pretrainedTrainingUuid=earlier)
    reply = sandbox.http.post(f"{MODELS}/{model}/trainings", json=body)
    assert reply.status_code == 400
    assert "is not a training of model" in reply.json()["message"]


def test_weights_of_the_models_family_are_taken(sandbox: SandboxProcess, model: str) -> None:
    body = sandbox.training_body(pretrainedWeightsType="fasterRcnnX10132X8DFpn3X")
    assert sandbox.http.post(f"{MODELS}/{model}/trainings", json=body).status_code == 200


def test_a_classification_model_has_no_pretrained_weights(sandbox: SandboxProcess) -> None:
    model = sandbox.create_model("resnet18")
    body = sandbox.training_body("resnet18", pretrainedWeightsType="fasterRcnnR50C41X")
    assert sandbox.http.post(f"{MODELS}/{model}/trainings", json=body).status_code == 400


@pytest.mark.parametrize("timeout", ["61", "-1", "x", "1.5", ""])
def test_a_long_poll_lasts_60_seconds_at_most(
    sandbox: SandboxProcess, model: str, timeout: str
) -> None:
    training = sandbox.create_training(model)
    path = f"{MODELS}/{model}/iterations/{training}/training"
    reply = sandbox.http.get(path, params={"timeoutSeconds": timeout})
    _assert_422(reply, "query", "timeoutSeconds")


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"orderBy": "size"}, "orderBy"),
        ({"orderAsc": "maybe"}, "orderAsc"),
        ({"pageToken": "x"}, "pageToken"),
        ({"pageToken": "WzEsMiwzXQ=="}, "pageToken"),
    ],
)
def test_a_bad_query_is_a_422(sandbox: SandboxProcess, query: dict[str, str], problem: str) -> None:
    _assert_422(sandbox.http.get(MODELS, params=query), "query", problem)


@pytest.mark.parametrize("tail", ["training", "training-data", "weights-link"])
def test_an_unknown_training_is_a_404(
    sandbox: SandboxProcess, model: str, other_model: str, tail: str
) -> None:
    theirs = sandbox.create_training(other_model)
    for training in (str(uuid4()), theirs):
        reply = sandbox.http.get(f"{MODELS}/{model}/iterations/{training}/{tail}")
        assert reply.status_code == 404, reply.text
        assert training in reply.json()["message"]


def test_a_path_with_no_uuid_is_a_422(sandbox: SandboxProcess) -> None:
    _assert_422(sandbox.http.get(f"{MODELS}/none"), "path", "modelUuid")


def test_weights_of_a_training_that_is_not_done_are_a_409(
    sandbox: SandboxProcess, model: str
) -> None:
    sandbox.faults({**SIMULATED, "training": "stalled"})
    training = sandbox.create_training(model)
    sandbox.faults(SIMULATED)
    reply = sandbox.http.get(f"{MODELS}/{model}/iterations/{training}/weights-link")
    assert (reply.status_code, reply.json()["message"]) == (
        409,
        f"training {training} is not done",
    )
    body = sandbox.training_body(pretrainedTrainingUuid=training)
    assert sandbox.http.post(f"{MODELS}/{model}/trainings", json=body).status_code == 409


@pytest.mark.parametrize(
    ("change", "status", "part"),
    [
        ({"iterationPolicy": "manualSelection"}, 400, "needs at least one training"),
        (
            {"iterationPolicy": "manualSelection", "trainingUuids": []},
            400,
            "needs at least one training",
        ),
        ({"trainingUuids": [str(uuid4())]}, 400, "has no finished training"),
        ({"modelUuid": str(uuid4())}, 404, "there is no model"),
        ({"featuresMapping": {"giraffe": "x"}}, 400, "giraffe"),
        ({"featuresMapping": {"circle": "x"}}, 400, "has no feature x"),
        ({"featuresMapping": {}}, 422, "at least one feature"),
        ({"iterationPolicy": "useNone"}, 422, "useLatest"),
        ({"extra": 1}, 422, "Extra inputs"),
    ],
)
def test_an_attachment_that_does_not_fit_is_refused(
    sandbox: SandboxProcess, model: str, change: dict[str, object], status: int, part: str
) -> None:
    body = {
        "featuresMapping": sandbox.features("fasterRcnn"),
        "iterationPolicy": "useAll",
        "modelUuid": model,
        **change,
    }
    reply = sandbox.http.post(sandbox.attachments_path(), json=body)
    assert reply.status_code == status
    assert part in reply.text


def test_an_ontology_feature_of_another_type_can_not_be_attached(
    sandbox: SandboxProcess, model: str
) -> None:
    outlined = next(iter(sandbox.features("maskRcnn").values()))
    body = {
        "featuresMapping": {"circle": outlined},
        "iterationPolicy": "useAll",
        "modelUuid": model,
    }
    reply = sandbox.http.post(sandbox.attachments_path(), json=body)
    assert (reply.status_code, "needs boundingBox" in reply.text) == (400, True)


def test_an_unknown_project_or_attachment_is_a_404(sandbox: SandboxProcess) -> None:
    unknown = f"/v2/public/projects/{uuid4()}/models-attachments"
    assert sandbox.http.get(unknown).status_code == 404
    path = f"{sandbox.attachments_path()}/{uuid4()}"
    assert sandbox.http.delete(path).status_code == 404


PICTURE = base64.b64encode(b"GIF89a").decode()


@pytest.mark.parametrize(
    ("change", "status", "part"),
    [
        ({}, 400, "give one of dataUuid and dataBase64"),
        ({"dataUuid": str(uuid4()), "dataBase64": PICTURE}, 400, "give one of"),
        ({"dataBase64": PICTURE, "confThresh": 1.1}, 422, "confThresh"),
        ({"dataBase64": PICTURE, "confThresh": -0.1}, 422, "confThresh"),
        ({"dataBase64": PICTURE, "iouThresh": 2}, 422, "iouThresh"),
        ({"dataBase64": PICTURE, "rdpThresh": 0.02}, 422, "rdpThresh"),
        ({"dataBase64": PICTURE, "frameRangeFrom": -1}, 422, "frameRangeFrom"),
        ({"dataBase64": PICTURE, "allocationEnabled": "yes"}, 422, "allocationEnabled"),
        ({"dataBase64": PICTURE, "dataPath": "x"}, 422, "Extra inputs"),
    ],
)
def test_a_bad_prediction_is_refused_before_its_training_is_looked_for(
    sandbox: SandboxProcess, change: dict[str, object], status: int, part: str
) -> None:
    body = {"allocationEnabled": False, "confThresh": 0.6, "iouThresh": 0.3, **change}
    path = f"{sandbox.attachments_path()}/{uuid4()}/iterations/{uuid4()}"
    reply = sandbox.http.post(f"{path}/instance-segmentation/predict", json=body)
    assert reply.status_code == status, reply.text
    assert part in reply.text


def test_a_model_of_another_type_can_not_be_asked_for_a_task(
    sandbox: SandboxProcess, model: str
) -> None:
    attachment = sandbox.attach(model)
    training = sandbox.create_training(model)
    path = f"{sandbox.attachments_path()}/{attachment}/iterations/{training}"
    body = {"confThresh": 0.6, "dataBase64": PICTURE}
    reply = sandbox.http.post(f"{path}/classification/predict", json=body)
    assert reply.status_code == 400
    assert "objectDetection" in reply.json()["message"]


def test_a_body_over_the_limit_is_a_413(sandbox: SandboxProcess) -> None:
    reply = sandbox.http.post(MODELS, content=b" " * (64 * 1024 * 1024 + 1))
    assert reply.status_code == 413
    assert reply.json()["message"]


def _missing_feature(sandbox: SandboxProcess) -> tuple[str, str]:
    """Returns a boxed feature and the label of an item that does not show it."""
    for feature in sandbox.features("fasterRcnn").values():
        for item in sandbox.items():
            frames = item["truth"]["frames"]
            shown = {one["featureHash"] for frame in frames for one in frame["objects"]}
            if feature not in shown:
                return feature, str(item["label_uuid"])
    message = "every item shows every feature"
    raise AssertionError(message)


def _assert_422(reply: Any, *place: str) -> None:
    assert reply.status_code == 422, reply.text
    details = reply.json()["detail"]
    assert any(detail["loc"][: len(place)] == list(place) for detail in details), details
