"""Rules of a machine whose clock is wrong: it fails no deadline, and says what is wrong."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.console import Console, running_worker, wait_until
from tests.moved_clock import NEEDED, can_move, moved_machine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox_process import SandboxProcess

HOUR = 3600
MISSING = "00000000-0000-4000-8000-000000000000"

pytestmark = [
    pytest.mark.skipif(not can_move(), reason=NEEDED),
    pytest.mark.parametrize("wrong", [HOUR, -HOUR], ids=["fast", "slow"]),
]


@pytest.fixture
def console(redis_url: str, namespace: str, sandbox: SandboxProcess, tmp_path: Path) -> Console:
    """A console on a machine whose clock is right."""
    sandbox.faults()
    return Console(
        redis_url,
        namespace,
        ENCORD_DOMAIN=sandbox.told["domain"],
        ENCORD_SSH_KEY_FILE=sandbox.told["key_file"],
        TRAINMASTER_RESULT_STORE=str(tmp_path / "results"),
        TRAINMASTER_LOG_FORMAT="json",
        TRAINMASTER_BREAKER_MIN_SECONDS="0.1",
        TRAINMASTER_SWEEP_SECONDS="0.5",
    )


@pytest.fixture
def machine(console: Console, tmp_path: Path, wrong: int) -> Console:
    """A console, and with it a worker, on a machine whose clock is an hour wrong."""
    environment = {
        name: value
        for name, value in console.environment.items()
        if name not in {"TRAINMASTER_REDIS_URL", "TRAINMASTER_NAMESPACE"}
    }
    return Console(
        console.environment["TRAINMASTER_REDIS_URL"],
        console.namespace,
        **{**environment, **moved_machine(tmp_path / "machine", wrong)},
    )


def lines(log: Path, event: str) -> list[dict[str, Any]]:
    found = [orjson.loads(line) for line in log.read_bytes().splitlines() if b'"event"' in line]
    return [line for line in found if line["event"] == event]


def at(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def is_now(event: dict[str, Any]) -> bool:
    told = datetime.fromisoformat(event["time"])
    return abs((told - datetime.now(UTC)).total_seconds()) < 120


def test_a_worker_on_it_keeps_deadlines_and_notbefore(
    console: Console, machine: Console, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    with running_worker(machine, log):
        in_time = console.run("submit", "--wait", "list_models", "--deadline", "30s", "--json")
        assert in_time.code == 0, in_time.out
        end = in_time.lines[-1]["data"]
        assert end["duration_seconds"] < 60
        late = console.run("submit", "--wait", "list_models", "--deadline", at(-60), "--json")
        assert late.lines[-1]["data"]["error"]["code"] == "deadline_exceeded"
        begun = time.monotonic()
        later = console.run("submit", "--wait", "list_models", "--notbefore", at(3), "--json")
        assert later.code == 0, later.out
        assert time.monotonic() - begun >= 2.9
        wait_until(lambda: len(lines(log, "clock.differs")) >= 2, "both clocks differ")
    (redis, api) = sorted(lines(log, "clock.differs"), key=lambda line: line["other"] != "redis")
    assert (redis["other"], api["other"]) == ("redis", "api")
    said = log.read_text()
    assert said.index("clock.differs") < said.index(" ready."), "at start"


def test_a_worker_on_it_tells_the_time_by_redis(
    console: Console, machine: Console, wrong: int, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    with running_worker(machine, log):
        console.run("submit", "list_models", "--id", "rests", "--notbefore", "1h")
        wait_until(lambda: b"rests" in console.run("events", "--json").out.encode(), "accepted")
        assert machine.run("cancel", "rests").code == 0
        console.run("submit", "-", stdin=b'{"type": "list_models", "data": {}, "id": "c"}')
        other = b'{"type": "list_models", "data": {"order_asc": true}, "id": "c"}'
        console.run("submit", "-", stdin=other)
        failed = console.run("submit", "--wait", "get_model", f"model_uuid={MISSING}", "--json")
        assert failed.code == 1
        events = console.run("events", "--json").lines
    states = {event["type"].partition(".")[2] for event in events}
    assert states >= {"accepted", "cancelled", "rejected", "failed"}
    assert [event for event in events if not is_now(event)] == []
    for letter in console.run("dead-letters", "list", "--json").lines:
        assert abs(letter["at_ms"] / 1000 - time.time()) < 120
    differs = {line["other"]: line["ahead_seconds"] for line in lines(log, "clock.differs")}
    assert abs(differs["redis"] + wrong) < 60


def test_doctor_on_it_warns(machine: Console, wrong: int) -> None:
    found = {line["check"]: line for line in machine.run("doctor", "--json").lines}
    assert found["redis.clock"]["level"] == "fail"
    side = "behind" if wrong > 0 else "ahead of"
    assert f"3600 s {side} this machine" in found["redis.clock"]["message"]
    assert found["api.clock"]["level"] == "fail"


def test_a_replay_from_it_drops_a_deadline_that_has_passed_and_no_other(
    console: Console, machine: Console, tmp_path: Path
) -> None:
    with running_worker(console, tmp_path / "worker.log"):
        console.run("submit", "--wait", "get_model", f"model_uuid={MISSING}", "--deadline", at(600))
        console.run("submit", "--wait", "list_models", "--deadline", at(-600))
    newest_first = console.run("dead-letters", "list", "--json").lines
    keys = [line["key"] for line in reversed(newest_first)]
    assert len(keys) == 2
    made = machine.run("dead-letters", "replay", *keys, "--dry-run", "--json").lines
    assert ["deadline" in line["command"] for line in made] == [True, False]
