"""What a worker tells of itself: one line when it is ready, few when Redis goes; how it ends."""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.console import SCRIPT, TIMEOUT_SECONDS, Console, wait_until
from tests.stub_api import Answer, reply
from trainmaster_client import Client
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stub_api import StubApi

MODEL = "2f1c8a52-6f0f-4a57-9a0b-1f0a4d6c9e01"


def told(log: Path) -> list[dict[str, Any]]:
    """Returns the lines of a log; what Celery prints beside it is no JSON."""
    lines = log.read_text().splitlines()
    return [orjson.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def named(log: Path, event: str) -> list[dict[str, Any]]:
    return [line for line in told(log) if line["event"].endswith(event)]


def configured(redis: EmbeddedRedis, stub: StubApi, folder: Path) -> Console:
    return Console(
        redis.url,
        "lines",
        TRAINMASTER_BEARER_TOKEN="t0ken-of-nobody",
        ENCORD_DOMAIN=stub.url,
        TRAINMASTER_LOG_FORMAT="json",
        TRAINMASTER_CONCURRENCY="17",
        TRAINMASTER_DATA_ROOTS=str(folder),
        TRAINMASTER_RESULT_STORE=str(folder / "results"),
    )


@contextmanager
def started(console: Console, log: Path, *, ready: bool = True) -> Iterator[subprocess.Popen[Any]]:
    """Runs a worker as a shell in the foreground would; kills what is left of it."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [SCRIPT, "worker"],
            stdout=file,
            stderr=file,
            env=console.environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
    try:
        if ready:
            wait_until(
                lambda: bool(named(log, " ready.")) or process.poll() is not None, "a ready worker"
            )
        yield process
    finally:
        process.kill()
        process.wait(TIMEOUT_SECONDS)


def test_the_ready_line_names_api_redis_concurrency_and_roots(
    redis_server: EmbeddedRedis, stub: StubApi, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    with started(configured(redis_server, stub, tmp_path), log):
        (line,) = named(log, " ready.")
    assert line["api"] == stub.url
    assert line["redis"] == f"redis://127.0.0.1:{redis_server.port}/0"
    assert (line["namespace"], line["concurrency"]) == ("lines", 17)
    assert line["data_roots"] == [str(tmp_path)]
    assert line["result_store"] == str(tmp_path / "results")
    assert line["version"]
    assert "--uid" not in log.read_text(), "an option that is Celery's own, for who runs as root"


def test_redis_gone_is_one_line_then_one_each_10_s_then_one_when_it_is_back(
    stub: StubApi, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    with EmbeddedRedis(tmp_path / "redis") as redis:
        console = configured(redis, stub, tmp_path)
        with started(console, log) as worker:
            begun = len(told(log))
            redis.kill()
            wait_until(lambda: len(named(log, "redis.still_lost")) == 2, "a long outage")
            redis.start()
            wait_until(lambda: bool(named(log, "redis.back")), "Redis is back")
            said = console.run("submit", "--wait", "--timeout", "5s", "list_models")
            assert "accepted" in said.err
            worker.terminate()
            assert worker.wait(TIMEOUT_SECONDS) == 0
        lines = told(log)[begun:]
    about_redis = [line for line in lines if "list_models" not in line["event"]]
    events = [line["event"] for line in about_redis if line["level"] in {"warning", "error"}]
    assert [event for event in events if event.startswith("redis.")] == [
        "redis.lost",
        "redis.still_lost",
        "redis.still_lost",
        "redis.back",
    ]
    rest = [event for event in events if not event.startswith(("redis.", "command.", "api."))]
    assert rest == []
    first, second = (line["seconds"] for line in lines if line["event"] == "redis.still_lost")
    assert 10 <= first < 20 <= second < 35


def test_every_line_about_a_command_carries_its_id_and_its_context(
    redis_server: EmbeddedRedis, stub: StubApi, tmp_path: Path
) -> None:
    """Whoever searches for a correlation id finds all that a worker said of it."""
    log = tmp_path / "worker.log"
    console = configured(redis_server, stub, tmp_path)
    console.environment |= {
        "TRAINMASTER_NAMESPACE": "context",
        "TRAINMASTER_RETRY_MIN_SECONDS": "0.05",
    }
    context = {
        "correlationid": "order-7",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    command = {"type": "get_model", "data": {"model_uuid": MODEL}, **context}
    create = {
        "type": "create_model",
        "data": {"title": "x", "model": "resnet18", "features": [MODEL]},
        **context,
    }
    late = {**command, "deadline": "2020-01-01T00:00:00Z"}
    with started(console, log), Client(redis_server.url, namespace="context") as client:
        stub.default = reply(404)
        client.wait(client.submit(command), timeout=TIMEOUT_SECONDS)
        stub.answers.append(reply(503))
        client.wait(client.submit(command), timeout=TIMEOUT_SECONDS)
        client.wait(client.submit(late), timeout=TIMEOUT_SECONDS)
        # Its call is lost, so that the creation says more than one thing of itself.
        stub.answers += [reply(200, b'{"results": [], "nextPageToken": null}')]
        stub.answers += [Answer(b"", "reset")]
        doubtful = client.submit(create)
        wait_until(lambda: bool(named(log, "creation.doubted")), "a creation in doubt")
        client.cancel(doubtful)
    about = [line for line in told(log) if "command_id" in line]
    lines = [line for line in about if line.get("command_type") != "cancel"]
    assert {"command.failed", "command.retried", "creation.doubted"} <= {
        line["event"] for line in lines
    }
    for line in lines:
        assert {name: line.get(name) for name in context} == context, line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_a_worker_with_exit_code_0_as_sigterm_does(
    redis_server: EmbeddedRedis, stub: StubApi, tmp_path: Path, number: signal.Signals
) -> None:
    with started(configured(redis_server, stub, tmp_path), tmp_path / "worker.log") as worker:
        worker.send_signal(number)
        assert worker.wait(TIMEOUT_SECONDS) == 0
    assert "Traceback" not in (tmp_path / "worker.log").read_text()


def test_a_second_ctrl_c_ends_a_worker_at_once(
    redis_server: EmbeddedRedis, stub: StubApi, tmp_path: Path
) -> None:
    """The first lets a change at the API come to its end, for up to two minutes."""
    log = tmp_path / "worker.log"
    console = configured(redis_server, stub, tmp_path)
    with started(console, log) as worker:
        stub.default = Answer(then="hang")
        assert console.run("submit", "update_model", f"model_uuid={MODEL}", "title=x").code == 0
        wait_until(
            lambda: any(each.method == "PATCH" for each in stub.recorded),
            "the change has been sent",
        )
        worker.send_signal(signal.SIGINT)
        # A supervisor may tell all processes, and their parent hand it on: that is one signal.
        worker.send_signal(signal.SIGTERM)
        wait_until(lambda: bool(named(log, "worker.stopping")), "it stops")
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(2)
        worker.send_signal(signal.SIGINT)
        assert worker.wait(TIMEOUT_SECONDS) == 0


def test_ctrl_c_ends_a_worker_that_waits_for_redis(stub: StubApi, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with EmbeddedRedis(tmp_path / "redis") as redis:
        console = configured(redis, stub, tmp_path)
    with started(console, log, ready=False) as worker:
        wait_until(lambda: bool(named(log, "supervisor.redis_awaited")), "it waits")
        worker.send_signal(signal.SIGINT)
        assert worker.wait(TIMEOUT_SECONDS) == 0
