"""The worked examples of the page about webhooks, with ids that exist, and deliveries for them."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.examples import MODEL_UUID, PROJECT_MODEL_UUID, PROJECT_UUID, TRAINING_UUID
from tests.pages import snippet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sandbox_process import SandboxProcess

PAGE: Final = (Path(__file__).parents[1] / "docs" / "webhooks.md").read_text("utf-8")
ENCORD_SECRET: Final = "whsec-that-no-log-may-show"
GITHUB_SECRET: Final = "a-secret-that-no-log-may-show"
# The names that the page gives to what the model tells apart, and to where the project has it.
_FEATURES: Final = {"car": "aBcD1234", "person": "eFgH5678"}
_WINDOW: Final = 'coalesce = { key = "body.payload.project_hash", window_seconds = 60 }'


@dataclass(frozen=True)
class TrainedProject:
    """A project whose labels are trained on, with a model that knows what the page's does.

    Attributes:
        labels: that show what the model can tell apart.
    """

    project_uuid: str
    model_uuid: str
    features: dict[str, str]
    labels: list[str]

    @classmethod
    def prepare(cls, sandbox: SandboxProcess) -> TrainedProject:
        """Makes the model; its features are two of the project's."""
        hashes = list(sandbox.features("fasterRcnn").values())[: len(_FEATURES)]
        shown = [item["label_uuid"] for item in sandbox.items() if _shown(item) & {*hashes}]
        return cls(
            sandbox.project()["project_uuid"],
            sandbox.create_model("fasterRcnn", features=list(_FEATURES)),
            dict(zip(_FEATURES, hashes, strict=True)),
            shown,
        )


def _shown(item: dict[str, Any]) -> set[str]:
    return {thing["featureHash"] for frame in item["truth"]["frames"] for thing in frame["objects"]}


def labels_example(project: TrainedProject, coalesce: str) -> str:
    """Returns the file that trains and attaches, with this line in place of its window."""
    hashes = {_FEATURES[name]: node for name, node in project.features.items()}
    return fill(
        snippet(PAGE, "toml", "train-on-submit"),
        {
            **hashes,
            PROJECT_UUID: project.project_uuid,
            MODEL_UUID: project.model_uuid,
            _WINDOW: coalesce,
        },
    )


def push_example(attachment: dict[str, str], secret_file: Path, server: str) -> str:
    """Returns the file that begins a backfill.

    Args:
        attachment: `project_uuid`, `project_model_uuid` and `training_uuid`.
        secret_file: where the secret stands.
        server: the URL of what stands for GitHub's server of files.
    """
    return fill(
        snippet(PAGE, "toml", "backfill-manifest"),
        {
            PROJECT_UUID: attachment["project_uuid"],
            PROJECT_MODEL_UUID: attachment["project_model_uuid"],
            TRAINING_UUID: attachment["training_uuid"],
            "/run/secrets/github_webhook": str(secret_file),
            "https://raw.githubusercontent.com": server,
        },
    )


def fill(text: str, values: dict[str, str]) -> str:
    """Returns an example with other values; one that it does not have fails the test."""
    for shown, value in values.items():
        assert shown in text, f"the page's example has no {shown}"
        text = text.replace(shown, value)
    return text


def submitted(uid: str, project_uuid: str, labels: Sequence[str]) -> bytes:
    """Returns the body with which Encord tells of submitted labels."""
    return orjson.dumps({
        "uid": uid,
        "version": 1,
        "source": "encord",
        "event_type": "task_submitted_event",
        "event_created_timestamp": "2026-11-27T06:00:00Z",
        "payload": {"project_hash": project_uuid, "data_hashes": [], "label_hashes": [*labels]},
    })


def signed_by_encord(body: bytes) -> dict[str, str]:
    """Returns the headers of a delivery that Encord sends now."""
    timestamp = str(int(time.time()))
    signed = f"{timestamp}.".encode() + body
    return {
        "Content-Type": "application/json",
        "X-Encord-Timestamp": timestamp,
        "X-Encord-Signature": hmac.new(ENCORD_SECRET.encode(), signed, hashlib.sha256).hexdigest(),
    }


def pushed(commit: str, repository: str, *added: str) -> bytes:
    """Returns the body with which GitHub tells of a push to the main branch."""
    return orjson.dumps({
        "ref": "refs/heads/main",
        "after": commit,
        "repository": {"full_name": repository},
        "commits": [{"id": commit, "added": [*added], "modified": [], "removed": []}],
    })


def signed_by_github(body: bytes, delivery: str) -> dict[str, str]:
    """Returns the headers of a delivery that GitHub sends."""
    digest = hmac.new(GITHUB_SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": delivery,
        "X-Hub-Signature-256": f"sha256={digest}",
    }
