"""Real workers tell of themselves, without `--http`; what died is forgotten."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

from tests.console import Console
from tests.faults.fleet import Fleet, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = "{trainmaster}:workers"
PATIENT_SECONDS = 90.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers that answer nobody over HTTP."""
    settings = {"TRAINMASTER_CONCURRENCY": "7", "TRAINMASTER_BREAKER_FAILURES": "1"}
    with Fleet(tmp_path_factory.mktemp("presence"), 2, settings=settings) as running:
        running.wait_ready()
        yield running


def shown(fleet: Fleet) -> dict[int, dict[str, Any]]:
    """Returns what `trainmaster workers` shows, by pid."""
    said = Console(fleet.redis.url, "trainmaster").run("workers", "--json")
    assert said.code == 0, said.err
    return {each["pid"]: each for each in said.lines}


def test_a_worker_tells_what_it_is(fleet: Fleet) -> None:
    pids = {worker.pid for worker in fleet.workers}
    wait_until(lambda: shown(fleet).keys() == pids, PATIENT_SECONDS, "both are shown")
    found = shown(fleet)[fleet.workers[0].pid]
    assert found["host"] == os.uname().nodename
    assert found["version"] == version("trainmaster")
    assert found["python"] == sys.version.partition(" ")[0]
    assert (found["slots"], found["slots_used"]) == (7, 0)
    assert (found["breaker_open"], found["stopping"]) == (False, False)
    assert abs(found["started_ms"] / 1000 - time.time()) < PATIENT_SECONDS
    consumers = fleet.client.xinfo_consumers("{trainmaster}:commands", "intake")
    assert {each["name"].decode() for each in consumers} == {
        each["name"] for each in shown(fleet).values()
    }
    table = Console(fleet.redis.url, "trainmaster").run("workers")
    assert found["name"] in table.out
    assert "0 of 7" in table.out


def test_a_worker_tells_of_its_breaker_its_slots_and_its_lag(fleet: Fleet) -> None:
    first = fleet.workers[0].pid
    slow = {"operation": "list_models", "effect": "latency", "seconds": 8, "count": 1}
    fleet.sandbox.faults(slow)
    command = {"type": "list_models", "id": "slow", "data": {}}
    fleet.client.xadd("{trainmaster}:commands", {"command": json.dumps(command)})
    wait_until(
        lambda: sum(each["slots_used"] for each in shown(fleet).values()) == 1,
        PATIENT_SECONDS,
        "a slot is used",
    )
    os.kill(first, signal.SIGSTOP)
    time.sleep(2)
    os.kill(first, signal.SIGCONT)
    wait_until(
        lambda: shown(fleet)[first]["loop_lag_seconds"] > 1, PATIENT_SECONDS, "its loop was late"
    )
    wait_until(
        lambda: shown(fleet)[first]["loop_lag_seconds"] < 1, PATIENT_SECONDS, "it is in time again"
    )


def test_what_redis_does_not_take_hurts_no_worker(fleet: Fleet) -> None:
    fleet.client.delete(WORKERS)
    fleet.client.set(WORKERS, "something else")
    wait_until(
        lambda: all("presence_refused" in each.log.read_text() for each in fleet.workers),
        PATIENT_SECONDS,
        "both were refused",
    )
    assert all(worker.alive for worker in fleet.workers)
    fleet.client.delete(WORKERS)
    wait_until(lambda: len(shown(fleet)) == 2, PATIENT_SECONDS, "both are shown again")
    fleet.redis.kill()
    time.sleep(1)
    fleet.redis.start()
    fleet.client.delete(WORKERS)
    wait_until(lambda: len(shown(fleet)) == 2, PATIENT_SECONDS, "both are shown again")
    assert all(worker.alive for worker in fleet.workers)


@pytest.mark.long
def test_a_worker_that_stops_is_gone_at_once_and_one_that_died_within_fifteen_seconds(
    fleet: Fleet,
) -> None:
    stopped, killed = fleet.workers
    pids = {stopped.pid, killed.pid}
    wait_until(lambda: shown(fleet).keys() == pids, PATIENT_SECONDS, "both are shown")
    assert stopped.terminate()[0] == 0
    assert shown(fleet).keys() == {killed.pid}
    killed.kill()
    took = wait_until(lambda: not shown(fleet), PATIENT_SECONDS, "none is shown")
    assert 5 < took < 20
