"""There are traces where OpenTelemetry's own variables say so, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from worker.errors import SettingError
from worker.tracing.switch import create_tracing, exporters_of

OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"
VARIABLES = (
    OTLP,
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
    "OTEL_SDK_DISABLED",
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environ", "exporters"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "trainmaster"}, []),
        ({OTLP: "http://collector:4318"}, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/x"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "console, otlp,otlp"}, ["console", "otlp"]),
        ({"OTEL_TRACES_EXPORTER": "none", OTLP: "http://collector:4318"}, []),
        ({"OTEL_SDK_DISABLED": " TRUE", OTLP: "http://collector:4318"}, []),
        ({"OTEL_SDK_DISABLED": "false", OTLP: "http://collector:4318"}, ["otlp"]),
        ({OTLP: ""}, []),
    ],
)
def test_traces_are_asked_for_by_an_exporter_or_an_endpoint(
    environ: dict[str, str], exporters: list[str]
) -> None:
    assert exporters_of(environ) == exporters


def test_an_exporter_that_is_not_installed_is_named_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(SettingError, match=r"OTEL_TRACES_EXPORTER: no exporter 'zipkin'.*otlp"):
        create_tracing("service", "one")


def test_without_an_exporter_nothing_that_makes_spans_is_imported() -> None:
    """A worker that sends no traces pays nothing for them; redis-py imports the SDK's metrics."""
    code = (
        "import sys, worker.app, worker.bootstrap, worker.gateway.app\n"
        "from worker.tracing.switch import create_tracing\n"
        "assert create_tracing('service', 'one') is None\n"
        "ours = ('opentelemetry.sdk.trace', 'worker.tracing.sdk', 'worker.tracing.listener')\n"
        "print([name for name in ours if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra_a_worker_says_what_is_missing_and_goes_on() -> None:
    """As where the variables are those of a whole cluster."""
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('opentelemetry.sdk'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "from worker.tracing.switch import create_tracing\n"
        "assert create_tracing('service', 'one') is None\n"
    )
    environment = {**os.environ, OTLP: "http://127.0.0.1:1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "pip install 'trainmaster[tracing]'" in done.stdout + done.stderr
