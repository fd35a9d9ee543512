"""Rules of a key that the API refuses: nothing is burnt, and no restart is needed."""

from __future__ import annotations

import shutil
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.console import SCRIPT, Console, running_worker, wait_until
from tests.integration.ledger_acts import LIST, accept
from tests.signatures import openssh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.sandbox_process import SandboxProcess
    from worker.queue.ledger.ledger import Ledger

REFUSED: dict[str, Any] = {"operation": "*", "effect": "status", "status": 401}
QUICK = {
    "TRAINMASTER_BREAKER_MIN_SECONDS": "0.2",
    "TRAINMASTER_BREAKER_MAX_SECONDS": "0.5",
    "TRAINMASTER_LOG_FORMAT": "json",
    "TRAINMASTER_RETRY_MIN_SECONDS": "0.1",
    "TRAINMASTER_RETRY_MAX_SECONDS": "0.2",
}


@pytest.fixture
def console(redis_url: str, namespace: str, sandbox: SandboxProcess, tmp_path: Path) -> Console:
    sandbox.faults()
    key = tmp_path / "key"
    shutil.copy(sandbox.told["key_file"], key)
    return Console(
        redis_url,
        namespace,
        ENCORD_DOMAIN=sandbox.told["domain"],
        ENCORD_SSH_KEY_FILE=str(key),
        TRAINMASTER_RESULT_STORE=str(tmp_path / "results"),
        **QUICK,
    )


@contextmanager
def starting_worker(console: Console, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a worker that may not become ready."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            [SCRIPT, "worker"], stdout=file, stderr=file, env=console.environment
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert code == 0, log.read_text()


def state(console: Console, command_id: str) -> str:
    lines = console.run("status", command_id, "--json").lines
    return str(lines[0]["state"]) if lines else ""


def history(console: Console, command_id: str) -> list[str]:
    lines = console.run("events", "--json").lines
    return [line["type"] for line in lines if line["subject"] == command_id]


def use_wrong_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(openssh(Ed25519PrivateKey.generate()))


def use_right_key(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """Replaces the file as a rotation does: at once."""
    shutil.copy(sandbox.told["key_file"], tmp_path / "new")
    (tmp_path / "new").rename(tmp_path / "key")


def test_a_worker_with_a_wrong_key_says_so_waits_and_goes_on_once_the_file_is_right(
    console: Console, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    use_wrong_key(tmp_path)
    log = tmp_path / "worker.log"
    console.run("submit", "list_models", "--id", "first")
    with starting_worker(console, log) as process:
        wait_until(lambda: b"api.credentials_refused" in log.read_bytes(), "the alarm")
        assert log.read_bytes().count(b"api.credentials_refused") == 1
        assert process.poll() is None
        assert b"ready." not in log.read_bytes()
        (hold,) = console.run("holds", "--json").lines
        assert (hold["scope"], hold["rest_ms"]) == ("worker", None)
        assert "may belong to another region" in hold["reason"]
        found = {line["check"]: line for line in console.run("doctor", "--json").lines}
        assert found["ledger.refused"]["level"] == "fail"
        use_right_key(sandbox, tmp_path)
        wait_until(lambda: b"ready." in log.read_bytes(), "a ready worker")
        wait_until(lambda: state(console, "first") == "succeeded", "the end")
        assert console.run("holds", "--json").lines == []
    assert history(console, "first") == ["list_models.accepted", "list_models.succeeded"]


async def test_a_worker_that_waits_for_its_key_ends_what_is_late_and_can_be_stopped(
    console: Console, redis: Redis, ledger: Ledger, tmp_path: Path
) -> None:
    await accept(redis, ledger, **LIST, id="late", deadline="2020-01-01T00:00:00Z")
    use_wrong_key(tmp_path)
    log = tmp_path / "worker.log"
    # Where the machine is so busy that its first read has no answer, this has it ask again.
    console.run("submit", "list_models")
    with starting_worker(console, log):
        wait_until(lambda: b"api.credentials_refused" in log.read_bytes(), "the alarm")
        wait_until(lambda: state(console, "late") == "failed", "the end of what is late")
        assert b"ready." not in log.read_bytes()


def test_a_key_that_is_refused_later_burns_nothing_and_needs_no_restart(
    console: Console, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    ids = [f"c-{number}" for number in range(20)]
    log = tmp_path / "worker.log"
    with running_worker(console, log):
        sandbox.faults(REFUSED)
        commands = "\n".join(
            f'{{"id": "{each}", "type": "list_models", "data": {{}}}}' for each in ids
        )
        console.run("submit", "-", stdin=commands.encode())
        late = console.run("submit", "--wait", "list_models", "--deadline", "2s", "--json")
        assert late.lines[-1]["data"]["error"]["code"] == "deadline_exceeded"
        wait_until(lambda: b"api.credentials_refused" in log.read_bytes(), "the alarm")
        assert [state(console, each) for each in ids[:3]] == ["accepted"] * 3
        letters = console.run("dead-letters", "list", "--json").lines
        assert [letter["reason"] for letter in letters] == ["deadline_exceeded"]
        sandbox.faults()
        wait_until(lambda: state(console, ids[-1]) == "succeeded", "the end")
        for each in ids:
            wait_until(lambda: state(console, each) == "succeeded", "all ends")  # noqa: B023
    events = [line for line in console.run("events", "--json").lines if line["subject"] in ids]
    assert len(events) == 40, "each was accepted and has succeeded, and nothing else is told"
    ends = [event for event in events if event["type"] == "list_models.succeeded"]
    assert {event["data"]["attempts"] for event in ends} == {1}


def test_one_worker_with_a_wrong_key_stops_none_that_has_the_right_one(
    console: Console, tmp_path: Path, sandbox: SandboxProcess
) -> None:
    use_wrong_key(tmp_path)
    good = Console(
        console.environment["TRAINMASTER_REDIS_URL"],
        console.namespace,
        **{
            **{name: value for name, value in console.environment.items() if "_" in name},
            "ENCORD_SSH_KEY_FILE": sandbox.told["key_file"],
        },
    )
    bad_log = tmp_path / "bad.log"
    with starting_worker(console, bad_log), running_worker(good, tmp_path / "good.log"):
        wait_until(lambda: b"api.credentials_refused" in bad_log.read_bytes(), "the alarm")
        said = good.run("submit", "--wait", "list_models", "--json")
        assert said.code == 0, said.out


def test_a_401_that_meets_one_command_alone_is_tried_again_and_then_fails_it(
    console: Console, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    """Our own read is not refused, so the key is not to blame; nothing else waits for it."""
    console.environment["TRAINMASTER_MAX_ATTEMPTS"] = "3"
    refused = {**REFUSED, "operation": "get_model"}
    unanswered = {"operation": "list_models", "effect": "status", "status": 503}
    model = sandbox.project()["project_uuid"]
    with running_worker(console, tmp_path / "worker.log"):
        for faults in ([refused], [refused, unanswered]):
            sandbox.faults(*faults)
            said = console.run("submit", "--wait", "get_model", f"model_uuid={model}", "--json")
            assert said.lines[-1]["data"]["error"]["code"] == "not_authenticated"
            assert said.lines[-1]["data"]["attempts"] == 3
        attachments = console.run(
            "submit", "--wait", "list_attachments", f"project_uuid={model}", "--json"
        )
        assert attachments.code == 0, "the worker goes on though its own read has no answer"
        sandbox.faults(refused)
        assert console.run("submit", "--wait", "list_models", "--json").code == 0


def test_a_deletion_that_was_refused_by_401_excuses_no_later_not_found(
    console: Console, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    with running_worker(console, tmp_path / "worker.log"):
        sandbox.faults({**REFUSED, "operation": "delete_model", "count": 1})
        model = sandbox.project()["project_uuid"]
        said = console.run("submit", "--wait", "delete_model", f"model_uuid={model}", "--json")
        assert said.lines[-1]["data"]["error"]["code"] == "not_found"


def test_an_api_that_is_away_keeps_no_worker_from_getting_ready(
    console: Console, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    sandbox.faults({**REFUSED, "status": 503})
    with running_worker(console, tmp_path / "worker.log"):
        sandbox.faults()
        assert console.run("submit", "--wait", "list_models").code == 0
