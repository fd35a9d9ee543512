"""Lints and renders a chart with Helm's own engine, and asks Kubernetes' schemas about all of it.

It runs in `.venv-chart`, which has nothing of ours: `python chart_engine.py CHART`. On stdin stands
a JSON object with sets of `values`, further `manifests`, `release`, `namespace` and the `versions`
of Kubernetes; on stdout what came of each set of values.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import helm_python
import kubernetes_validate
import yaml

_INFO: Final = 1


def main(path: str) -> None:
    """Reads what is asked for and writes what came of it."""
    asked = json.load(sys.stdin)
    asked["versions"] = [
        kubernetes_validate.latest_version() if each == "latest" else each
        for each in asked["versions"]
    ]
    with helm_python.Chart.load(path) as chart:
        found = {
            name: _rendered(path, chart, values, asked) for name, values in asked["values"].items()
        }
    problems = [
        each for manifest in asked["manifests"] for each in _problems(manifest, asked["versions"])
    ]
    json.dump({"rendered": found, "problems": problems}, sys.stdout)


def _rendered(
    path: str, chart: helm_python.Chart, values: dict[str, Any], asked: dict[str, Any]
) -> dict[str, Any]:
    report = helm_python.lint(path, values, strict=True, namespace=asked["namespace"])
    told: dict[str, Any] = {
        "lint": [
            f"{each['path']}: {each['error']}"
            for each in report["messages"]
            if each["severity"] > _INFO
        ],
        "error": "",
        "notes": "",
        "manifests": [],
        "problems": [],
        "unknown": [],
    }
    try:
        chart.validate_schema(values)
        files = chart.render(values, name=asked["release"], namespace=asked["namespace"])
    except helm_python.HelmError as exc:
        return told | {"error": str(exc)}
    for name, text in sorted(files.items()):
        if name.endswith("NOTES.txt"):
            told["notes"] = text
            continue
        for manifest in yaml.safe_load_all(text):
            if manifest:
                told["manifests"].append(manifest)
                try:
                    told["problems"] += _problems(manifest, asked["versions"])
                except kubernetes_validate.SchemaNotFoundError:
                    told["unknown"].append(manifest["kind"])
    return told


def _problems(manifest: dict[str, Any], versions: list[str]) -> list[str]:
    found = []
    for version in versions:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as exc:
            found.append(f"{version} {manifest['kind']}: {exc.message}")
    return found


if __name__ == "__main__":
    main(sys.argv[1])
