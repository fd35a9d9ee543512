"""One training, tried twice, as one trace: from its producer's span to the webhook about it."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import httpx
import orjson

from tests.collector import orphans, tree
from tests.console import Console, running_worker, wait_until
from tests.gateway_process import running_gateway
from tests.sandbox_process import SIMULATED
from tests.web_server import serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.collector import Collector, Seen
    from tests.console import Served
    from tests.sandbox_process import SandboxProcess

TRACE, PRODUCER = "a" * 32, "b" * 16
COMMAND_ID = "train-1"
BUSY = {"operation": "get_model", "effect": "status", "status": 503, "count": 1}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SHOWN = ("http.response.status_code", "trainmaster.outcome", "error.type")
MODEL_PATH = "/v2/public/ml-models/{uuid}"


class _Endpoint(BaseHTTPRequestHandler):
    seen: list[dict[str, str]]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(204)
        self.send_header("connection", "close")
        self.end_headers()


def test_a_training_with_a_retry_is_one_whole_trace(
    served: Served, traced: Console, collector: Collector, tmp_path: Path
) -> None:
    sandbox = served.sandbox
    sandbox.faults(SIMULATED | {"seconds": 0.7}, BUSY)
    deliveries: list[dict[str, str]] = []
    endpoint = type("Endpoint", (_Endpoint,), {"seen": deliveries})
    log = tmp_path / "worker.log"
    with serving(endpoint) as url, running_worker(traced, log):
        gateway_console = _console_of_gateway(traced, collector, tmp_path, f"{url}/secret-path")
        with running_gateway(gateway_console, tmp_path / "gateway.log") as gateway:
            model_uuid = _submit(gateway.url, sandbox)
            wait_until(lambda: bool(deliveries), "the webhook")
            wait_until(lambda: bool(collector.named(COMMAND_ID, "settle")), "the last span")
            wait_until(lambda: bool(collector.named(COMMAND_ID, "POST")), "the webhook's span")
    spans = collector.of(COMMAND_ID)
    print(f"\n{tree(spans, SHOWN)}")  # noqa: T201 - docs/tracing.md shows it

    assert {each.trace_id for each in spans} == {TRACE}
    assert orphans(collector.spans, {PRODUCER}) == []
    runs = [each for each in spans if each.name.startswith("process ")]
    outcomes = [each.attributes["trainmaster.outcome"] for each in runs]
    assert outcomes[0] == "retrying"
    assert set(outcomes[1:-1]) == {"polling"}
    assert outcomes[-1] == "succeeded"
    # Its producer's span is the message's creation context: none is made, and runs hang on it.
    assert not [each for each in spans if each.name.startswith("create ")]
    assert {each.parent_id for each in runs} == {PRODUCER}
    _check_attempts(runs, spans, sandbox, model_uuid)
    _check_settled(runs, spans)
    _check_delivery(spans, deliveries, url)
    assert not any("secret-path" in str(each) for each in spans)
    lines = [orjson.loads(line) for line in log.read_bytes().splitlines() if line[:1] == b"{"]
    (done,) = [line for line in lines if line["event"] == "command.succeeded"]
    assert (done["trace_id"], done["span_id"]) == (TRACE, runs[-1].span_id)


def _console_of_gateway(
    traced: Console, collector: Collector, folder: Path, endpoint: str
) -> Console:
    file = folder / "integrations.toml"
    file.write_text(
        f'[sinks.told]\ntypes = ["train.succeeded"]\n[sinks.told.webhook]\nurl = "{endpoint}"\n'
        'secrets = [{ env = "SINK_SECRET" }]\nallow_private = true\n',
        "utf-8",
    )
    return Console(
        traced.environment["TRAINMASTER_REDIS_URL"],
        traced.namespace,
        SINK_SECRET=SECRET,
        TRAINMASTER_INTEGRATIONS_FILE=str(file),
        TRAINMASTER_GATEWAY_FOLDER=str(folder / "gateway"),
        **collector.environment(),
    )


def _submit(url: str, sandbox: SandboxProcess) -> str:
    body, model_uuid = sandbox.training_body(), sandbox.create_model()
    data = {
        "model_uuid": model_uuid,
        "batch_size": body["batchSize"],
        "epochs": body["epochs"],
        "features_mapping": body["featuresMapping"],
        "labels_uuids": body["labelsUuids"],
    }
    answer = httpx.post(
        f"{url}/v1/commands",
        json={"type": "train", "id": COMMAND_ID, "data": data, "correlationid": "order-1"},
        headers={"traceparent": f"00-{TRACE}-{PRODUCER}-01", "tracestate": "shop=1"},
        trust_env=False,
    )
    assert answer.status_code == 202, answer.text
    return model_uuid


def _children(spans: list[Seen], parent: Seen, kind: str, name: str = "") -> list[Seen]:
    return [
        each
        for each in spans
        if each.parent_id == parent.span_id and each.kind == kind and each.name.startswith(name)
    ]


def _check_attempts(
    runs: list[Seen], spans: list[Seen], sandbox: SandboxProcess, model_uuid: str
) -> None:
    first, second = runs[:2]
    assert first.kind == "CONSUMER"
    assert first.is_error
    assert first.schema_url == "https://opentelemetry.io/schemas/1.44.0"
    assert first.resource["service.name"] == "trainmaster-worker"
    told = first.attributes
    assert told["messaging.system"] == "trainmaster"
    assert told["messaging.operation.name"] == told["messaging.operation.type"] == "process"
    assert first.name == f"process {told['messaging.destination.name']}"
    assert told["messaging.message.id"] == COMMAND_ID
    assert told["messaging.message.conversation_id"] == "order-1"
    assert told["trainmaster.command.type"] == "train"
    assert (told["trainmaster.attempt"], second.attributes["trainmaster.attempt"]) == (1, 2)
    assert told["trainmaster.delay_seconds"] > 0
    (refused,) = _children(spans, first, "CLIENT", "GET")
    assert refused.name == f"GET {MODEL_PATH}"
    assert refused.is_error
    domain = sandbox.told["domain"]
    assert refused.attributes["url.full"] == f"{domain}/v2/public/ml-models/{model_uuid}"
    assert refused.attributes["http.request.method"] == "GET"
    assert refused.attributes["http.response.status_code"] == 503
    assert refused.attributes["error.type"] == "503"
    assert refused.attributes["server.address"] == "127.0.0.1"
    assert refused.attributes["server.port"] == int(domain.rpartition(":")[2])
    calls = [each.name for each in _children(spans, second, "CLIENT") if "settle" not in each.name]
    assert calls[:2] == [f"GET {MODEL_PATH}", f"POST {MODEL_PATH}/trainings"]
    for poll in runs[2:]:
        (asked,) = _children(spans, poll, "CLIENT", "GET")
        assert asked.name == f"GET {MODEL_PATH}/iterations/{{uuid}}/training"
    # For a slot it waited too, where the machine was busy.
    (wait,) = [each for each in spans if each.attributes.get("trainmaster.waits_for") == "retry"]
    assert (wait.name, wait.kind) == ("wait", "INTERNAL")
    assert first.ended_ns <= wait.ended_ns == second.begun_ns


def _check_settled(runs: list[Seen], spans: list[Seen]) -> None:
    for run in runs:
        (settled,) = _children(spans, run, "CLIENT", "settle ")
        assert settled.attributes["messaging.operation.type"] == "settle"
        assert settled.attributes["trainmaster.outcome"] == run.attributes["trainmaster.outcome"]
        assert settled.begun_ns == run.ended_ns
        for call in _children(spans, run, "CLIENT"):
            assert call is settled or run.begun_ns <= call.begun_ns <= call.ended_ns <= run.ended_ns


def _check_delivery(spans: list[Seen], deliveries: list[dict[str, str]], url: str) -> None:
    (sent,) = [each for each in spans if each.name == "POST"]
    assert (sent.parent_id, sent.kind) == (PRODUCER, "CLIENT")
    assert sent.resource["service.name"] == "trainmaster-gateway"
    assert sent.attributes["http.response.status_code"] == 204
    assert sent.attributes["server.port"] == int(url.rpartition(":")[2])
    assert sent.attributes["trainmaster.event.type"] == "train.succeeded"
    (headers,) = deliveries
    assert headers["traceparent"] == f"00-{TRACE}-{sent.span_id}-01"
    assert headers["tracestate"] == "shop=1"
