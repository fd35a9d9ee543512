"""The page about webhooks: its examples are files that can be read, and do what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from schemas.examples import LABEL_UUID, MODEL_UUID, PROJECT_MODEL_UUID, PROJECT_UUID, TRAINING_UUID
from tests.pages import snippet
from worker.integrations.file import load_integrations
from worker.integrations.rules import Context, RuleMatch

if TYPE_CHECKING:
    from worker.integrations.file import Integrations

PAGE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text("utf-8")
TOML = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def load(folder: Path, text: str) -> Integrations:
    file = folder / "integrations.toml"
    file.write_text(text, "utf-8")
    return load_integrations(file, {}, looks_up_secrets=False)


def context(body: Any, event_type: str, deliveries: list[Any] | None = None) -> Context:
    return Context(body, {}, "d-1", "s", "2026-01-31T12:00:00Z", event_type, deliveries)


@pytest.mark.parametrize("text", TOML)
def test_each_file_of_the_page_is_valid(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text)


def test_submitted_labels_are_trained_together_and_attached(tmp_path: Path) -> None:
    found = load(tmp_path, snippet(PAGE, "toml", "train-on-submit"))
    (train,) = found.sources["encord"].rules
    payload = {"project_hash": PROJECT_UUID, "data_hashes": ["d"], "label_hashes": [LABEL_UUID]}
    bodies = [{"uid": str(each), "payload": payload} for each in range(2)]
    delivery = context(bodies[1], "task_submitted_event", bodies)
    assert train.match(delivery) is RuleMatch.MATCH
    assert train.coalesce_key(delivery) == PROJECT_UUID
    (command,) = train.commands(delivery)
    assert command["data"]["labels_uuids"] == [LABEL_UUID, LABEL_UUID]
    assert command["project"] == PROJECT_UUID
    foreign = {"payload": {**payload, "project_hash": MODEL_UUID}}
    assert train.match(context(foreign, "task_submitted_event")) is RuleMatch.NOT_ALLOWED

    (attach,) = found.sources["follow-up"].rules
    event = {"project": PROJECT_UUID, "data": {"result": {"training_uuid": TRAINING_UUID}}}
    assert attach.match(context(event, "train.succeeded")) is RuleMatch.MATCH
    assert attach.match(context({"data": {}}, "train.succeeded")) is RuleMatch.NO_MATCH
    (command,) = attach.commands(context(event, "train.succeeded"))
    assert command["data"]["training_uuids"] == [TRAINING_UUID]
    assert command["data"]["project_uuid"] == PROJECT_UUID
    assert command["data"]["features_mapping"] == {"car": "aBcD1234", "person": "eFgH5678"}


def test_a_push_of_a_manifest_is_a_backfill(tmp_path: Path) -> None:
    found = load(tmp_path, snippet(PAGE, "toml", "backfill-manifest"))
    (rule,) = found.sources["github"].rules
    push = {
        "ref": "refs/heads/main",
        "after": "0a1b2c",
        "repository": {"full_name": "acme/street-data"},
        "commits": [
            {"added": ["a.png"], "modified": []},
            {"added": [], "modified": ["manifest.csv", "x"]},
        ],
    }
    assert rule.match(context(push, "push")) is RuleMatch.MATCH
    assert rule.key_of(context(push, "push")) == "0a1b2c"
    (command,) = rule.commands(context(push, "push"))
    assert command["priority"] == "bulk"
    assert command["data"]["project_model_uuid"] == PROJECT_MODEL_UUID
    assert command["data"]["source"] == (
        "https://raw.githubusercontent.com/acme/street-data/0a1b2c/manifest.csv"
    )
    others: tuple[dict[str, Any], ...] = (
        {"ref": "refs/heads/next"},
        {"commits": []},
        {"commits": None},
        {"commits": [{"added": ["manifest.csv.bak"]}]},
    )
    for other in others:
        assert rule.match(context(push | other, "push")) is RuleMatch.NO_MATCH
    fork = push | {"repository": {"full_name": "evil/street-data"}}
    assert rule.match(context(fork, "push")) is RuleMatch.NOT_ALLOWED
