"""The SDK of OpenTelemetry, set up from its own variables.

What it reads by itself: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`,
`OTEL_BSP_*`, `OTEL_EXPORTER_OTLP_*` and the limits of spans.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from contextlib import suppress
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Any, Final

import structlog
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from typing_extensions import override

from schemas.events import ErrorCode
from worker.errors import SettingError
from worker.logging import LimitedLog
from worker.redaction import HIDDEN, redact_text
from worker.tracing.variables import ENDPOINTS, EXPORTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

log = structlog.get_logger(__name__)

# Of spans that nobody takes: a stop is not to wait for a collector that is away.
CLOSE_SECONDS: Final = 5.0
TROUBLE_SECONDS: Final = 30.0
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
_GROUP: Final = "opentelemetry_traces_exporter"
_OTLP: Final = "otlp"
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADERS: Final = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
# What the specification calls the default, and the extra installs.
_HTTP: Final = "http/protobuf"
_EXPORTERS: Final = {_HTTP: "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_UNNAMED: Final = "unknown_service"
_LOGGER: Final = "opentelemetry"


class SpanIds(RandomIdGenerator):
    """Random ids, but for the next span where they were said; used in one thread."""

    def __init__(self) -> None:
        self._trace_id = 0
        self._span_id = 0

    def say(self, trace_id: int, span_id: int) -> None:
        """Sets the ids of the next span, which has no parent."""
        self._trace_id, self._span_id = trace_id, span_id

    @override
    def generate_trace_id(self) -> int:
        """Returns what was said, or a random id."""
        said, self._trace_id = self._trace_id, 0
        return said or super().generate_trace_id()

    @override
    def generate_span_id(self) -> int:
        """Returns what was said, or a random id."""
        said, self._span_id = self._span_id, 0
        return said or super().generate_span_id()


class Tracing:
    """Takes the spans of this process; made in the process that works, for it starts a thread.

    Attributes:
        tracer: makes spans.
        ids: of spans.

    Args:
        exporters: where they go.
        service: the name of the service, unless a variable says another.
        instance: a name that no other process has.
    """

    def __init__(self, exporters: Sequence[SpanExporter], service: str, instance: str) -> None:
        self._trouble = _SdkTrouble()
        self._trouble.listen()
        self.ids = SpanIds()
        self._provider = TracerProvider(
            resource=_resource(service, instance), id_generator=self.ids, shutdown_on_exit=False
        )
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer: Tracer = self._provider.get_tracer(
            "trainmaster", version("trainmaster"), SCHEMA_URL
        )

    def flush(self) -> None:
        """Hands over what waits, now; blocks until the exporters have it."""
        self._provider.force_flush()

    async def aclose(self, seconds: float = CLOSE_SECONDS) -> None:
        """Hands over what is left, for so long at most."""
        # No thread of an executor: the interpreter waits for those at its end.
        closed, loop = asyncio.Event(), asyncio.get_running_loop()

        def close() -> None:
            self._provider.shutdown()
            # The loop may have ended without waiting for it.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(closed.set)

        threading.Thread(target=close, daemon=True).start()
        try:
            async with asyncio.timeout(seconds):
                await closed.wait()
        except TimeoutError:
            log.warning("tracing.spans_lost", waited_seconds=seconds)
        self._trouble.leave()


def open_tracing(names: Sequence[str], service: str, instance: str) -> Tracing:
    """Returns what takes spans and sends them to these exporters.

    Raises:
        SettingError: one is not installed, or can't be used; or a variable is wrong.
    """
    # From here on, for an exporter complains while it is made.
    trouble = _SdkTrouble()
    trouble.listen()
    try:
        return Tracing([_exporter(name) for name in names], service, instance)
    except SettingError:
        trouble.leave()
        raise
    except (TypeError, ValueError) as exc:
        trouble.leave()
        # A size of the queue, above all, that is below that of a batch, 512 unless it is set.
        raise SettingError(
            f"OTEL_BSP_… or OTEL_…_LIMIT can't be used: {_without(_secrets(), str(exc))}",
            code=ErrorCode.INVALID_SETTING,
        ) from exc


def _exporter(name: str) -> SpanExporter:
    wanted = name
    if name == _OTLP:
        said = next((value for each in _PROTOCOLS if (value := os.environ.get(each))), _HTTP)
        wanted = _EXPORTERS.get(said.strip(), said)
    found = [*entry_points(group=_GROUP, name=wanted)]
    if not found:
        known = ", ".join(sorted({_OTLP, *entry_points(group=_GROUP).names}))
        raise SettingError(
            f"{EXPORTER}: no exporter {wanted!r} is installed; there are {known}, and none",
            code=ErrorCode.INVALID_SETTING,
        )
    try:
        made: SpanExporter = found[0].load()()
    except (ImportError, TypeError, ValueError, OSError) as exc:
        raise SettingError(
            f"{EXPORTER}: the exporter {wanted!r} can't be used: {_without(_secrets(), str(exc))}",
            code=ErrorCode.INVALID_SETTING,
        ) from exc
    return made


def _resource(service: str, instance: str) -> Resource:
    """Returns who we are; what the variables say goes before it."""
    ours = {"service.version": version("trainmaster"), "service.instance.id": instance}
    # The SDK makes an instance of its own: only what is said by a variable goes before ours.
    found = Resource.create({}).merge(Resource(ours)).merge(OTELResourceDetector().detect())
    if str(found.attributes.get(SERVICE_NAME, _UNNAMED)).startswith(_UNNAMED):
        found = found.merge(Resource({SERVICE_NAME: service}))
    return found


def _secrets() -> list[str]:
    """Returns what no line may repeat of the variables, the longest first.

    The SDK repeats headers that it can't read, and urllib3 the path and the query of an endpoint,
    without its host, so that it is no URL that would be redacted.
    """
    found: set[str] = set()
    for name in _HEADERS:
        headers = os.environ.get(name, "")
        for each in (headers, *headers.split(",")):
            found |= {each.strip(), each.partition("=")[2].strip()}
    for name in ENDPOINTS:
        parts = os.environ.get(name, "").partition("?")
        found.add(parts[2])
        found.add(parts[0].partition("://")[2].rpartition("@")[0])
    return sorted(found - {""}, key=len, reverse=True)


def _without(secrets: Sequence[str], text: str) -> str:
    for each in secrets:
        text = text.replace(each, HIDDEN)
    return redact_text(text)


class _SdkTrouble(logging.Handler):
    """What the SDK logs of a collector that is away: a line now and then, not one per batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._limited = LimitedLog(log, most=1, period_seconds=TROUBLE_SECONDS)
        self._logger = logging.getLogger(_LOGGER)
        self._secrets = _secrets()

    def listen(self) -> None:
        """Takes the SDK's lines."""
        self._remove()
        self._logger.addHandler(self)
        self._logger.propagate = False

    def leave(self) -> None:
        """Lets them go where all others go."""
        self._remove()
        self._logger.propagate = True

    def _remove(self) -> None:
        self._logger.handlers = [
            each for each in self._logger.handlers if not isinstance(each, _SdkTrouble)
        ]

    @override
    def emit(self, record: logging.LogRecord) -> None:
        told: dict[str, Any] = {"problem": _without(self._secrets, record.getMessage())}
        if record.exc_info and record.exc_info[1] is not None:
            told["error"] = _without(self._secrets, str(record.exc_info[1]))
        self._limited.warning("tracing.trouble", record.name, **told)
