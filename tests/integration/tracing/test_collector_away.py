"""A collector that is away costs no work, few lines, and no time at the end."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import orjson

from tests.console import SCRIPT, Console, start_logged, wait_until
from tests.faults.scenarios.backfills import running_stub
from trainmaster_client import Client
from worker.tracing.sdk import CLOSE_SECONDS

if TYPE_CHECKING:
    from pathlib import Path


COMMANDS = 20


def test_commands_end_while_the_collector_takes_nothing(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    # Takes connections and answers nobody, which is worse than to refuse them.
    with (
        socket.create_server(("127.0.0.1", 0), backlog=64) as silent,
        running_stub(tmp_path) as api,
    ):
        console = Console(
            redis_url,
            namespace,
            ENCORD_DOMAIN=api,
            TRAINMASTER_BEARER_TOKEN="a-token-of-the-tests",
            TRAINMASTER_RESULT_STORE=str(tmp_path / "results"),
            TRAINMASTER_LOG_FORMAT="json",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_BSP_SCHEDULE_DELAY="50",
        )
        log = tmp_path / "worker.log"
        worker = start_logged([str(SCRIPT), "worker"], console.environment, log)
        with Client(redis_url, namespace=namespace) as client:
            ids = client.submit_many([
                {"type": "predict", "data": _prediction(number)} for number in range(COMMANDS)
            ])
            client.wait_all(ids, timeout=60)
        wait_until(lambda: b"tracing.trouble" in log.read_bytes(), "word of the trouble")
        begun = time.monotonic()
        worker.terminate()
        assert worker.wait() == 0, log.read_text()
        assert time.monotonic() - begun < CLOSE_SECONDS + 10
    lines = [orjson.loads(line) for line in log.read_bytes().splitlines() if line[:1] == b"{"]
    told = [line for line in lines if line["event"].startswith("tracing.")]
    assert {line["level"] for line in told} == {"warning"}
    assert len(told) <= 4, told
    assert "Traceback" not in log.read_text()


def _prediction(number: int) -> dict[str, object]:
    return {
        "task": "object_detection",
        "project_uuid": "00000000-0000-0000-0000-000000000001",
        "project_model_uuid": "00000000-0000-0000-0000-000000000002",
        "training_uuid": "00000000-0000-0000-0000-000000000003",
        "data_uuid": f"00000000-0000-0000-0001-{number:012}",
    }
