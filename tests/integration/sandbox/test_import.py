"""A user's folder beside the generated projects: imported once, trained on, predicted on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.sandbox_process import SandboxProcess, running_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMPORTED = 2
"""The number of the imported project, after the two generated ones."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes: pictures striped across and pictures striped down."""
    root = tmp_path_factory.mktemp("user") / "stripes"
    rng = np.random.default_rng(5)
    for name in ("across", "down"):
        (root / name).mkdir(parents=True)
        for number in range(20):
            _striped(rng, is_down=name == "down").save(root / name / f"{number}.png")
    first, *others = (_striped(rng, is_down=True) for _ in range(4))
    first.save(root / "down" / "clip.gif", save_all=True, append_images=others)
    return root


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("import") / "state"


@pytest.fixture(scope="module")
def sandbox(state: Path, folder: Path) -> Iterator[SandboxProcess]:
    with running_sandbox(state, "--import", str(folder)) as running:
        yield running


def test_a_folder_is_one_more_project_whose_files_stay_where_they_are(
    sandbox: SandboxProcess, folder: Path
) -> None:
    assert len(sandbox.told["projects"]) == 3
    project = sandbox.project(IMPORTED)
    assert project["title"] == "stripes"
    assert {one["name"] for one in project["ontology"]} == {"across", "down"}
    assert {one["type"] for one in project["ontology"]} == {"classificationOption"}
    files = {item["file"] for item in project["data"]}
    assert files == {str(file) for file in folder.glob("*/*")}
    assert {item["split"] for item in project["data"]} == {"train", "heldout"}


@pytest.mark.long
def test_a_model_learns_the_users_classes(sandbox: SandboxProcess) -> None:
    features = sandbox.features("resnet18", IMPORTED)
    model = sandbox.create_model("resnet18", features=list(features))
    mapping = {feature_hash: [name] for name, feature_hash in features.items()}
    training = sandbox.create_training(
        model,
        "resnet18",
        epochs=8,
        featuresMapping={sandbox.project(IMPORTED)["project_uuid"]: mapping},
        labelsUuids=[item["label_uuid"] for item in sandbox.items("train", IMPORTED)],
    )
    assert sandbox.ended(model, training)["status"] == "done"
    body = {"featuresMapping": features, "iterationPolicy": "useAll", "modelUuid": model}
    path = sandbox.attachments_path(IMPORTED)
    told = sandbox.http.post(path, json=body).json()
    attachment = told["projectModel"]["projectModelUuid"]
    right = []
    for item in sandbox.items("heldout", IMPORTED):
        asked = {"confThresh": 0.0, "dataUuid": item["data_uuid"]}
        predict = f"{path}/{attachment}/iterations/{training}/classification/predict"
        frames = sandbox.http.post(predict, json=asked).json()["result"]
        right += _right(item, frames)
    assert sum(right) / len(right) > 0.8


def test_a_folder_is_imported_once_and_stays(
    sandbox: SandboxProcess, state: Path, folder: Path
) -> None:
    before = sandbox.told["projects"]
    sandbox.stop()
    for options in ([], ["--import", str(folder)]):
        with running_sandbox(state, *options) as again:
            assert again.told["projects"] == before


def _right(item: dict[str, Any], frames: dict[str, Any]) -> list[bool]:
    return [
        frames[str(number)]["featureIdChild"] == frame["classification"]
        for number, frame in enumerate(item["truth"]["frames"])
    ]


def _striped(rng: np.random.Generator, *, is_down: bool) -> Image.Image:
    steps = np.arange(64) * rng.uniform(0.6, 1.0) + rng.uniform(0, 6)
    wave = np.tile(np.sin(steps) * 60, (64, 1))
    levels = (wave if is_down else wave.T)[..., None] + rng.uniform(80, 170, 3)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))
