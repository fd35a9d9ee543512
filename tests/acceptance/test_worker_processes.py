"""`trainmaster worker --processes 2`: as one worker would, on two cores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.console import SCRIPT
from tests.faults.fleet import Fleet, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 120
COMMANDS = "{trainmaster}:commands"
EVENTS = "{trainmaster}:events"


class Workers:
    """Two workers beneath one process, and what is around them."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.log = fleet.folder / "workers.log"
        self.file = fleet.folder / "healthy"
        environment = {
            **os.environ,
            **fleet.environment(),
            "TRAINMASTER_HTTP": "127.0.0.1:0",
            "TRAINMASTER_HEALTH_FILE": str(self.file),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [SCRIPT, "worker", "--processes", "2", "--name", "gpu@%h"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def children(self) -> list[int]:
        pid = self.process.pid
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def is_fresh(self) -> bool:
        return self.file.exists() and time.time() - self.file.stat().st_mtime < 15

    def run(self, *ids: str) -> None:
        """Sends commands and waits until each has succeeded."""
        for each in ids:
            command = {"id": each, "type": "list_models", "data": {}}
            self.fleet.client.xadd(COMMANDS, {"command": json.dumps(command)})
        wait_until(lambda: self.succeeded() >= set(ids), PATIENCE_SECONDS, f"{ids} succeeded")

    def succeeded(self) -> set[str]:
        entries: Any = self.fleet.client.xrange(EVENTS)
        events = [json.loads(fields[b"event"]) for _, fields in entries]
        return {event["subject"] for event in events if event["type"] == "list_models.succeeded"}


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with Fleet(tmp_path, 0) as fleet:
        made = Workers(fleet)
        yield made
        made.process.kill()
        made.process.wait()


def test_two_processes_run_commands_and_one_that_is_killed_comes_again(workers: Workers) -> None:
    workers.fleet.wait_ready(2)
    wait_until(workers.is_fresh, PATIENCE_SECONDS, "the file tells that both are well")
    workers.run("one", "two")
    first = workers.children()
    assert len(first) == 2
    os.kill(first[0], signal.SIGSTOP)
    wait_until(lambda: not workers.file.exists(), PATIENCE_SECONDS, "one is not well")
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: len(set(workers.children()) - {first[0]}) == 2, PATIENCE_SECONDS, "another")
    wait_until(workers.is_fresh, PATIENCE_SECONDS, "both are well again")
    workers.run("three", "four")
    begun = time.monotonic()
    workers.process.send_signal(signal.SIGTERM)
    assert workers.process.wait(PATIENCE_SECONDS) == 0
    assert time.monotonic() - begun < 60, "nothing had to be waited for"
    assert list(workers.fleet.folder.glob("healthy*")) == []
    said = [json.loads(line) for line in workers.log.read_text().splitlines()]
    assert {line["event"] for line in said} >= {"processes.died", "monitoring.listening"}
    ready = " ".join(line["event"] for line in said if line["event"].endswith(" ready."))
    assert "gpu-1@" in ready
    assert "gpu-2@" in ready


def test_a_wrong_key_ends_both_with_2(tmp_path: Path) -> None:
    with Fleet(tmp_path, 0) as fleet:
        environment = {**os.environ, **fleet.environment()}
        environment["TRAINMASTER_REDIS_URL"] = fleet.redis.url.replace("://", "://nobody:")
        done = subprocess.run(
            [SCRIPT, "worker", "--processes", "2"],
            env=environment,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert done.returncode == 2
    assert b"worker.refused" in done.stdout + done.stderr


def test_there_must_be_a_port_for_each(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TRAINMASTER_REDIS_URL": "redis://127.0.0.1:1/0",
        "TRAINMASTER_BEARER_TOKEN": "t",
    }
    done = subprocess.run(
        [SCRIPT, "worker", "--processes", "2", "--http", "127.0.0.1:65535"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"trainmaster: TRAINMASTER_HTTP (--http) names a port")
