"""`/healthz` and `/readyz`, of a gateway in this process and of one in its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest
from redis import Redis as BlockingRedis

from tests.console import wait_until
from tests.gateway_process import running_gateway
from tests.integration.intake_acts import good
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
        for workers in ("1", "2"):
            busy = console.run("gateway", "--port", port, "--workers", workers)
            assert (busy.code, busy.out) == (1, "")
            (line,) = map(json.loads, busy.err.splitlines())
            assert line["event"] == "gateway.refused"
            assert line["message"] == (
                f"127.0.0.1 port {port} can't be listened on: Address already in use; "
                "name another by TRAINMASTER_GATEWAY_HOST and TRAINMASTER_GATEWAY_PORT, "
                "or --host and --port"
            )
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


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("maxmemory", "1", "maxmemory is reached"),
        ("min-replicas-to-write", "1", "too few replicas"),
    ],
)
def test_a_redis_that_takes_no_writes_is_told_as_such_and_not_as_one_that_is_away(
    serve_gateway: ServeGateway, tmp_path: Path, option: str, value: str, said: str
) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server, BlockingRedis.from_url(server.url) as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        with serve_gateway(redis_url=server.url) as gateway:
            assert gateway.http.get("/readyz").status_code == 200
            redis.config_set(option, value)
            ready = gateway.http.get("/readyz")
            assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
            headers = {"content-type": "application/json"}
            one = gateway.http.post("/v1/commands", content=good(), headers=headers)
            many = gateway.http.post("/v1/commands", content=b"[%b]" % good(), headers=headers)
            assert (one.status_code, many.status_code) == (503, 503)
            (item,) = many.json()["items"]
            for detail in (ready.json(), one.json(), item["problem"]):
                assert said in detail["detail"]
                assert "reached," not in detail["detail"]
            redis.config_set(option, "0")
            assert gateway.http.get("/readyz").status_code == 200
            # What is tried changes nothing.
            assert not redis.keys("*trial")


def test_a_folder_that_the_lists_cannot_be_kept_in_is_told(
    serve_gateway: ServeGateway, tmp_path: Path
) -> None:
    blocked = tmp_path / "gateway"
    blocked.write_text("a file where the folder should be")
    with serve_gateway() as gateway:
        http = gateway.http
        wait_until(lambda: http.get("/readyz").status_code == 503, "the folder's trouble")
        for answer in (http.get("/readyz"), http.get("/v1/commands")):
            assert answer.status_code == 503
            assert "TRAINMASTER_GATEWAY_FOLDER" in answer.json()["detail"]
            assert str(tmp_path) not in answer.text
        headers = {"content-type": "application/json"}
        assert http.post("/v1/commands", content=good(), headers=headers).status_code == 202
        blocked.unlink()
        wait_until(lambda: http.get("/readyz").status_code == 200, "the folder")


def test_a_gateway_for_other_machines_says_so_in_a_line_where_redis_is_away(
    console: Console, tmp_path: Path
) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        gone = server.url
    console.environment["TRAINMASTER_REDIS_URL"] = gone
    said = console.run("gateway", "--host", "0.0.0.0", "--port", "0")  # noqa: S104 - it won't
    assert said.code == 1
    assert said.err.startswith("Error: Redis: ")
    assert said.err.count("\n") == 1


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
