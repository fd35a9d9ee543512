"""The chart as Helm's own engine renders it, in a process and an environment of its own."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT: Final = Path(__file__).parents[1]
CHART: Final = ROOT / "deploy" / "helm" / "trainmaster"
PYTHON: Final = ROOT / ".venv-chart" / "bin" / "python"
"""It is there once `python3 dev.py chart` was run."""
RELEASE: Final = "tm"
NAMESPACE: Final = "vision"
# The oldest that the chart names, and the newest that is known.
VERSIONS: Final = ("1.27", "latest")
_SECONDS: Final = 120

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """What came of a set of values.

    Attributes:
        lint: what `helm lint --strict` says; more than notes only.
        error: why `helm template` ends; empty where it does not.
        manifests: what is applied.
        notes: what people read after it.
        problems: what does not fit Kubernetes' schemas, which know every field.
        unknown: the kinds that these schemas don't have.
    """

    lint: list[str]
    error: str
    manifests: list[Manifest]
    notes: str
    problems: list[str]
    unknown: list[str]

    def of(self, kind: str, name: str = "") -> Manifest:
        """Returns the one manifest of a kind whose name ends so."""
        (found,) = (
            each
            for each in self.manifests
            if each["kind"] == kind and each["metadata"]["name"].endswith(name)
        )
        return found


def render(values: Mapping[str, dict[str, Any]]) -> dict[str, Rendered]:
    """Lints, renders and validates the chart with each set of values; all in one process."""
    return {name: Rendered(**told) for name, told in _run(values, ())["rendered"].items()}


def problems_of(manifest: Manifest) -> list[str]:
    """Returns what does not fit Kubernetes' schemas."""
    found: list[str] = _run({}, (manifest,))["problems"]
    return found


def _run(values: Mapping[str, dict[str, Any]], manifests: Sequence[Manifest]) -> dict[str, Any]:
    asked = {
        "values": values,
        "manifests": manifests,
        "release": RELEASE,
        "namespace": NAMESPACE,
        "versions": VERSIONS,
    }
    done = subprocess.run(
        [PYTHON, Path(__file__).with_name("chart_engine.py"), CHART],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told
