"""What a real worker tells probes and Prometheus in every kind of trouble."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.fleet import Fleet, wait_until
from tests.faults.workload import COMMANDS
from worker.monitoring.ledger_sample import metric_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.fleet import WorkerProcess

# A busy machine is no defect; the docs tell how long each takes on one that is not.
PATIENT_SECONDS = 90.0
NOBODY = 0


class Probe:
    """Asks a worker as an orchestrator does."""

    def __init__(self, worker: WorkerProcess, file: Path) -> None:
        self.worker = worker
        self.file = file

    def ask(self, path: str) -> tuple[int, str]:
        """Returns status and body; 0 where nobody answers in time."""
        try:
            reply = httpx.get(f"http://127.0.0.1:{self.worker.http_port}{path}", timeout=2)
        except httpx.TransportError:
            return NOBODY, ""
        return reply.status_code, reply.text

    def until(self, path: str, status: int, *, says: str = "") -> str:
        """Waits for an answer; returns its body."""

        def holds() -> bool:
            found = self.ask(path)
            return found[0] == status and says in found[1]

        wait_until(holds, PATIENT_SECONDS, f"{path} answers {status} {says}")
        return self.ask(path)[1]

    def fresh(self) -> bool:
        """Whether the file tells that all is well, by the rule of the docs."""
        return self.file.exists() and time.time() - self.file.stat().st_mtime < 15

    def series(self) -> dict[str, float]:
        """Returns what Prometheus scrapes."""
        status, text = self.ask("/metrics")
        assert status == 200
        return {
            sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def fleet_of_one(folder: Path, **more: str) -> Fleet:
    return Fleet(
        folder,
        1,
        settings={
            "TRAINMASTER_HTTP": "127.0.0.1:0",
            "TRAINMASTER_HEALTH_FILE": str(folder / "healthy"),
            **more,
        },
    )


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One for all tests but the last: each leaves it as it was."""
    with fleet_of_one(tmp_path_factory.mktemp("probes")) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def probe(fleet: Fleet) -> Probe:
    made = Probe(fleet.workers[0], fleet.folder / "healthy")
    made.until("/readyz", 200)
    wait_until(made.fresh, PATIENT_SECONDS, "the file tells that all is well")
    return made


def test_a_scrape_of_a_real_run_has_every_metric_of_the_table_and_no_other(
    fleet: Fleet, probe: Probe
) -> None:
    commands: list[dict[str, Any]] = [
        {"type": "list_models", "data": {}},
        {"type": "list_models", "data": {}, "priority": "bulk"},
        {"type": "get_model", "data": {"model_uuid": "00000000-0000-4000-8000-000000000000"}},
    ]
    fleet.sandbox.faults({
        "operation": "list_models",
        "effect": "status",
        "status": 503,
        "count": 1,
    })
    for number, command in enumerate(commands):
        fleet.client.xadd(COMMANDS, {"command": json.dumps({"id": f"m-{number}", **command})})
    fleet.client.xadd(COMMANDS, {"command": "no JSON"})

    def ended() -> bool:
        found = probe.series()
        return (
            sum(
                value
                for name, value in found.items()
                if name.startswith("trainmaster_commands_ended_total")
            )
            == len(commands)
            and found["trainmaster_commands_rejected_total{}"] == 1
        )

    wait_until(ended, PATIENT_SECONDS, "all have ended")
    rows = {row.name: row for row in metric_rows()}
    _, text = probe.ask("/metrics")
    families = {
        f"{family.name}_total" if family.type == "counter" else family.name: family
        for family in text_string_to_metric_families(text)
    }
    assert set(families) == set(rows)
    for name, family in families.items():
        assert family.type == rows[name].kind
        assert family.documentation == rows[name].meaning
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= set(rows[name].labels), name
    found = probe.series()
    told = json.dumps({"command_type": "get_model", "outcome": "failed"}, sort_keys=True)
    assert found[f"trainmaster_commands_ended_total{told}"] == 1
    assert found['trainmaster_command_failures_total{"code": "not_found"}'] == 1
    assert found['trainmaster_dead_letters_total{"code": "not_json"}'] == 1
    assert found['trainmaster_dead_letters_total{"code": "not_found"}'] == 1
    assert found["trainmaster_dead_letters_kept{}"] == 2
    assert found['trainmaster_due_now{"lane": "bulk"}'] == 0
    assert found["trainmaster_redis_up{}"] == 1
    told = json.dumps({"operation": "get_model", "status": "404"}, sort_keys=True)
    assert found[f"trainmaster_api_requests_total{told}"] == 1
    assert found['trainmaster_runs_total{"command_type": "list_models", "outcome": "retried"}'] == 1
    assert found['trainmaster_events_published_total{"state": "retrying"}'] == 1
    assert found["trainmaster_settling_seconds_count{}"] == 4
    demand = "trainmaster_worker_demand{}"
    wait_until(lambda: probe.series()[demand] == 0, PATIENT_SECONDS, "no worker is needed")


def test_a_frozen_process_answers_nobody_and_its_file_grows_old(fleet: Fleet, probe: Probe) -> None:
    fleet.workers[0].send(signal.SIGSTOP)
    assert probe.ask("/livez")[0] == NOBODY
    wait_until(lambda: not probe.fresh(), 30, "the file is old")
    fleet.workers[0].send(signal.SIGCONT)
    probe.until("/readyz", 200)
    wait_until(probe.fresh, PATIENT_SECONDS, "the file is fresh again")


def test_without_redis_it_lives_but_is_not_ready(fleet: Fleet, probe: Probe) -> None:
    fleet.redis.kill()
    told = probe.until("/readyz", 503, says="redis")
    assert fleet.secrets()["redis password"] not in told
    wait_until(lambda: not probe.file.exists(), PATIENT_SECONDS, "the file is gone")
    assert probe.ask("/livez") == (200, '{"status":"alive"}')
    assert probe.series()["trainmaster_redis_up{}"] == 0
    fleet.redis.start()
    probe.until("/readyz", 200)
    wait_until(probe.fresh, PATIENT_SECONDS, "the file is back")


def test_a_result_store_that_takes_nothing_makes_it_unready(fleet: Fleet, probe: Probe) -> None:
    store = fleet.folder / "results"
    shutil.rmtree(store)
    store.write_text("no folder")
    probe.until("/readyz", 503, says="result_store")
    store.unlink()
    probe.until("/readyz", 200)


def test_a_lane_that_is_paused_for_the_key_makes_it_unready(fleet: Fleet, probe: Probe) -> None:
    client: Any = fleet.client
    paused = "{trainmaster}:paused:bulk"
    pause = {"reason": "all fails", "until": 2**45, "probe_ms": 2**40, "code": "not_found"}
    client.hset(paused, mapping=pause)
    time.sleep(6)
    assert probe.ask("/readyz")[0] == 200, "what fails for its data is no matter of the worker"
    client.hset(paused, "code", "not_authorised")
    probe.until("/readyz", 503, says="the API refuses us: bulk")
    assert probe.series()['trainmaster_lane_paused{"lane": "bulk"}'] == 1
    client.delete(paused)
    probe.until("/readyz", 200)


def test_with_a_key_that_the_api_refuses_it_lives_but_is_not_ready(tmp_path: Path) -> None:
    with fleet_of_one(tmp_path, TRAINMASTER_BEARER_TOKEN="wrong") as fleet:
        probe = Probe(fleet.workers[0], tmp_path / "healthy")
        probe.until("/readyz", 503, says="credentials")
        assert probe.ask("/livez")[0] == 200


def test_a_loop_that_stands_still_is_told_by_a_thread_that_does_not(tmp_path: Path) -> None:
    with fleet_of_one(tmp_path, FAILPOINT="run.before/stall:stall:1") as fleet:
        fleet.wait_ready()
        probe = Probe(fleet.workers[0], tmp_path / "healthy")
        probe.until("/readyz", 200)
        command = {"id": "stall", "type": "list_models", "data": {}}
        fleet.client.xadd(COMMANDS, {"command": json.dumps(command)})
        probe.until("/livez", 503, says="loop")
        probe.until("/livez", 200)
        probe.until("/readyz", 200)


@pytest.mark.long
def test_a_consumer_of_celerys_that_stands_still_is_told(tmp_path: Path) -> None:
    with fleet_of_one(tmp_path, FAILPOINT="hub:stall:1") as fleet:
        probe = Probe(fleet.workers[0], tmp_path / "healthy")
        probe.until("/livez", 503, says="celery")
        probe.until("/livez", 200)


def test_who_is_told_to_stop_is_not_ready_while_it_finishes_what_runs(tmp_path: Path) -> None:
    with fleet_of_one(tmp_path) as fleet:
        fleet.wait_ready()
        probe = Probe(fleet.workers[0], tmp_path / "healthy")
        probe.until("/readyz", 200)
        # Longer than a look and than the file is trusted, and shorter than it waits at a stop.
        fleet.sandbox.faults({"operation": "create_model", "effect": "latency", "seconds": 8})
        data = {"title": "slow", "model": "resnet18", "features": ["a"]}
        command = {"id": "slow", "type": "create_model", "data": data}
        fleet.client.xadd(COMMANDS, {"command": json.dumps(command)})
        running = "trainmaster_slots_used{}"
        wait_until(lambda: probe.series()[running] == 1, PATIENT_SECONDS, "it runs")
        time.sleep(1)
        fleet.workers[0].send(signal.SIGTERM)
        probe.until("/readyz", 503, says="stop")
        assert probe.ask("/livez")[0] == 200
        wait_until(lambda: not fleet.workers[0].alive, PATIENT_SECONDS, "it has ended")
        assert not probe.file.exists()


def test_before_it_has_met_redis_it_lives_but_is_not_ready(tmp_path: Path) -> None:
    with fleet_of_one(tmp_path) as fleet:
        worker = fleet.workers[0]
        worker.kill()
        worker.log.unlink()
        fleet.redis.kill()
        worker.start()
        probe = Probe(worker, tmp_path / "healthy")
        probe.until("/readyz", 503, says="start")
        assert probe.ask("/livez")[0] == 200
        fleet.redis.start()
        probe.until("/readyz", 200)


def test_strangers_who_hold_connections_take_nothing_from_it(probe: Probe) -> None:
    """They would take the files that its runs need, and fill its log."""
    address = ("127.0.0.1", probe.worker.http_port)
    log = probe.worker.log.stat().st_size
    files = Path(f"/proc/{probe.worker.pid}/fd")
    before = len(list(files.iterdir()))
    held = []
    for _ in range(200):
        each = socket.create_connection(address)
        with suppress(OSError):
            each.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n")
        held.append(each)
    time.sleep(1)
    assert len(list(files.iterdir())) < before + 64
    wait_until(lambda: probe.ask("/livez")[0] == 200, PATIENT_SECONDS, "probes have room again")
    for each in held:
        each.close()
    assert probe.worker.log.stat().st_size - log < 10_000


def test_the_end_of_what_waits_is_counted_as_no_run(fleet: Fleet, probe: Probe) -> None:
    before = probe.series()
    deadline = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    attributes = {"notbefore": "2100-01-01T00:00:00Z", "deadline": deadline}
    command = {"id": "late", "type": "list_models", "data": {}, **attributes}
    fleet.client.xadd(COMMANDS, {"command": json.dumps(command)})
    letters = 'trainmaster_dead_letters_total{"code": "deadline_exceeded"}'
    wait_until(lambda: probe.series()[letters] == 1, PATIENT_SECONDS, "it is a dead letter")
    found = probe.series()
    published = 'trainmaster_events_published_total{"state": "failed"}'
    assert found[published] == before[published] + 1
    failed = 'trainmaster_runs_total{"command_type": "list_models", "outcome": "failed"}'
    assert found.get(failed, 0) == before.get(failed, 0)


def test_a_port_that_is_taken_is_told_and_ends_it(fleet: Fleet, probe: Probe) -> None:
    fleet.add_workers(1)
    second = fleet.workers[1]
    second.kill()
    second.environment["TRAINMASTER_HTTP"] = f"127.0.0.1:{probe.worker.http_port}"
    second.start()
    wait_until(lambda: not second.alive, PATIENT_SECONDS, "it has ended")
    fleet.workers.remove(second)
    assert second.process is not None
    assert second.process.returncode == 2
    assert f"TRAINMASTER_HTTP: 127.0.0.1:{probe.worker.http_port}" in second.log.read_text()


def test_a_lost_ledger_ends_the_process(fleet: Fleet, probe: Probe) -> None:
    fleet.client.flushall()
    wait_until(lambda: not fleet.workers[0].alive, PATIENT_SECONDS, "the worker has ended")
    assert probe.ask("/livez")[0] == NOBODY
    assert not probe.file.exists()
