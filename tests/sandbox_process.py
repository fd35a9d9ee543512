"""A real sandbox for tests: its process, its data, and a client that says what it means."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import orjson

from tests.shared_folder import one_at_a_time, shared_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS = 180
_TRAINING_SECONDS = 400
"""Of a training that is alone on a core and takes 20; machines may be busy."""
_MODELS = "/v2/public/ml-models"
SIMULATED = {
    "operation": "create_training_job",
    "effect": "training",
    "training": "simulated",
    "seconds": 0,
}
"""The rule by which trainings end at once and train nothing."""
FEATURE_TYPES = {
    "fasterRcnn": "boundingBox",
    "maskRcnn": "polygon",
    "resnet18": "classificationOption",
}


class SandboxProcess:
    """`python -m sandbox` on a free port, and calls of its API with the bearer token.

    Attributes:
        command: what starts it, before its options.
    """

    def __init__(self, state: Path, *options: str) -> None:
        self.state = state
        self.options = options
        self.command = [sys.executable, "-m", "sandbox"]
        self.errors = state.parent / f"{state.name}-errors.txt"
        self.process: subprocess.Popen[bytes] | None = None
        self.told: dict[str, Any] = {}
        self.http = httpx.Client()

    def start(self) -> None:
        """Starts the process and waits until it is ready.

        A state folder that is not there yet gets the projects that the first sandbox of these
        tests has made: making them takes longer than anything else at a start.
        """
        is_new = not self.state.exists() and not {"--seed", "--import"} & {*self.options}
        if not is_new:
            self._start()
            return
        kept = shared_folder() / "catalogue"
        with one_at_a_time("catalogue"):
            is_first = not kept.exists()
            if is_first:
                self._start()
                _copy_catalogue(self.state, kept)
        if not is_first:
            _copy_catalogue(kept, self.state)
            self._start()

    def _start(self) -> None:
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*self.command, "--state", str(self.state), *self.options],
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        ready = self.state / "sandbox.json"
        deadline = time.monotonic() + _START_SECONDS
        while not ready.exists():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline, "the sandbox was not ready in time"
            time.sleep(0.02)
        self.told = orjson.loads(ready.read_bytes())
        self.http.close()
        token = (self.state / "token").read_text()
        self.http = httpx.Client(
            base_url=self.told["domain"],
            headers={"Authorization": f"Bearer {token}"},
            timeout=90,
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Ends the process; returns its exit code and the seconds that it took."""
        self.http.close()
        assert self.process is not None
        begun = time.monotonic()
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        code = self.process.wait(timeout=120)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code, time.monotonic() - begun

    def faults(self, *rules: dict[str, object]) -> None:
        """Puts these fault rules in place of all others."""
        self.http.put("/sandbox/faults", json=list(rules)).raise_for_status()

    def truth(self, **query: str) -> dict[str, Any]:
        """Returns what really happened."""
        told: dict[str, Any] = self.http.get("/sandbox/truth", params=query).json()
        return told

    def reset_truth(self) -> None:
        """Starts the sandbox's counters anew."""
        self.http.delete("/sandbox/truth").raise_for_status()

    def project(self, number: int = 0) -> dict[str, Any]:
        """Returns a project of sandbox.json."""
        found: dict[str, Any] = self.told["projects"][number]
        return found

    def features(self, architecture: str, project: int = 0) -> dict[str, str]:
        """Returns the ontology's features that fit an architecture: name -> feature hash."""
        return {
            feature["name"]: feature["feature_hash"]
            for feature in self.project(project)["ontology"]
            if feature["type"] == FEATURE_TYPES[architecture]
        }

    def items(self, split: str = "train", project: int = 0) -> list[dict[str, Any]]:
        """Returns the items of one split."""
        return [item for item in self.project(project)["data"] if item["split"] == split]

    def create_model(self, architecture: str = "fasterRcnn", title: str = "", **more: Any) -> str:
        """Creates a model with the features of the first project; returns its uuid."""
        body = {
            "features": list(self.features(architecture)),
            "model": architecture,
            "title": title or f"model {uuid4()}",
            **more,
        }
        reply = self.http.post(_MODELS, json=body)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["modelGroup"]["modelUuid"])

    def training_body(self, architecture: str = "fasterRcnn", **more: Any) -> dict[str, Any]:
        """Returns a good body for a training on the first project."""
        features = self.features(architecture)
        return {
            "batchSize": 8,
            "epochs": 1,
            "featuresMapping": {
                self.project()["project_uuid"]: {
                    feature_hash: [name] for name, feature_hash in features.items()
                }
            },
            "labelsUuids": [item["label_uuid"] for item in self.items()[:8]],
            **more,
        }

    def create_training(
        self, model_uuid: str, architecture: str = "fasterRcnn", **more: Any
    ) -> str:
        """Creates a training; returns its uuid."""
        body = self.training_body(architecture, **more)
        reply = self.http.post(f"{_MODELS}/{model_uuid}/trainings", json=body)
        assert reply.status_code == 200, reply.text
        return str(reply.json())

    def status(self, model_uuid: str, training_uuid: str, seconds: int = 0) -> dict[str, Any]:
        """Returns the status of a training, at the latest after some seconds."""
        path = f"{_MODELS}/{model_uuid}/iterations/{training_uuid}/training"
        reply = self.http.get(path, params={"timeoutSeconds": seconds})
        assert reply.status_code == 200, reply.text
        told: dict[str, Any] = reply.json()
        return told

    def ended(self, model_uuid: str, training_uuid: str) -> dict[str, Any]:
        """Returns the status of a training once it is not pending any more."""
        deadline = time.monotonic() + _TRAINING_SECONDS
        while (told := self.status(model_uuid, training_uuid, 30))["status"] == "pending":
            assert time.monotonic() < deadline, "the training did not end in time"
        return told

    def attach(
        self, model_uuid: str, architecture: str = "fasterRcnn", project: int = 0, **more: Any
    ) -> str:
        """Attaches a model to a project; returns the attachment's uuid."""
        names = list(self.features(architecture))
        hashes = list(self.features(architecture, project).values())
        body = {
            "featuresMapping": dict(zip(names, hashes, strict=True)),
            "iterationPolicy": "useAll",
            "modelUuid": model_uuid,
            **more,
        }
        reply = self.http.post(self.attachments_path(project), json=body)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["projectModel"]["projectModelUuid"])

    def attachments_path(self, project: int = 0) -> str:
        """Returns the path of a project's attachments."""
        return f"/v2/public/projects/{self.project(project)['project_uuid']}/models-attachments"


def _copy_catalogue(source: Path, target: Path) -> None:
    """Copies the projects of one state folder to another; each names its files in full."""
    shutil.copytree(source / "data", target / "data")
    text = (source / "catalogue.json").read_text("utf-8")
    text = text.replace(str(source.resolve()), str(target.resolve()))
    (target / "catalogue.json").write_text(text, "utf-8")


def copy_state(source: Path, target: Path) -> None:
    """Copies the whole state folder of a sandbox that does not run; keys and token come along."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("lock", "data"))
    _copy_catalogue(source, target)


@contextmanager
def running_sandbox(state: Path, *options: str) -> Iterator[SandboxProcess]:
    """Runs a sandbox; it ends cleanly or the test fails, unless the test itself has ended it."""
    sandbox = SandboxProcess(state, *options)
    sandbox.start()
    try:
        yield sandbox
    finally:
        if sandbox.process is not None and sandbox.process.returncode is None:
            code, _ = sandbox.stop()
            assert code == 0, sandbox.errors.read_text()
