"""Whether there are traces: OpenTelemetry's own variables say so."""

from __future__ import annotations

import os
import uuid
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import structlog

from schemas.events import ErrorCode
from worker.errors import SettingError
from worker.tracing.variables import DISABLED, ENDPOINTS, EXPORTER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.sinks.delivery_trace import DeliveryTracer
    from worker.tracing.sdk import Tracing

log = structlog.get_logger(__name__)

GATEWAY: Final = "trainmaster-gateway"
WORKER: Final = "trainmaster-worker"
SINKS: Final = "trainmaster-sinks"
_SDK: Final = "opentelemetry.sdk"


def exporters_of(environ: Mapping[str, str]) -> list[str]:
    """Returns the names of the exporters that are asked for: none unless somebody says so.

    OpenTelemetry's default, OTLP to this machine, is taken only where an endpoint is named: a
    worker that nobody told of traces sends none.
    """
    if environ.get(DISABLED, "").strip().lower() == "true":
        return []
    named = [each.strip() for each in environ.get(EXPORTER, "").split(",") if each.strip()]
    if not named and any(environ.get(name, "").strip() for name in ENDPOINTS):
        named = ["otlp"]
    return [] if "none" in named else list(dict.fromkeys(named))


def create_tracing(service: str, instance: str = "") -> Tracing | None:
    """Returns what takes the spans of this process; None where no traces are asked for.

    Args:
        service: the name that spans are found by, unless a variable says another.
        instance: a name that no other process has; made without one.

    Raises:
        SettingError: `OTEL_TRACES_EXPORTER` names one that is not installed, or the SDK refuses
            another variable.
    """
    exporters = exporters_of(os.environ)
    if not exporters:
        return None
    if not _is_installed():
        log.warning(
            "tracing.unavailable",
            exporters=exporters,
            advice="pip install 'trainmaster[tracing]', or set OTEL_SDK_DISABLED=true",
        )
        return None
    try:
        sdk: Any = import_module("worker.tracing.sdk")
    except ValueError as exc:
        # The SDK reads the limits of spans while it is imported.
        raise SettingError(
            f"OTEL_…_LIMIT can't be used: {exc}", code=ErrorCode.INVALID_SETTING
        ) from exc
    made: Tracing = sdk.open_tracing(exporters, service, instance or str(uuid.uuid4()))
    return made


def create_delivery_tracer(tracing: Tracing | None, namespace: str) -> DeliveryTracer | None:
    """Returns what makes spans of deliveries of sinks; None where there are no traces."""
    if tracing is None:
        return None
    spans: Any = import_module("worker.tracing.delivery_spans")
    made: DeliveryTracer = spans.DeliverySpans(tracing, namespace)
    return made


def _is_installed() -> bool:
    try:
        return find_spec(_SDK) is not None
    except ModuleNotFoundError:
        return False
