"""What probes are answered over HTTP, and by a file."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.registry import Collector
from structlog.testing import capture_logs

from tests.unit.monitoring.clock import Clock
from worker.errors import SettingError
from worker.monitoring import server as module
from worker.monitoring.health import Liveness, Readiness
from worker.monitoring.server import MonitoringServer
from worker.queue.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOST = "127.0.0.1"


class Process:
    """What a server tells of."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.intake = Heartbeat("intake", 20, self.clock)
        self.readiness = Readiness(self.clock)
        self.registry = CollectorRegistry()

    def server(self, **told: Any) -> MonitoringServer:
        return MonitoringServer(Liveness([self.intake]), self.readiness, self.registry, **told)

    @contextmanager
    def serving(self, **told: Any) -> Iterator[httpx.Client]:
        server = self.server(address=(HOST, 0), **told)
        server.start()
        try:
            url = f"http://{HOST}:{server.port}"
            with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
                yield http
        finally:
            server.stop()


@pytest.fixture
def process() -> Process:
    return Process()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def test_a_process_whose_loop_stands_still_is_not_ready_whatever_was_found_last(
    process: Process,
) -> None:
    with process.serving() as http:
        process.intake.beat()
        process.readiness.set({})
        answers = [http.get(path) for path in ("/livez", "/readyz")]
        assert [each.status_code for each in answers] == [200, 200]
        assert [each.json() for each in answers] == [{"status": "alive"}, {"status": "ready"}]
        process.clock.seconds += 21
        process.readiness.set({})
        for path, status in (("/livez", "stands still"), ("/readyz", "not ready")):
            answer = http.get(path)
            assert answer.status_code == 503
            assert answer.json() == {
                "status": status,
                "problems": {"intake": "silent for 21 s; 20 s count"},
            }


def test_what_is_missing_is_named_and_a_process_that_waits_for_it_lives(process: Process) -> None:
    with process.serving() as http:
        process.readiness.set({"redis": "can't be reached"})
        answer = http.get("/readyz")
        assert (answer.status_code, answer.json()["problems"]) == (
            503,
            {"redis": "can't be reached"},
        )
        assert http.get("/livez").status_code == 200
        assert http.get("/metrics/more").status_code == 404


def test_prometheus_is_answered_in_the_format_that_it_asks_for(process: Process) -> None:
    Gauge("slots", "Slots.", registry=process.registry).set(7)
    with process.serving() as http:
        plain = http.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain; version=")
        assert "slots 7.0" in plain.text.splitlines()
        accept = "application/openmetrics-text; version=1.0.0"
        told = http.get("/metrics", headers={"accept": accept})
        assert told.headers["content-type"].startswith("application/openmetrics-text; version=1")
        assert told.text.endswith("# EOF\n")


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=abc", "\xff;q=zz,,;="])
def test_who_asks_for_no_format_that_there_is_gets_the_usual_one(
    process: Process, accept: str
) -> None:
    with process.serving() as http:
        told = http.get("/metrics", headers={b"accept": accept.encode("latin-1")})
    assert (told.status_code, told.headers["content-type"][:20]) == (200, "text/plain; version=")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\r\r\r", 404),
    ],
)
def test_what_is_no_request_is_answered_and_fills_no_log(
    process: Process, caplog: pytest.LogCaptureFixture, request_bytes: bytes, status: int
) -> None:
    """Anyone who reaches the port had a traceback written for twenty bytes."""
    with process.serving() as http:
        url = http.base_url
        with socket.create_connection((url.host, url.port or 0), timeout=30) as strange:
            strange.sendall(request_bytes)
            assert f" {status} ".encode() in strange.recv(4096)
    assert caplog.records == []


def test_a_defect_of_ours_is_told(process: Process) -> None:
    class Broken(Collector):
        def collect(self) -> Iterator[Metric]:
            raise LookupError("ours")

    process.registry.register(Broken())
    with capture_logs() as lines, process.serving() as http:
        assert http.get("/metrics").status_code == 500
    told = [(each["event"], each["log_level"]) for each in lines]
    assert ("monitoring.request_failed", "error") in told


def test_a_port_that_is_taken_is_a_wrong_setting(process: Process) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        server = process.server(address=(HOST, port))
        with pytest.raises(SettingError, match=f"TRAINMASTER_HTTP: {HOST}:{port} can't be.*use"):
            server.start()
        server.stop()


def test_strangers_take_no_more_connections_than_there_is_room_for(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_CONNECTIONS", 2)
    with process.serving() as http:
        address = (http.base_url.host, http.base_url.port or 0)
        with socket.create_connection(address, 30), socket.create_connection(address, 30) as second:
            time.sleep(0.1)  # until both are there
            with socket.create_connection(address, 30) as third:
                assert third.recv(1) == b"", "it ends before it has asked"
            second.close()
            until(lambda: _answers(http))


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


def test_who_holds_a_connection_is_let_go_after_a_while(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONNECTION_SECONDS", 0.3)
    with process.serving() as http:
        address = (http.base_url.host, http.base_url.port or 0)
        begun = time.monotonic()
        with socket.create_connection(address, 30) as held:
            held.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n")
            assert held.recv(1) == b""
        assert 0.25 < time.monotonic() - begun < 20


def test_a_file_is_fresh_while_all_is_well_and_gone_once_it_is_not(
    process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOUCH_SECONDS", 0.01)
    file = tmp_path / "well"
    server = process.server(file=file)
    server.start()
    time.sleep(0.1)
    assert not file.exists(), "nobody has looked yet"
    process.intake.beat()
    for is_late in (False, True):
        process.readiness.set({})
        until(file.exists)
        if is_late:
            process.clock.seconds += 21
        process.readiness.set({} if is_late else {"redis": "away"})
        until(lambda: not file.exists())
        process.intake.beat()
    process.readiness.set({})
    until(file.exists)
    server.stop()
    assert not file.exists()
