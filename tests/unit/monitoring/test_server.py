"""What probes are answered over HTTP."""

from __future__ import annotations

import httpx
from prometheus_client import CollectorRegistry

from tests.unit.monitoring.clock import Clock
from worker.monitoring.health import Liveness, Readiness
from worker.monitoring.server import MonitoringServer
from worker.queue.heartbeat import Heartbeat


def test_a_process_whose_loop_stands_still_is_not_ready_whatever_was_found_last() -> None:
    clock = Clock()
    loop, readiness = Heartbeat("intake", 20, clock), Readiness(clock)
    server = MonitoringServer(
        Liveness([loop]), readiness, CollectorRegistry(), address=("127.0.0.1", 0)
    )
    server.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as http:
            loop.beat()
            readiness.set({})
            assert [http.get(path).status_code for path in ("/livez", "/readyz")] == [200, 200]
            clock.seconds += 21
            readiness.set({})
            for path in ("/livez", "/readyz"):
                answer = http.get(path)
                assert answer.status_code == 503
                assert answer.json()["problems"] == {"intake": "silent for 21 s; 20 s count"}
    finally:
        server.stop()
