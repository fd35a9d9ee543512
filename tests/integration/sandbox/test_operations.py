"""Each operation of the sandbox as api.md has it, over real HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sandbox_process import SIMULATED, SandboxProcess

MODELS = "/v2/public/ml-models"


@pytest.fixture(scope="module")
def sandbox(sandbox: SandboxProcess) -> SandboxProcess:
    """The sandbox, whose trainings end at once."""
    sandbox.faults(SIMULATED)
    return sandbox


@pytest.fixture
def trained(sandbox: SandboxProcess) -> tuple[str, str]:
    """A model and a training of it that is done."""
    model = sandbox.create_model()
    training = sandbox.create_training(model)
    assert sandbox.status(model, training, 10)["status"] == "done"
    return model, training


def test_a_created_model_is_told_with_its_type_and_no_iterations(sandbox: SandboxProcess) -> None:
    body = {"features": ["a", "b"], "model": "maskRcnn", "title": "t"}
    told = sandbox.http.post(MODELS, json=body).json()
    group = told["modelGroup"]
    assert datetime.fromisoformat(group.pop("createdAt")).tzinfo is not None
    assert UUID(group.pop("modelUuid"))
    assert group == {
        "description": "",
        "features": ["a", "b"],
        "model": "maskRcnn",
        "title": "t",
        "type": "segmentation",
    }
    assert told["modelIterations"] == []


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("fasterRcnn", "objectDetection"),
        ("maskRcnn", "segmentation"),
        ("resnet152", "classification"),
        ("vgg16", "classification"),
    ],
)
def test_the_architecture_decides_the_type(
    sandbox: SandboxProcess, architecture: str, kind: str
) -> None:
    body = {"features": ["a"], "model": architecture, "title": "t", "description": "d"}
    group = sandbox.http.post(MODELS, json=body).json()["modelGroup"]
    assert group["type"] == kind
    assert group["description"] == "d"


def test_an_update_changes_only_what_it_names(sandbox: SandboxProcess) -> None:
    model = sandbox.create_model(title="old", description="said")
    changed = sandbox.http.patch(f"{MODELS}/{model}", json={"title": "new"}).json()
    assert changed["modelGroup"]["title"] == "new"
    assert changed["modelGroup"]["description"] == "said"
    assert sandbox.http.get(f"{MODELS}/{model}").json() == changed


def test_a_deleted_model_is_gone_with_its_trainings(
    sandbox: SandboxProcess, trained: tuple[str, str]
) -> None:
    model, training = trained
    attachment = sandbox.attach(model)
    reply = sandbox.http.delete(f"{MODELS}/{model}")
    assert (reply.status_code, reply.content) == (204, b"")
    assert sandbox.http.get(f"{MODELS}/{model}").status_code == 404
    path = f"{MODELS}/{model}/iterations/{training}/training"
    assert sandbox.http.get(path).status_code == 404
    assert attachment not in _attachments(sandbox)


def test_lists_come_in_pages_in_the_asked_order(sandbox: SandboxProcess) -> None:
    mark = uuid4().hex
    titles = [f"{number:02} {mark}" for number in range(45)]
    for title in reversed(titles):
        sandbox.create_model("resnet18", title)
    by_title = _models(sandbox, orderBy="title", orderAsc="True", query=mark.upper())
    assert by_title == titles
    by_time = _models(sandbox, orderBy="createdAt", orderAsc="False", query=mark)
    assert by_time == titles


def test_a_page_that_is_just_full_is_the_last_and_one_title_goes_over_several(
    sandbox: SandboxProcess,
) -> None:
    title = uuid4().hex
    for _ in range(20):
        sandbox.create_model("resnet18", title)
    page = sandbox.http.get(MODELS, params={"query": title}).json()
    assert (len(page["results"]), page["nextPageToken"]) == (20, None)
    for _ in range(5):
        sandbox.create_model("resnet18", title)
    for ascending in ("True", "False"):
        found = _models(sandbox, orderBy="title", orderAsc=ascending, query=title)
        assert found == [title] * 25


def test_a_page_token_has_to_be_quoted(sandbox: SandboxProcess) -> None:
    for _ in range(21):
        sandbox.create_model("resnet18")
    token = sandbox.http.get(MODELS).json()["nextPageToken"]
    assert set(token) & set("+/=&%")
    assert sandbox.http.get(MODELS, params={"pageToken": token}).status_code == 200
    assert sandbox.http.get(f"{MODELS}?pageToken={token}").status_code == 422


def test_a_training_goes_from_pending_to_done(sandbox: SandboxProcess) -> None:
    sandbox.faults({**SIMULATED, "seconds": 1})
    model = sandbox.create_model()
    training = sandbox.create_training(model, epochs=3)
    sandbox.faults(SIMULATED)
    assert sandbox.status(model, training) == {"status": "pending", "result": None}
    told = sandbox.status(model, training, 10)
    assert told["status"] == "done"
    assert told["result"].pop("createdAt")
    assert told["result"] == {
        "batchSize": 8,
        "duration": 1,
        "epochs": 3,
        "lossLog": {},
        "trainingUuid": training,
    }


def test_only_finished_trainings_stand_in_a_models_iterations(sandbox: SandboxProcess) -> None:
    model = sandbox.create_model()
    sandbox.faults({**SIMULATED, "training": "stalled"})
    sandbox.create_training(model)
    sandbox.faults({**SIMULATED, "training": "failing"})
    failing = sandbox.create_training(model)
    sandbox.faults(SIMULATED)
    done = sandbox.create_training(model)
    assert sandbox.status(model, failing, 10) == {"status": "error", "result": None}
    assert sandbox.status(model, done, 10)["status"] == "done"
    iterations = sandbox.http.get(f"{MODELS}/{model}").json()["modelIterations"]
    assert [one["trainingUuid"] for one in iterations] == [done]


def test_training_data_tells_every_label_once(sandbox: SandboxProcess) -> None:
    items = sandbox.items()[:30]
    labels = [item["label_uuid"] for item in items]
    model = sandbox.create_model()
    training = sandbox.create_training(model, labelsUuids=[*labels, labels[0]])
    found = _pages(sandbox, f"{MODELS}/{model}/iterations/{training}/training-data")
    assert [one["labelUuid"] for one in found] == labels
    assert [one["dataUuid"] for one in found] == [item["data_uuid"] for item in items]
    project = sandbox.project()
    assert {one["projectUuid"] for one in found} == {project["project_uuid"]}
    assert {one["projectTitle"] for one in found} == {project["title"]}
    assert {one["itemType"] for one in found} <= {"image", "imageGroup", "video"}
    assert all(one["fileTitle"] and one["datasetTitle"] for one in found)
    assert all(UUID(one["datasetUuid"]) for one in found)


def test_a_simulated_training_has_no_weights(
    sandbox: SandboxProcess, trained: tuple[str, str]
) -> None:
    model, training = trained
    reply = sandbox.http.get(f"{MODELS}/{model}/iterations/{training}/weights-link")
    assert reply.status_code == 409
    assert "simulated" in reply.json()["message"]


def test_a_finished_training_can_be_deleted(
    sandbox: SandboxProcess, trained: tuple[str, str]
) -> None:
    model, training = trained
    assert sandbox.http.delete(f"{MODELS}/{model}/iterations/{training}").status_code == 204
    assert sandbox.http.get(f"{MODELS}/{model}").json()["modelIterations"] == []
    assert sandbox.http.delete(f"{MODELS}/{model}/iterations/{training}").status_code == 404


def test_a_running_training_can_not_be_deleted(sandbox: SandboxProcess) -> None:
    sandbox.faults({**SIMULATED, "training": "stalled"})
    model = sandbox.create_model()
    training = sandbox.create_training(model)
    sandbox.faults(SIMULATED)
    assert sandbox.http.delete(f"{MODELS}/{model}/iterations/{training}").status_code == 409


def test_an_attachment_tells_the_ontologys_side_of_its_features(
    sandbox: SandboxProcess, trained: tuple[str, str]
) -> None:
    model, training = trained
    features = sandbox.features("fasterRcnn", project=1)
    ours = list(sandbox.features("fasterRcnn"))
    body = {
        "featuresMapping": dict(zip(ours, features.values(), strict=True)),
        "iterationPolicy": "useLatest",
        "modelUuid": model,
    }
    told = sandbox.http.post(sandbox.attachments_path(1), json=body).json()
    mapped = told["projectModel"]["featuresMapping"]
    assert {name: one["featureNodeUuid"] for name, one in mapped.items()} == body["featuresMapping"]
    assert [one["name"] for one in mapped.values()] == list(features)
    assert {one["type"] for one in mapped.values()} == {"boundingBox"}
    assert all(one["color"].startswith("#") for one in mapped.values())
    assert told["projectModel"]["projectUuid"] == sandbox.project(1)["project_uuid"]
    assert told["modelGroup"]["modelUuid"] == model
    assert [one["trainingUuid"] for one in told["projectModelIterations"]] == [training]


def test_the_policy_decides_which_iterations_an_attachment_offers(sandbox: SandboxProcess) -> None:
    model = sandbox.create_model()
    trainings = [sandbox.create_training(model) for _ in range(3)]
    for training in trainings:
        assert sandbox.status(model, training, 10)["status"] == "done"
    attachment = sandbox.attach(model)
    path = f"{sandbox.attachments_path()}/{attachment}"
    mapping = sandbox.features("fasterRcnn")

    def offered(policy: str, selected: list[str] | None = None) -> list[str]:
        body = {"featuresMapping": mapping, "iterationPolicy": policy}
        if selected is not None:
            body["trainingUuids"] = selected
        told = sandbox.http.patch(path, json=body).json()
        return [one["trainingUuid"] for one in told["projectModelIterations"]]

    assert offered("useAll") == trainings
    assert offered("useLatest") == trainings[-1:]
    assert offered("manualSelection", [trainings[1]]) == [trainings[1]]


def test_a_model_may_be_attached_to_a_project_twice(
    sandbox: SandboxProcess, trained: tuple[str, str]
) -> None:
    model, _ = trained
    first, second = sandbox.attach(model), sandbox.attach(model)
    assert first != second
    assert {first, second} <= set(_attachments(sandbox))


def test_a_deleted_attachment_is_gone(sandbox: SandboxProcess, trained: tuple[str, str]) -> None:
    attachment = sandbox.attach(trained[0])
    path = f"{sandbox.attachments_path()}/{attachment}"
    assert sandbox.http.delete(path).status_code == 204
    assert sandbox.http.delete(path).status_code == 404
    assert attachment not in _attachments(sandbox)


def test_a_method_that_a_path_lacks_is_a_405(sandbox: SandboxProcess) -> None:
    reply = sandbox.http.put(MODELS, json={})
    assert reply.status_code == 405
    assert set(reply.headers["allow"].split(", ")) >= {"GET", "POST"}
    assert reply.json()["message"]


def test_an_unknown_path_is_a_404_with_a_message(sandbox: SandboxProcess) -> None:
    reply = sandbox.http.get("/v2/public/nothing")
    assert (reply.status_code, reply.json()) == (404, {"message": "Not Found"})


def test_a_trailing_slash_is_not_redirected(sandbox: SandboxProcess) -> None:
    assert sandbox.http.get(f"{MODELS}/").status_code == 404


def _pages(sandbox: SandboxProcess, path: str, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = sandbox.http.get(path, params=query).json()
        found += page["results"]
        assert len(page["results"]) <= 20
        if page["nextPageToken"] is None:
            return found
        query["pageToken"] = page["nextPageToken"]


def _models(sandbox: SandboxProcess, **query: str) -> list[str]:
    return [one["modelGroup"]["title"] for one in _pages(sandbox, MODELS, **query)]


def _attachments(sandbox: SandboxProcess) -> list[str]:
    found = _pages(sandbox, sandbox.attachments_path())
    return [one["projectModel"]["projectModelUuid"] for one in found]
