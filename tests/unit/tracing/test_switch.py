"""There are traces where OpenTelemetry's own variables say so, and nowhere else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from worker.errors import SettingError
from worker.tracing.delivery_spans import DeliverySpans
from worker.tracing.switch import create_delivery_tracer, create_tracing, exporters_of

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


def test_deliveries_are_traced_where_there_are_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert create_delivery_tracer(None, "shop") is None
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    tracing = create_tracing("service", "one")
    assert tracing is not None
    assert isinstance(create_delivery_tracer(tracing, "shop"), DeliverySpans)
    asyncio.run(tracing.aclose())


def test_an_exporter_that_is_not_installed_is_named_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(SettingError, match=r"OTEL_TRACES_EXPORTER: no exporter 'zipkin'.*otlp"):
        create_tracing("service", "one")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # Less than a batch, which is 512 unless that is set too.
        ("OTEL_BSP_MAX_QUEUE_SIZE", "256"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
    ],
)
def test_a_variable_that_the_sdk_refuses_is_a_wrong_setting(name: str, value: str) -> None:
    """No traceback: a worker whose start fails with one would be started again for ever."""
    code = (
        "from worker.errors import SettingError\n"
        "from worker.tracing.switch import create_tracing\n"
        "try:\n"
        "    create_tracing('service', 'one')\n"
        "except SettingError as exc:\n"
        "    print(exc)\n"
    )
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "console", name: value}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("OTEL_")
    assert "can't be used" in done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Bearer s3cret"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=b,Bearer s3cret"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces?token=s3cret"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://who:s3cret@127.0.0.1:9"),
    ],
)
def test_no_line_of_the_sdk_repeats_a_secret(name: str, value: str) -> None:
    """It repeats headers that it can't read, and where it could not send to."""
    code = (
        "import asyncio\n"
        "from worker.logging import configure\n"
        "from worker.tracing.switch import create_tracing\n"
        "configure('INFO', 'text')\n"
        "made = create_tracing('service', 'one')\n"
        "made.tracer.start_span('x').end()\n"
        "asyncio.run(made.aclose(0.5))\n"
    )
    environment = {**os.environ, OTLP: "http://127.0.0.1:9", name: value}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "tracing.trouble" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr


def test_without_an_exporter_nothing_that_makes_spans_is_imported() -> None:
    """A worker that sends no traces pays nothing for them; redis-py imports the SDK's metrics."""
    code = (
        "import sys, worker.app, worker.bootstrap.supervisor, worker.gateway.app\n"
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
