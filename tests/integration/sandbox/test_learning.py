"""Nets really learn: through the API, from two projects at once, scored on what is held out."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo.scores import Scored, accuracy, box_map50, mask_map50
from tests.sandbox_process import FEATURE_TYPES, SIMULATED, SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MODELS = "/v2/public/ml-models"


@dataclass(frozen=True, slots=True)
class Task:
    """A model and what its short training has to reach; far more than guessing does."""

    path: str
    epochs: int
    score: Callable[[Sequence[Scored], Mapping[str, str]], float]
    least: float


TASKS = {
    # A third would be right by guessing.
    "resnet18": Task("classification", 8, accuracy, 0.5),
    # Guessed boxes and outlines score next to nothing.
    "fasterRcnn": Task("object-detection", 10, box_map50, 0.3),
    "maskRcnn": Task("instance-segmentation", 9, mask_map50, 0.25),
}


class Trainings(dict[str, tuple[str, str]]):
    """Model and training for each architecture, begun when a test first asks for it."""

    def __init__(self, sandbox: SandboxProcess) -> None:
        super().__init__()
        self._sandbox = sandbox

    def __missing__(self, architecture: str) -> tuple[str, str]:
        sandbox = self._sandbox
        model = sandbox.create_model(architecture)
        body = _both_projects(sandbox, architecture)
        epochs = TASKS[architecture].epochs
        training = sandbox.create_training(model, architecture, epochs=epochs, **body)
        self[architecture] = (model, training)
        return self[architecture]


@pytest.fixture(scope="module")
def trainings(sandbox: SandboxProcess) -> dict[str, tuple[str, str]]:
    """What was trained; of the three only boxes are learned without `-m long`."""
    return Trainings(sandbox)


@pytest.mark.parametrize(
    "architecture",
    [
        "fasterRcnn",
        pytest.param("resnet18", marks=pytest.mark.long),
        pytest.param("maskRcnn", marks=pytest.mark.long),
    ],
)
def test_the_loss_falls_and_the_held_out_score_is_far_above_chance(
    sandbox: SandboxProcess, trainings: dict[str, tuple[str, str]], architecture: str
) -> None:
    task = TASKS[architecture]
    model, training = trainings[architecture]
    told = sandbox.ended(model, training)
    assert told["status"] == "done"
    losses = _losses(told)
    assert len(losses) == task.epochs
    assert losses[-1] < 0.8 * losses[0]
    assert all(loss > 0 for loss in losses)
    assert _score(sandbox, architecture, model, training) > task.least


@pytest.mark.long
def test_a_second_training_goes_on_where_the_first_ended(
    sandbox: SandboxProcess, trainings: dict[str, tuple[str, str]]
) -> None:
    model, first = trainings["resnet18"]
    cold = _losses(sandbox.ended(model, first))
    body = _both_projects(sandbox, "resnet18", pretrainedTrainingUuid=first)
    second = sandbox.create_training(model, "resnet18", epochs=1, **body)
    (warm,) = _losses(sandbox.ended(model, second))
    assert warm < 0.8 * cold[0]


def test_thresholds_ranges_and_sources_do_what_they_say(
    sandbox: SandboxProcess, trainings: dict[str, tuple[str, str]]
) -> None:
    predict = _predicting(sandbox, "fasterRcnn", *trainings["fasterRcnn"])
    clip = next(item for item in sandbox.items("heldout") if item["file"].endswith(".gif"))
    whole = predict(dataUuid=clip["data_uuid"], confThresh=0.05)
    assert list(whole) == [str(number) for number in range(clip["frames"])]
    part = predict(dataUuid=clip["data_uuid"], frameRangeFrom=2, frameRangeTo=3, confThresh=0.05)
    assert {number: _boxes(part[number]) for number in part} == {
        number: _boxes(whole[number]) for number in ("2", "3")
    }
    data = base64.b64encode(Path(clip["file"]).read_bytes()).decode()
    sent = predict(dataBase64=data, confThresh=0.05)
    assert [_boxes(frame) for frame in sent.values()] == [_boxes(frame) for frame in whole.values()]
    for conf in (0.3, 0.6):
        surer = predict(dataUuid=clip["data_uuid"], confThresh=conf)
        for number, frame in surer.items():
            wanted = [one for one in whole[number] if one["confidence"] >= conf]
            assert _boxes(frame) == _boxes(wanted)
    loose = predict(dataUuid=clip["data_uuid"], confThresh=0.05, iouThresh=0.9)
    assert _count(loose) > _count(whole)


def test_an_object_keeps_its_id_over_frames_only_if_that_is_asked_for(
    sandbox: SandboxProcess, trainings: dict[str, tuple[str, str]]
) -> None:
    predict = _predicting(sandbox, "fasterRcnn", *trainings["fasterRcnn"])
    for item in sandbox.items("heldout"):
        if item["frames"] == 1:
            continue
        tracked = predict(dataUuid=item["data_uuid"], confThresh=0.2, allocationEnabled=True)
        apart = predict(dataUuid=item["data_uuid"], confThresh=0.2)
        assert _count(tracked) == _count(apart) == len(_ids(apart))
        for frame in tracked.values():
            assert len({one["objectId"] for one in frame}) == len(frame)
        # Whoever is found in two frames has one id: there are fewer ids than things.
        assert len(_ids(tracked)) < _count(tracked)


@pytest.mark.parametrize(
    ("first", "last"), [(0, 6), (6, 6), (3, 2), (6, None), (None, 99)], ids=str
)
def test_a_range_outside_the_item_is_a_400(
    sandbox: SandboxProcess,
    trainings: dict[str, tuple[str, str]],
    first: int | None,
    last: int | None,
) -> None:
    model, training = trainings["fasterRcnn"]
    clip = next(item for item in sandbox.items("heldout") if item["frames"] == 6)
    attachment = sandbox.attach(model, "fasterRcnn")
    asked: dict[str, Any] = {"confThresh": 0.5, "dataUuid": clip["data_uuid"]}
    asked |= {"iouThresh": 0.3, "allocationEnabled": False}
    asked |= {} if first is None else {"frameRangeFrom": first}
    asked |= {} if last is None else {"frameRangeTo": last}
    path = f"{sandbox.attachments_path()}/{attachment}/iterations/{training}"
    reply = sandbox.http.post(f"{path}/object-detection/predict", json=asked)
    assert reply.status_code == 400
    assert "frameRange: frames" in reply.json()["message"]


def _predicting(
    sandbox: SandboxProcess, architecture: str, model: str, training: str
) -> Callable[..., dict[str, Any]]:
    """Returns a call that predicts on items of the first project."""
    attachment = sandbox.attach(model, architecture)
    place = f"{sandbox.attachments_path()}/{attachment}/iterations/{training}"

    def predict(**asked: Any) -> dict[str, Any]:
        body = {"iouThresh": 0.3, "allocationEnabled": False, **asked}
        reply = sandbox.http.post(f"{place}/{TASKS[architecture].path}/predict", json=body)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()["result"]
        return found

    return predict


def _boxes(frame: list[dict[str, Any]]) -> list[tuple[str, float, dict[str, float]]]:
    return [(one["featureId"], one["confidence"], one["boundingBox"]) for one in frame]


def _count(frames: dict[str, Any]) -> int:
    return sum(len(frame) for frame in frames.values())


def _ids(frames: dict[str, Any]) -> set[str]:
    return {one["objectId"] for frame in frames.values() for one in frame}


def test_a_slow_training_really_trains_and_ends_later(sandbox: SandboxProcess) -> None:
    sandbox.faults({**SIMULATED, "training": "slow", "seconds": 3})
    model = sandbox.create_model("resnet18")
    training = sandbox.create_training(model, "resnet18")
    sandbox.faults({"operation": "*", "effect": "running_trainings", "shown": "listed"})
    (running,) = sandbox.http.get(f"{MODELS}/{model}").json()["modelIterations"]
    assert running["trainingUuid"] == training
    told = sandbox.ended(model, training)
    sandbox.faults()
    assert told["result"]["duration"] >= 3
    assert len(_losses(told)) == 1
    link = f"{MODELS}/{model}/iterations/{training}/weights-link"
    assert sandbox.http.get(link).status_code == 200


def _both_projects(sandbox: SandboxProcess, architecture: str, **more: Any) -> dict[str, Any]:
    """Returns a mapping of both ontologies to one model's features, and labels of both."""
    names = list(sandbox.features(architecture))
    mapping, labels = {}, []
    for number in range(2):
        hashes = list(sandbox.features(architecture, number).values())
        mapping[sandbox.project(number)["project_uuid"]] = {
            feature_hash: [name] for feature_hash, name in zip(hashes, names, strict=True)
        }
        shown = [item for item in sandbox.items(project=number) if _shows(item, hashes)]
        # Every other one: pictures, groups and clips.
        labels += [item["label_uuid"] for item in shown[::2]]
    return {"featuresMapping": mapping, "labelsUuids": labels, **more}


def _shows(item: dict[str, Any], hashes: list[str]) -> bool:
    return any(
        frame["classification"] in hashes
        or any(one["featureHash"] in hashes for one in frame["objects"])
        for frame in item["truth"]["frames"]
    )


def _losses(told: dict[str, Any]) -> list[float]:
    log: dict[str, float] = told["result"]["lossLog"]
    assert list(log) == [str(epoch) for epoch in range(1, len(log) + 1)]
    return list(log.values())


def _score(sandbox: SandboxProcess, architecture: str, model: str, training: str) -> float:
    """Returns the score on all held-out items of both projects."""
    task = TASKS[architecture]
    body: dict[str, Any] = {"confThresh": 0.05}
    if architecture != "resnet18":
        body |= {"iouThresh": 0.3, "allocationEnabled": True}
    scored, categories = [], dict[str, str]()
    for number in range(2):
        attachment = sandbox.attach(model, architecture, number)
        path = f"{sandbox.attachments_path(number)}/{attachment}/iterations/{training}"
        names = sandbox.features(architecture)
        hashes = sandbox.features(architecture, number).values()
        categories |= dict(zip(hashes, names, strict=True))
        for item in sandbox.items("heldout", number):
            asked = {**body, "dataUuid": item["data_uuid"]}
            reply = sandbox.http.post(f"{path}/{task.path}/predict", json=asked)
            assert reply.status_code == 200, reply.text
            frames = reply.json()["result"]
            assert len(frames) == item["frames"]
            found = {number: _snake(frame) for number, frame in frames.items()}
            scored.append(Scored(item["truth"]["frames"], found))
    return task.score(scored, categories)


def _snake(found: Any) -> Any:
    """Returns a frame's predictions with the keys that the scores take."""
    if isinstance(found, list):
        return [_snake(one) for one in found]
    renamed = {
        "featureId": "feature_id",
        "featureIdChild": "feature_id_child",
        "boundingBox": "bounding_box",
    }
    return found and {renamed.get(key, key): value for key, value in found.items()}


def test_each_architecture_has_features_in_both_projects(sandbox: SandboxProcess) -> None:
    for architecture in FEATURE_TYPES:
        first, second = (sandbox.features(architecture, number) for number in range(2))
        assert len(first) == len(second) == 3
        assert not set(first.values()) & set(second.values())
