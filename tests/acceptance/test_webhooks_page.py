"""The first example of the page about webhooks, as it stands there, from delivery to attachment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from tests.console import TIMEOUT_SECONDS, Console, wait_until
from tests.gateway_process import running_gateway
from tests.sandbox_process import SIMULATED
from tests.webhook_examples import (
    ENCORD_SECRET,
    TrainedProject,
    labels_example,
    signed_by_encord,
    submitted,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.console import Served

# Deliveries have to join one window, on a busy machine too.
WINDOW = 'coalesce = { key = "body.payload.project_hash", window_seconds = 8 }'


def test_labels_that_are_submitted_become_one_training_and_its_iteration_is_attached(
    served: Served, tmp_path: Path
) -> None:
    served.sandbox.faults(SIMULATED)
    project = TrainedProject.prepare(served.sandbox)
    file = tmp_path / "integrations.toml"
    file.write_text(labels_example(project, WINDOW), "utf-8")
    console = Console(
        served.console.environment["TRAINMASTER_REDIS_URL"],
        served.console.namespace,
        ENCORD_WEBHOOK_SECRET=ENCORD_SECRET,
        TRAINMASTER_INTEGRATIONS_FILE=str(file),
        TRAINMASTER_GATEWAY_FOLDER=str(tmp_path / "gateway"),
    )
    one, two, three = project.labels[:3]
    with (
        running_gateway(console, tmp_path / "gateway.log") as gateway,
        httpx.Client(base_url=gateway.url, timeout=TIMEOUT_SECONDS, trust_env=False) as http,
    ):
        repeats = [
            _submit(http, "uid-1", project.project_uuid, one),
            # One is reworked, and submitted again before it was trained on.
            _submit(http, "uid-2", project.project_uuid, two, one, three),
            _submit(http, "uid-1", project.project_uuid, one),
            _submit(http, "uid-3", "another-project", one),
        ]
        ends = [_end(http, "encord/train-on-submit/"), _end(http, "follow-up/attach-what-was-")]

    assert repeats == [False, False, True, False]
    assert [each["state"] for each in ends] == ["succeeded", "succeeded"], ends
    created = served.sandbox.truth()["created"]
    (training,) = [one for one in created["trainings"] if one["model_uuid"] == project.model_uuid]
    assert training["labels_uuids"] == [one, two, three]
    (made,) = [one for one in created["attachments"] if one["model_uuid"] == project.model_uuid]
    assert made["training_uuids"] == [training["training_uuid"]]
    assert made["project_uuid"] == project.project_uuid
    assert made["features_mapping"] == project.features


def _submit(http: httpx.Client, uid: str, project_uuid: str, *labels: str) -> bool:
    """Sends what Encord sends when labels were submitted; tells whether it was there before."""
    body = submitted(uid, project_uuid, labels)
    answer = http.post("/v1/webhooks/encord", headers=signed_by_encord(body), content=body)
    assert answer.status_code == 200, answer.text
    repeat: bool = answer.json()["repeat"]
    return repeat


def _end(http: httpx.Client, prefix: str) -> dict[str, Any]:
    """Returns the one command whose id begins so, once it has ended."""
    found: list[dict[str, Any]] = []

    def has_ended() -> bool:
        answer = http.get("/v1/commands", params={"id": prefix})
        # At first the list may still be made from the events.
        found[:] = answer.json()["items"] if answer.status_code == 200 else []
        return any(each["state"] in {"succeeded", "failed"} for each in found)

    wait_until(has_ended, f"the end of {prefix}")
    (command,) = found
    return command
