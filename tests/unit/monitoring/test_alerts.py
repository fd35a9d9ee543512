"""Alerts and dashboard: they ask for metrics that there are, and lead to pages that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pages import anchors
from tools import dashboard
from worker.gateway.metrics import gateway_metric_rows
from worker.monitoring.ledger_sample import metric_rows

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "prometheus"
ALERTS = yaml.safe_load((FOLDER / "alerts.yaml").read_text("utf-8"))
RULES: list[dict[str, Any]] = ALERTS["groups"][0]["rules"]
TESTS: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "trainmaster.json").read_text("utf-8"))
PROMTOOL = shutil.which("promtool") or ""
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def names_in(expression: str) -> set[str]:
    """Returns the metrics that an expression asks for."""
    return set(re.findall(r"\btrainmaster_\w+", expression))


def scraped_names() -> set[str]:
    """Returns every name that a scrape can have."""
    found = set()
    for row in (*metric_rows(), *gateway_metric_rows()):
        if row.kind == "histogram":
            found |= {f"{row.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            found.add(row.name)
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_scraped_and_leads_to_its_runbook(rule: dict[str, Any]) -> None:
    assert names_in(rule["expr"]) <= scraped_names()
    assert names_in(rule["expr"]) or "up{" in rule["expr"]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (ROOT / page).is_file()
    assert not anchor or anchor in anchors(ROOT / page)
    assert rule["labels"]["severity"] in {"warning", "critical"}


def test_each_alert_is_proved_to_fire_and_to_be_silent() -> None:
    proved = {
        (test["alert_rule_test"][0]["alertname"], bool(test["alert_rule_test"][0]["exp_alerts"]))
        for test in TESTS
    }
    assert proved == {(rule["alert"], fires) for rule in RULES for fires in (True, False)}


@pytest.mark.skipif(not PROMTOOL, reason="Prometheus' promtool is not here")
@pytest.mark.parametrize("act", [("check", "alerts.yaml"), ("test", "alerts_test.yaml")])
def test_prometheus_own_tool_agrees(act: tuple[str, str]) -> None:
    verb, file = act
    told = subprocess.run(
        [PROMTOOL, verb, "rules", file], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_dashboard_asks_for_what_is_scraped() -> None:
    assert QUERIES
    for query in QUERIES:
        assert names_in(query), query
        assert names_in(query) <= scraped_names()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_dashboards_file_is_what_its_list_makes() -> None:
    assert dashboard.FILE.read_text("utf-8") == dashboard.rendered()
