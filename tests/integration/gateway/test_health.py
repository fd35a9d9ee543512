"""`/healthz` and `/readyz`, of a gateway in this process and of one in its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from tests.gateway_process import running_gateway
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from pathlib import Path

    from tests.console import Console
    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import ServeGateway


def test_a_gateway_lives_and_is_ready(gateway: GatewayServer) -> None:
    assert gateway.http.get("/healthz").json() == {"status": "alive"}
    assert gateway.http.get("/readyz").json() == {"status": "ready"}


def test_a_gateway_without_redis_lives_and_is_not_ready(
    serve_gateway: ServeGateway, tmp_path: Path
) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        gone = server.url
    with serve_gateway(redis_url=gone) as gateway:
        assert gateway.http.get("/healthz").status_code == 200
        answer = gateway.http.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


def test_a_gateway_that_can_not_start_says_why_and_fails(console: Console, tmp_path: Path) -> None:
    with running_gateway(console, tmp_path / "gateway.log") as gateway:
        port = gateway.url.rpartition(":")[2]
        busy = console.run("gateway", "--port", port)
        assert busy.code == 1
        assert "address already in use" in busy.err
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    for file in (certificate, key):
        file.write_text("s3cret")
    wrong = console.run(
        "gateway",
        environment={
            "TRAINMASTER_GATEWAY_TLS_CERT_FILE": str(certificate),
            "TRAINMASTER_GATEWAY_TLS_KEY_FILE": str(key),
        },
    )
    assert wrong.code == 2
    (line,) = wrong.err.splitlines()
    assert line.startswith("trainmaster: TRAINMASTER_GATEWAY_TLS_CERT_FILE and ")
    assert "s3cret" not in line


def test_a_killed_gateway_serves_again_on_its_port(console: Console, tmp_path: Path) -> None:
    with running_gateway(console, tmp_path / "gateway.log") as gateway:
        url = gateway.url
        assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
        gateway.kill()
        gateway.start()
        assert gateway.url == url
        assert httpx.get(f"{url}/readyz", trust_env=False).json() == {"status": "ready"}


def test_several_processes_listen_together_and_end_with_their_parent(
    console: Console, tmp_path: Path
) -> None:
    with running_gateway(console, tmp_path / "gateway.log", "--workers", "2") as gateway:
        answers = [httpx.get(f"{gateway.url}/readyz", trust_env=False) for _ in range(8)]
        assert [answer.status_code for answer in answers] == [200] * 8
        gateway.kill()
        # Who still listened would keep the port from the next one.
        gateway.start()
        assert httpx.get(f"{gateway.url}/readyz", trust_env=False).status_code == 200
