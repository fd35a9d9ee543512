"""A mix of all command types, each on things of its own, so that every end is known beforehand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.faults.workload import MISSING, Workload
from tests.sandbox_process import SIMULATED, SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ARCHITECTURE: Final = "resnet18"
TASK: Final = "classification"
_TRAINED_MODELS: Final = 10
_ATTACHMENTS_UPDATED: Final = 10
BACKFILL_ITEMS: Final = 5


@dataclass(frozen=True)
class World:
    """What the commands of a mix name.

    Attributes:
        model_uuid: of a model that was really trained, for one epoch, and that only reads touch.
        training_uuid: that training.
        attachment: of that model to the first project.
        simulated: model and training of a training that ended at once.
        spare_models: for commands that delete, train or attach; no two commands share one.
        spare_trainings: for commands that delete; of the model of `simulated`.
        spare_attachments: for commands that change or delete.
        manifest: of held-out items, below the workers' data roots, for backfills.
    """

    sandbox: SandboxProcess
    model_uuid: str
    training_uuid: str
    attachment: str
    simulated: dict[str, str]
    spare_models: list[str]
    spare_trainings: list[str]
    spare_attachments: list[str]
    manifest: Path

    @classmethod
    def prepare(cls, sandbox: SandboxProcess, scale: int, folder: Path) -> World:
        """Makes what a mix of this scale needs; from then on trainings are simulated.

        Args:
            sandbox: the API.
            scale: of the mix.
            folder: where the manifest lies, below the workers' data roots.
        """
        trained = sandbox.create_model(ARCHITECTURE)
        training = sandbox.create_training(trained, ARCHITECTURE)
        assert sandbox.ended(trained, training)["status"] == "done"
        sandbox.faults(SIMULATED)
        models = [
            sandbox.create_model(ARCHITECTURE, f"spare {number}")
            for number in range(_models_needed(scale))
        ]
        simulated = sandbox.create_model(ARCHITECTURE)
        done = sandbox.create_training(simulated, ARCHITECTURE)
        assert sandbox.ended(simulated, done)["status"] == "done"
        return cls(
            sandbox,
            trained,
            training,
            sandbox.attach(trained, ARCHITECTURE),
            {"model_uuid": simulated, "training_uuid": done},
            models,
            [sandbox.create_training(simulated, ARCHITECTURE) for _ in range(scale)],
            [
                sandbox.attach(model, ARCHITECTURE)
                for model in models[: _ATTACHMENTS_UPDATED + scale]
            ],
            _write_manifest(sandbox, folder),
        )

    @property
    def project_uuid(self) -> str:
        """The project to which all is attached."""
        return str(self.sandbox.project()["project_uuid"])

    def training(self, number: int) -> dict[str, Any]:
        """Returns the data of a `train` that is unlike all others."""
        body = self.sandbox.training_body(ARCHITECTURE)
        return {
            "model_uuid": self.spare_models[number % _TRAINED_MODELS],
            "batch_size": 4,
            "epochs": 1 + number // _TRAINED_MODELS,
            "features_mapping": body["featuresMapping"],
            "labels_uuids": body["labelsUuids"],
        }

    def selection(self) -> dict[str, Any]:
        """Returns what `attach` and `update_attachment` choose."""
        return {
            "features_mapping": self.sandbox.features(ARCHITECTURE),
            "iteration_policy": "useAll",
        }

    def prediction(self, number: int) -> dict[str, Any]:
        """Returns the data of a `predict` on a held-out item."""
        items = self.sandbox.items("heldout")
        return {
            "task": TASK,
            "project_uuid": self.project_uuid,
            "project_model_uuid": self.attachment,
            "training_uuid": self.training_uuid,
            "data_uuid": items[number % len(items)]["data_uuid"],
        }

    def backfill(self) -> dict[str, Any]:
        """Returns the data of a `backfill` on some held-out items."""
        data = self.prediction(0)
        del data["data_uuid"]
        return {**data, "source": str(self.manifest)}

    def missing(self, number: int) -> dict[str, Any]:
        """Returns the data of a `train` on labels that are not there."""
        return {**self.training(number), "labels_uuids": [MISSING]}


@dataclass(frozen=True)
class Kind:
    """One kind of command in a mix.

    Attributes:
        share: so many of a mix of scale 1.
        data: of the command with this number among its kind.
    """

    type: str
    share: int
    end: str
    data: Callable[[World, int], dict[str, Any]]


KINDS: Final = (
    Kind(
        "create_model",
        10,
        "succeeded",
        lambda world, number: {
            "features": list(world.sandbox.features(ARCHITECTURE)),
            "model": ARCHITECTURE,
            "title": f"made {number}",
        },
    ),
    Kind("get_model", 19, "succeeded", lambda world, _: {"model_uuid": world.model_uuid}),
    Kind("list_models", 5, "succeeded", lambda _, number: {"query": f"spare {number}"}),
    Kind(
        "update_model",
        8,
        "succeeded",
        lambda world, number: {
            "model_uuid": world.simulated["model_uuid"],
            "description": f"number {number}",
        },
    ),
    Kind(
        "delete_model",
        3,
        "succeeded",
        lambda world, number: {"model_uuid": world.spare_models[-1 - number]},
    ),
    Kind("train", 5, "succeeded", lambda world, number: world.training(number)),
    Kind("train", 1, "failed", lambda world, number: world.missing(number)),
    Kind("watch_training", 4, "succeeded", lambda world, _: world.simulated),
    Kind("get_training_data", 5, "succeeded", lambda world, _: world.simulated),
    Kind(
        "get_weights_download_link",
        3,
        "succeeded",
        lambda world, _: {
            "model_uuid": world.model_uuid,
            "training_uuid": world.training_uuid,
        },
    ),
    Kind("get_weights_download_link", 2, "failed", lambda world, _: world.simulated),
    Kind(
        "delete_training_iteration",
        1,
        "succeeded",
        lambda world, number: {
            **world.simulated,
            "training_uuid": world.spare_trainings[number],
        },
    ),
    Kind(
        "attach",
        4,
        "succeeded",
        lambda world, number: {
            "project_uuid": world.project_uuid,
            "model_uuid": world.spare_models[-1 - 3 * len(world.spare_trainings) - number],
            **world.selection(),
        },
    ),
    Kind(
        "attach",
        1,
        "failed",
        lambda world, _: {
            "project_uuid": world.project_uuid,
            "model_uuid": MISSING,
            **world.selection(),
        },
    ),
    Kind("list_attachments", 5, "succeeded", lambda world, _: {"project_uuid": world.project_uuid}),
    Kind(
        "update_attachment",
        5,
        "succeeded",
        lambda world, number: {
            "project_uuid": world.project_uuid,
            "project_model_uuid": world.spare_attachments[number % _ATTACHMENTS_UPDATED],
            **world.selection(),
        },
    ),
    Kind(
        "detach",
        1,
        "succeeded",
        lambda world, number: {
            "project_uuid": world.project_uuid,
            "project_model_uuid": world.spare_attachments[_ATTACHMENTS_UPDATED + number],
        },
    ),
    Kind("backfill", 1, "succeeded", lambda world, _: world.backfill()),
    Kind("predict", 7, "succeeded", lambda world, number: world.prediction(number)),
    Kind(
        "predict",
        2,
        "failed",
        lambda world, number: {**world.prediction(number), "data_uuid": MISSING},
    ),
    Kind("cancel", 1, "failed", lambda _, number: {"command_id": f"nobody-{number}"}),
    Kind(
        "resolve",
        1,
        "failed",
        lambda _, number: {"command_id": f"nobody-{number}", "not_created": True},
    ),
    Kind("get_model", 6, "failed", lambda _, __: {"model_uuid": MISSING}),
)
SCALE_ONE: Final = sum(kind.share for kind in KINDS)


def mixed(world: World, scale: int) -> Workload:
    """Returns `scale` times a hundred commands of all types."""
    work = Workload()
    for kind in KINDS:
        for number in range(kind.share * scale):
            lane = {"priority": "bulk"} if number % 3 == 0 else {}
            command_id = f"{kind.type}-{kind.end}-{number}"
            work.add(command_id, kind.type, kind.data(world, number), kind.end, **lane)
    return work


def _write_manifest(sandbox: SandboxProcess, folder: Path) -> Path:
    items = sandbox.items("heldout")[:BACKFILL_ITEMS]
    rows = [json.dumps({"data_uuid": item["data_uuid"]}) for item in items]
    path = folder / "items.jsonl"
    path.write_text("\n".join(rows))
    return path


def _models_needed(scale: int) -> int:
    """Returns how many models are trained, changed, deleted (3) and attached (4) by commands."""
    return max(_TRAINED_MODELS, _ATTACHMENTS_UPDATED + scale) + 7 * scale
