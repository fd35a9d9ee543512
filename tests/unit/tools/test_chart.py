"""The Helm chart is of one piece with the rest: its copies are fresh, it knows the settings."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from tools import chart
from worker.gateway_settings import GatewaySettings
from worker.settings import LedgerSettings, Settings, environment_names

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA: dict[str, Any] = json.loads(chart.SCHEMA.read_text("utf-8"))
DEFAULTS: dict[str, Any] = yaml.safe_load((chart.CHART / "values.yaml").read_text("utf-8"))


def wrong(values: dict[str, Any]) -> list[str]:
    """Returns where values do not fit the chart's schema."""
    found = jsonschema.Draft7Validator(SCHEMA).iter_errors(values)
    return [each.json_path for each in found]


def test_the_files_that_are_made_are_fresh() -> None:
    stale = [
        str(path) for path, text in chart.rendered().items() if path.read_text("utf-8") != text
    ]
    assert stale == [], "run: .venv/bin/python -m tools.chart --write"


def test_a_stale_file_is_told_and_written_only_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "alerts.yaml"
    target.write_text("old")
    monkeypatch.setattr(chart, "ROOT", tmp_path)
    monkeypatch.setattr(chart, "rendered", lambda: {target: "new"})
    told = CliRunner().invoke(chart.main, [])
    assert (told.exit_code, told.output) == (chart.STALE, "alerts.yaml: stale\n")
    assert target.read_text() == "old"
    assert CliRunner().invoke(chart.main, ["--write"]).exit_code == 0
    assert target.read_text() == "new"
    assert CliRunner().invoke(chart.main, []).exit_code == 0


def test_chart_and_project_have_one_version() -> None:
    told = yaml.safe_load((chart.CHART / "Chart.yaml").read_text("utf-8"))
    project = tomllib.loads((chart.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert told["version"] == told["appVersion"] == project["version"]


def test_the_schema_has_every_value_that_has_a_default_and_takes_the_defaults() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert wrong(DEFAULTS) == []
    assert wrong({"no": 1}) == ["$"]

    def undeclared(values: dict[str, Any], schema: dict[str, Any]) -> list[str]:
        properties = schema.get("properties", {})
        found = [name for name in properties if name not in values and name != "global"]
        for name, value in values.items():
            if isinstance(value, dict) and "properties" in properties.get(name, {}):
                found += [f"{name}.{each}" for each in undeclared(value, properties[name])]
        return found

    assert undeclared(DEFAULTS, SCHEMA) == [], "values.yaml shows every value with its default"


def test_every_setting_is_a_value_or_is_set_by_the_templates() -> None:
    templates = "".join(file.read_text("utf-8") for file in (chart.CHART / "templates").glob("*.*"))
    for settings, definitions in (
        (LedgerSettings, ["settings"]),
        (Settings, ["settings", "workerSettings"]),
        (GatewaySettings, ["settings", "gatewaySettings"]),
    ):
        values = {
            name
            for definition in definitions
            for name in SCHEMA["definitions"][definition]["properties"]
        }
        names = environment_names(settings)
        for field, name in names.items():
            if field in {"health_file", "encord_ssh_key"}:
                # The image sets the one; the other is a secret in a variable.
                assert name not in values
            elif name not in values:
                assert name in templates, name


@pytest.mark.parametrize(
    ("value", "fits"), [(1, True), (4096, True), (0, False), (4097, False), ("512", False)]
)
def test_a_setting_may_be_what_the_worker_takes(value: object, *, fits: bool) -> None:
    values = {"worker": {"settings": {"TRAINMASTER_CONCURRENCY": value}}}
    assert (wrong(values) == []) is fits
