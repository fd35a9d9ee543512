"""Celery's own tools on our app: its worker command, `inspect`, `status`, and Flower."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from tests.acceptance.senders import foreign_celery
from tests.console import TIMEOUT_SECONDS, Console, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.embedded import EmbeddedRedis

CELERY = [str(Path(sys.executable).parent / "celery"), "-A", "worker.app"]
ROOT = Path(__file__).parents[2]
TASKS = {"trainmaster.run", "trainmaster.submit"}
TOKEN = "t0ken-of-nobody"
NODE = "celery@tools"


@contextmanager
def celery(console: Console, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command of Celery that goes on, as a user would: beside the code, with settings."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*CELERY, *arguments], stdout=file, stderr=file, env=console.environment, cwd=ROOT
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(TIMEOUT_SECONDS)


def ask(console: Console, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a command of Celery to its end."""
    return subprocess.run(
        [*CELERY, *arguments],
        capture_output=True,
        env=console.environment,
        cwd=ROOT,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def settings(redis_server: EmbeddedRedis, namespace: str) -> Console:
    return Console(
        redis_server.url,
        namespace,
        TRAINMASTER_BEARER_TOKEN=TOKEN,
        ENCORD_DOMAIN="http://127.0.0.1:9",
        TRAINMASTER_LOG_FORMAT="json",
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tools") / "worker.log"


@pytest.fixture(scope="module")
def tools(redis_server: EmbeddedRedis, log: Path) -> Iterator[Console]:
    """A worker that Celery's own command started, with our settings and one that is none now."""
    console = settings(redis_server, "tools")
    console.environment["TRAINMASTER_PLACES"] = "4"
    with celery(console, log, "worker", "-n", "tools") as process:
        wait_until(lambda: b"ready." in log.read_bytes() or process.poll() is not None, "a worker")
        assert process.poll() is None, log.read_text()
        yield console
    assert process.returncode == 0, log.read_text()
    assert TOKEN not in log.read_text()


def inspect(console: Console, what: str) -> Any:
    done = ask(console, "inspect", what, "--json", "--timeout", "10", "--destination", NODE)
    assert done.returncode == 0, done.stderr.decode()
    return orjson.loads(done.stdout)[NODE]


def test_the_worker_answers_ping(tools: Console) -> None:
    assert inspect(tools, "ping") == {"ok": "pong"}


@pytest.mark.usefixtures("tools")
def test_a_worker_warns_of_a_setting_that_is_none_and_names_the_one_that_may_be_meant(
    log: Path,
) -> None:
    lines = [orjson.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line["event"] == "worker.setting_unknown"]
    assert (line["level"], line["setting"]) == ("warning", "TRAINMASTER_PLACES")
    assert line["advice"] == "did you mean TRAINMASTER_CONCURRENCY?"


@pytest.mark.usefixtures("tools")
def test_a_worker_says_that_its_api_is_away_and_that_it_needs_no_rights(log: Path) -> None:
    """It is ready all the same: else whoever names a wrong port would learn it from a command."""
    lines = [orjson.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (unknown,) = [line for line in lines if line["event"] == "api.credentials_unknown"]
    assert "127.0.0.1:9" in unknown["message"]
    told = [line["level"] for line in lines if line["event"] == "worker.runs_as_root"]
    assert told == (["warning"] if os.geteuid() == 0 else [])


def test_both_tasks_are_registered(tools: Console) -> None:
    assert set(inspect(tools, "registered")) == TASKS


def test_what_runs_is_listed(tools: Console) -> None:
    """At rest nothing runs: a drain ends when nothing is due."""
    wait_until(lambda: inspect(tools, "active") == [], "a worker at rest")


def test_status_lists_the_worker(tools: Console) -> None:
    done = ask(tools, "status", "--timeout", "3")
    assert done.returncode == 0
    assert f"{NODE}: OK" in done.stdout.decode()
    assert "1 node online" in done.stdout.decode()


def test_without_a_pool_named_the_tasks_run_in_threads(tools: Console) -> None:
    assert inspect(tools, "stats")["pool"]["implementation"] == "celery.concurrency.thread:TaskPool"


def test_a_submission_of_another_celery_app_is_taken(tools: Console) -> None:
    app = foreign_celery(tools.environment["TRAINMASTER_REDIS_URL"], "tools")
    # Its deadline has passed: the command ends without a call of the API.
    command = {
        "type": "list_models",
        "id": "of-another-app",
        "deadline": "2020-01-01T00:00:00Z",
        "data": {},
    }
    app.send_task("trainmaster.submit", args=[command])
    app.close()
    wait_until(
        lambda: '"failed"' in tools.run("status", "--json", "of-another-app").out,
        "the command has ended",
    )


def test_a_bulk_submission_that_a_worker_takes_as_a_task_goes_to_the_stream_for_bulk(
    tools: Console,
) -> None:
    """Someone has routed it to the queue of wake-ups; its origin tells the stream."""
    app = foreign_celery(tools.environment["TRAINMASTER_REDIS_URL"], "tools")
    for command_id, priority in (("common", "interactive"), ("bulky", "bulk")):
        command = {"type": "list_models", "id": command_id, "priority": priority, "data": {}}
        command["notbefore"] = "2999-01-01T00:00:00Z"
        app.send_task("trainmaster.submit", args=[command], queue="wake")
    app.close()

    def origins() -> dict[str, bool]:
        lines = tools.run("events", "--type", "accepted", "--json").lines
        return {line["subject"]: line["id"].startswith("b") for line in lines}

    wait_until(lambda: {"common", "bulky"} <= origins().keys(), "both are accepted")
    assert (origins()["common"], origins()["bulky"]) == (False, True)


def test_a_submission_whose_id_is_null_that_a_worker_takes_as_a_task_twice_is_one_command(
    tools: Console,
) -> None:
    """The id of the task serves, which Celery may deliver twice."""
    app = foreign_celery(tools.environment["TRAINMASTER_REDIS_URL"], "tools")
    command: dict[str, Any] = {
        "type": "list_models",
        "id": None,
        "data": {},
        "notbefore": "2999-01-01T00:00:00Z",
    }
    for _ in range(2):
        app.send_task("trainmaster.submit", args=[command], queue="wake", task_id="of-the-task")
    app.close()

    def accepted() -> list[str]:
        lines = tools.run("events", "--type", "accepted", "--json").lines
        return [line["subject"] for line in lines]

    wait_until(lambda: "of-the-task" in accepted(), "it is accepted")
    assert accepted().count("of-the-task") == 1


def test_flower_shows_the_worker(tools: Console, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tools.environment["FLOWER_UNAUTHENTICATED_API"] = "true"
    arguments = ("flower", "--address=127.0.0.1", f"--port={port}", "--inspect_timeout=5000")
    log = tmp_path / "flower.log"
    with (
        celery(tools, log, *arguments) as flower,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        seen: dict[str, Any] = {}

        def shows_the_worker() -> bool:
            assert flower.poll() is None, log.read_text()
            try:
                reply = client.get("/api/workers", params={"refresh": "1"})
            except httpx.TransportError:
                return False
            if reply.status_code == 200:
                seen.update(reply.json())
            return NODE in seen and "registered" in seen[NODE]

        wait_until(shows_the_worker, "Flower shows the worker")
        assert set(seen[NODE]["registered"]) == TASKS
        queues = {queue["name"] for queue in seen[NODE]["active_queues"]}
        assert queues == {"wake"}
        page = client.get("/workers")
        assert NODE in page.text
    password = tools.environment["TRAINMASTER_REDIS_URL"].split(":")[2].split("@")[0]
    assert password not in log.read_text() + page.text


@pytest.mark.parametrize("pool", ["--pool=threads", "--pool=prefork"])
def test_threads_win_over_a_default_that_is_named(
    redis_server: EmbeddedRedis, namespace: str, tmp_path: Path, pool: str
) -> None:
    """Celery takes its own default, prefork, for a pool that nobody chose."""
    console, log = settings(redis_server, namespace), tmp_path / "worker.log"
    with celery(console, log, "worker", pool) as process:
        wait_until(lambda: b"ready." in log.read_bytes() or process.poll() is not None, "a worker")
        assert process.poll() is None, log.read_text()
    assert process.returncode == 0, log.read_text()
    assert "(thread)" in log.read_text()


@pytest.mark.parametrize("pool", ["processes", "solo"])
def test_a_pool_that_can_not_work_is_refused_in_a_line(
    redis_server: EmbeddedRedis, namespace: str, pool: str
) -> None:
    done = ask(settings(redis_server, namespace), "worker", f"--pool={pool}")
    assert done.returncode == 2
    said = [orjson.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    (refusal,) = [line["message"] for line in said if line["event"] == "worker.refused"]
    assert "use --pool=threads" in refusal


@pytest.mark.parametrize("command", [("worker",), ("inspect", "ping"), ("flower",)])
def test_a_wrong_setting_is_a_line_for_celery_too(
    redis_server: EmbeddedRedis, command: tuple[str, ...]
) -> None:
    console = settings(redis_server, "tools")
    console.environment["TRAINMASTER_REDIS_URL"] = "http://:s3cret@127.0.0.1"
    done = ask(console, *command)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("trainmaster: TRAINMASTER_REDIS_URL must begin with")
    assert "s3cret" not in line
    assert not done.stdout
