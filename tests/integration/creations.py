"""Data for what a command creates in the sandbox, and how much of it there is afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from tests.integration.worker_bench import Bench
    from tests.sandbox_process import SandboxProcess

KINDS = {
    "create_model": "models",
    "train": "trainings",
    "attach": "attachments",
}

OPERATIONS = {
    "create_model": "create_model",
    "train": "create_training_job",
    "attach": "create_model_attachment",
}


def data_of(bench: Bench, command_type: str) -> dict[str, Any]:
    """Returns data for a creation that no other test has made."""
    sandbox = bench.sandbox
    if command_type == "create_model":
        features = list(sandbox.features("fasterRcnn"))
        return {"features": features, "model": "fasterRcnn", "title": f"once {uuid4()}"}
    model = sandbox.create_model()
    return train_data(sandbox, model) if command_type == "train" else attach_data(sandbox, model)


def made(bench: Bench, command_type: str, data: dict[str, Any]) -> int:
    """Returns how many things of this kind the API made for the data."""
    models = bench.sandbox.truth()["created"]
    if command_type == "create_model":
        reply = bench.sandbox.http.get("/v2/public/ml-models", params={"query": data["title"]})
        return len(reply.json()["results"])
    kind = models[KINDS[command_type]]
    return sum(data["model_uuid"] in map(str, each.values()) for each in kind)


def train_data(sandbox: SandboxProcess, model: str, **more: Any) -> dict[str, Any]:
    """Returns good data for `train` on the first project."""
    body = sandbox.training_body()
    return {
        "model_uuid": model,
        "batch_size": body["batchSize"],
        "epochs": body["epochs"],
        "features_mapping": body["featuresMapping"],
        "labels_uuids": body["labelsUuids"],
        **more,
    }


def attach_data(sandbox: SandboxProcess, model: str, **more: Any) -> dict[str, Any]:
    return {
        "project_uuid": sandbox.project()["project_uuid"],
        "model_uuid": model,
        "features_mapping": sandbox.features("fasterRcnn"),
        "iteration_policy": "useAll",
        **more,
    }
