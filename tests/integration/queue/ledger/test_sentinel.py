"""A primary, a replica and a Sentinel: the primary dies under load, and the work goes on."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from tests.console import Console
from tests.faults.audit import entries
from tests.faults.fleet import QUICK, WorkerProcess, wait_until
from tests.sandbox_process import running_sandbox
from tests.sentinel import PATIENCE_SECONDS, SERVICE, Watched, watched
from trainmaster_client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox_process import SandboxProcess

COMMANDS = 400
PREFIX = "{trainmaster}:"
ENDS = ("succeeded", "failed", "cancelled")


def worker(servers: Watched, sandbox: SandboxProcess, log: Path) -> WorkerProcess:
    return WorkerProcess(
        log,
        {
            **QUICK,
            "TRAINMASTER_REDIS_URL": servers.url,
            "ENCORD_DOMAIN": sandbox.told["domain"],
            "ENCORD_SSH_KEY_FILE": sandbox.told["key_file"],
        },
    )


def events(port: int, password: str) -> list[dict[str, Any]]:
    client = Redis(port=port, password=password)
    found = entries(client, f"{PREFIX}events")
    client.close()
    return [json.loads(fields[b"event"]) for _, fields in found]


def ends(port: int, password: str) -> dict[str, list[str]]:
    """Returns the terminal states by command."""
    found: dict[str, list[str]] = {}
    for event in events(port, password):
        state = event["type"].rpartition(".")[2]
        if state in ENDS:
            found.setdefault(event["subject"], []).append(state)
    return found


def test_a_failover_under_load_loses_nothing_that_the_replica_had(tmp_path: Path) -> None:
    """400 commands, half of them sent and some done when the primary is killed."""
    with (
        running_sandbox(tmp_path / "sandbox") as sandbox,
        watched(tmp_path) as servers,
    ):
        # Slow enough that the failover comes in the middle of the work.
        sandbox.faults({"operation": "*", "effect": "latency", "seconds": 0.5})
        workers = [worker(servers, sandbox, tmp_path / f"worker-{number}.log") for number in (0, 1)]
        try:
            for each in workers:
                each.start()
            wait_until(
                lambda: all(each.ready for each in workers),
                PATIENCE_SECONDS,
                "the workers are ready",
            )
            title = {"model": "resnet18", "features": list(sandbox.features("resnet18"))}
            with Client(servers.url) as producer:
                for number in range(COMMANDS):
                    data = {**title, "title": f"model {number}"}
                    producer.submit("create_model", data, id=f"c-{number}")
            primary = Redis.from_url(servers.primary.url)
            # What was acknowledged to the producer has reached the replica from here on.
            assert primary.wait(1, 10_000) == 1
            wait_until(
                lambda: len(ends(servers.primary.port, servers.password)) > COMMANDS // 10,
                PATIENCE_SECONDS,
                "some have ended",
            )
            assert primary.wait(1, 10_000) == 1
            done_before = ends(servers.primary.port, servers.password)
            servers.primary.end(signal.SIGKILL)
            primary.close()
            assert len(done_before) < COMMANDS
            took = wait_until(
                lambda: servers.leader_port() == servers.replica.port,
                PATIENCE_SECONDS,
                "the replica leads",
            )
            back = wait_until(
                lambda: len(ends(servers.replica.port, servers.password)) > len(done_before),
                PATIENCE_SECONDS,
                "work goes on",
            )
            wait_until(
                lambda: len(ends(servers.replica.port, servers.password)) >= COMMANDS,
                PATIENCE_SECONDS,
                "all have ended",
            )
            print(  # noqa: T201 - figures for whoever runs this
                f"\n{COMMANDS} commands, {len(done_before)} ended before the failover; the replica "
                f"led after {took:.1f} s, the next command ended {back:.1f} s later"
            )
            assert all(each.alive and each.starts == 1 for each in workers)
            codes = [each.terminate()[0] for each in workers]
        finally:
            for each in workers:
                each.kill()
        told = ends(servers.replica.port, servers.password)
        models = sandbox.truth()["created"]["models"]
        logs = "".join(each.log.read_text() for each in workers)
    assert codes == [0, 0]
    assert set(told) == {f"c-{number}" for number in range(COMMANDS)}
    assert [states for states in told.values() if len(states) != 1] == []
    titles = [model["title"] for model in models]
    assert len(titles) == len(set(titles))
    for secret in (servers.password, servers.sentinel_password):
        assert secret not in logs


def test_the_console_finds_the_leader_and_shows_no_password(tmp_path: Path) -> None:
    with watched(tmp_path) as servers:
        console = Console(servers.url, "trainmaster")
        assert console.run("submit", "list_models", "--id=one").code == 0
        client = Redis.from_url(servers.primary.url)
        assert client.xlen(f"{PREFIX}commands") == 1
        client.close()
        wrong = servers.url.replace(f"service={SERVICE}", "service=nobody")
        said = console.run("list", environment={"TRAINMASTER_REDIS_URL": wrong})
    assert said.code == 1
    (line,) = said.err.splitlines()
    assert "nobody" in line
    for secret in (servers.password, servers.sentinel_password):
        assert secret not in line


@pytest.mark.parametrize("what", ["sentinel_password", "password"])
def test_a_wrong_password_of_sentinel_or_server_is_a_line(tmp_path: Path, what: str) -> None:
    with watched(tmp_path) as servers:
        right = servers.sentinel_password if what == "sentinel_password" else servers.password
        console = Console(servers.url.replace(right, "wr0ng-s3cret"), "trainmaster")
        said = console.run("list")
    assert said.code == 1
    assert len(said.err.splitlines()) == 1
    assert "s3cret" not in said.err
