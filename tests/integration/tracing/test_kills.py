"""Workers are killed while commands are under way: each span that comes has its parent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.collector import Collector, once, orphans
from tests.console import SCRIPT, Console, running_worker, start_logged, wait_until
from trainmaster_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.console import Process, Served
    from tests.sandbox_process import SandboxProcess

COMMANDS = 6
BUSY = {"operation": "get_model", "effect": "status", "status": 503, "count": COMMANDS}
SLOW = {"operation": "get_model", "effect": "latency", "seconds": 60, "after": COMMANDS}
TRACE, PRODUCER = "c" * 32, "d" * 16
LOADED, KILLS, BUSY_SPANS = 600, 6, 40


@pytest.fixture
def client(traced: Console) -> Iterator[Client]:
    """A producer of the workers' namespace."""
    url = traced.environment["TRAINMASTER_REDIS_URL"]
    with Client(url, namespace=traced.namespace) as opened:
        yield opened


def _send(client: Client, sandbox: SandboxProcess, count: int) -> list[str]:
    """Sends commands, of which every other one names a span of its producer."""
    model_uuid = sandbox.create_model()
    commands = []
    for number in range(count):
        command = {
            "type": "get_model",
            "id": f"look-{number}",
            "data": {"model_uuid": model_uuid},
        }
        if number % 2:
            command["traceparent"] = f"00-{TRACE}-{PRODUCER}-01"
        commands.append(command)
    return [*client.submit_many(commands)]


def _wait_ready(log: Path, starts: int) -> None:
    wait_until(lambda: log.read_bytes().count(b" ready.") >= starts, "a ready worker")


def _wait_busy(collector: Collector) -> None:
    before = len(collector.spans)
    wait_until(lambda: len(collector.spans) > before + BUSY_SPANS, "spans of commands under way")


def _start(traced: Console, log: Path) -> Process:
    return start_logged([str(SCRIPT), "worker"], traced.environment, log)


def test_the_worker_after_a_killed_one_goes_on_with_its_traces(
    served: Served,
    traced: Console,
    collector: Collector,
    client: Client,
    tmp_path: Path,
) -> None:
    sandbox = served.sandbox
    sandbox.faults(BUSY, SLOW)
    killed = _start(traced, tmp_path / "killed.log")
    sandbox.reset_truth()
    ids = _send(client, sandbox, COMMANDS)

    def has_told_first_runs() -> bool:
        return sum(len(collector.named(each, "process ")) for each in ids) == COMMANDS

    wait_until(has_told_first_runs, "the spans of the attempts that failed")
    wait_until(lambda: _calls(sandbox) >= 2 * COMMANDS, "second attempts that hang")
    killed.kill()
    killed.wait()
    sandbox.faults()
    with running_worker(traced, tmp_path / "next.log"):
        client.wait_all(ids, timeout=60)
    spans = once(collector.spans)

    assert orphans(spans, {PRODUCER}) == []
    for number, command_id in enumerate(ids):
        of_it = [
            each for each in spans if each.attributes.get("messaging.message.id") == command_id
        ]
        runs = [each for each in of_it if each.name.startswith("process ")]
        assert [each.attributes["trainmaster.outcome"] for each in runs] == [
            "retrying",
            "succeeded",
        ]
        # Of the run that was killed nothing came but that it was claimed.
        assert [each.attributes["trainmaster.claims"] for each in runs] == [1, 2]
        made = [each for each in of_it if each.name.startswith("create ")]
        if number % 2:
            assert made == []
            assert {each.parent_id for each in runs} == {PRODUCER}
        else:
            (first,) = made
            assert first.kind == "PRODUCER"
            assert first.parent_id == ""
            assert {each.parent_id for each in runs} == {first.span_id}
            # From both workers, and the same from each: `once` has compared them.
            copies = [each for each in collector.spans if each.span_id == first.span_id]
            assert len({each.resource["service.instance.id"] for each in copies}) == 2


def _calls(sandbox: SandboxProcess) -> int:
    calls = sandbox.truth(created="false")["calls"]["get_model"]["total"]
    return int(calls)


@pytest.mark.long
def test_under_load_every_span_has_its_parent_however_often_workers_are_killed(
    served: Served,
    traced: Console,
    collector: Collector,
    client: Client,
    tmp_path: Path,
) -> None:
    sandbox = served.sandbox
    sandbox.faults(
        {**BUSY, "count": LOADED, "probability": 0.3, "seed": 5},
        {**SLOW, "after": 0, "seconds": 0.3},
    )
    # So few at a time that kills find some under way.
    traced.environment["TRAINMASTER_CONCURRENCY"] = "8"
    logs = [tmp_path / f"{number}.log" for number in range(2)]
    workers = [_start(traced, log) for log in logs]
    for log in logs:
        _wait_ready(log, 1)
    ids = _send(client, sandbox, LOADED)
    for kill in range(KILLS):
        number = kill % 2
        _wait_ready(logs[number], 1 + kill // 2)
        _wait_busy(collector)
        workers[number].kill()
        workers[number].wait()
        workers[number] = _start(traced, logs[number])
    client.wait_all(ids, timeout=150)
    for worker in workers:
        worker.terminate()
        assert worker.wait() == 0
    spans = once(collector.spans)

    assert orphans(spans, {PRODUCER}) == []
    ended = {
        each.attributes["messaging.message.id"]
        for each in spans
        if each.attributes.get("trainmaster.outcome") == "succeeded"
    }
    taken_over = [each for each in spans if each.attributes.get("trainmaster.claims", 1) > 1]
    # Those of the last moments before a kill went with their process; all others are told.
    print(  # noqa: T201 - for reports
        f"\n{KILLS} kills, {len(spans)} spans, {len(taken_over)} runs of commands whose worker was "
        f"killed, {len(ended)} of {LOADED} ends told"
    )
    assert taken_over
    assert len(ended) > LOADED // 2
