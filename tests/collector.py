"""A collector of traces: a real server that takes OTLP over HTTP, and what is to be seen in it."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.web_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_ERROR = 2


@dataclass(frozen=True)
class Seen:
    """A span that came.

    Attributes:
        parent_id: empty of a root.
        links: ids of traces and of spans.
        resource: attributes of who sent it.
        schema_url: of the conventions that it says it follows.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    begun_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    is_error: bool
    resource: dict[str, Any]
    schema_url: str

    @property
    def content(self) -> tuple[Any, ...]:
        """All of it but who sent it: what two copies of one span have in common."""
        attributes = tuple(sorted(self.attributes.items()))
        times = (self.begun_ns, self.ended_ns)
        return (self.trace_id, self.span_id, self.parent_id, self.name, *times, attributes)


@dataclass
class Collector:
    """What came, in order.

    Attributes:
        status: what is answered.
        requests: how many came.
    """

    url: str = ""
    status: int = 200
    requests: int = 0
    spans: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def environment(self) -> dict[str, str]:
        """Returns the variables by which a process sends its spans here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def take(self, body: bytes) -> None:
        """Keeps the spans of a request."""
        message: Any = ExportTraceServiceRequest.FromString(body)
        found = [
            _seen(span, _attributes(resource.resource.attributes), scope.schema_url)
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self.lock:
            self.requests += 1
            if self.status == 200:
                self.spans += found

    def of(self, command_id: str) -> list[Seen]:
        """Returns the spans of the traces in which a command is the message, each once."""
        with self.lock:
            spans = list(self.spans)
        traces = {
            each.trace_id
            for each in spans
            if each.attributes.get("messaging.message.id") == command_id
        }
        return once(each for each in spans if each.trace_id in traces)

    def named(self, command_id: str, name: str) -> list[Seen]:
        """Returns those of a command whose names begin so."""
        return [
            each
            for each in self.of(command_id)
            if each.name.startswith(name)
            and each.attributes.get("messaging.message.id", command_id) == command_id
        ]


def once(spans: Any) -> list[Seen]:
    """Returns spans without copies, the oldest first; copies that differ fail the test."""
    found: dict[tuple[str, str], Seen] = {}
    for each in spans:
        known = found.setdefault((each.trace_id, each.span_id), each)
        assert known.content == each.content, f"two spans have one id: {known} and {each}"
    return sorted(found.values(), key=lambda each: each.begun_ns)


def orphans(spans: list[Seen], remote: set[str]) -> list[Seen]:
    """Returns the spans whose parents never came.

    Args:
        spans: all that came.
        remote: ids of spans that others hand out.
    """
    known = {(each.trace_id, each.span_id) for each in spans}
    return [
        each
        for each in spans
        if each.parent_id
        and each.parent_id not in remote
        and (each.trace_id, each.parent_id) not in known
    ]


def tree(spans: list[Seen], shown: tuple[str, ...] = ()) -> str:
    """Returns spans as a tree: names, and the values of these attributes."""
    known = {each.span_id for each in spans}
    lines: list[str] = []

    def add(span: Seen, depth: int) -> None:
        told = [f"{span.attributes[name]}" for name in shown if name in span.attributes]
        parent = "" if span.parent_id in known or not span.parent_id else f"<- {span.parent_id} "
        seconds = (span.ended_ns - span.begun_ns) / 1_000_000_000
        lines.append(
            f"{'  ' * depth}{parent}{span.name} {span.span_id} {seconds:.3f} s {' '.join(told)}"
        )
        for each in spans:
            if each.parent_id == span.span_id:
                add(each, depth + 1)

    for each in spans:
        if each.parent_id not in known:
            add(each, 0)
    return "\n".join(line.rstrip() for line in lines)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Runs a collector on a free loopback port."""
    collector = Collector()
    with serving(partial(_Handler, collector)) as url:
        collector.url = url
        yield collector


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, collector: Collector, *args: Any) -> None:
        self._collector = collector
        super().__init__(*args)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.path == "/v1/traces"
        self._collector.take(body)
        self.send_response(self._collector.status)
        self.send_header("content-length", "0")
        # Kept open, it would keep the server's thread at its end.
        self.send_header("connection", "close")
        self.end_headers()


def _seen(span: Any, resource: dict[str, Any], schema_url: str) -> Seen:
    return Seen(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        _KINDS[span.kind],
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        span.status.code == _ERROR,
        resource,
        schema_url,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
