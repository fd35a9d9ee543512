"""`trainmaster submit --wait`, with a real worker that asks the sandbox."""

from __future__ import annotations

import re
import signal
import uuid
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.console import Console, Served, finish, run_on_terminal, wait_until
from tests.sandbox_process import SIMULATED
from worker.cli.submit import LINE_SECONDS, LineProgress
from worker.embedded import EmbeddedRedis
from worker.queue.intake.validation import Entry, validate
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.models import NewCommand
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = "00000000-0000-4000-8000-000000000000"


def create_model(served: Served) -> str:
    said = served.console.run(
        "submit",
        "--wait",
        "create_model",
        "model=resnet18",
        f"title=model {uuid.uuid4()}",
        *(f"features={name}" for name in served.sandbox.features("resnet18")),
    )
    assert said.code == 0, said.err
    return str(orjson.loads(said.out)["model_group"]["model_uuid"])


def train_arguments(served: Served, model_uuid: str) -> list[str]:
    project = served.sandbox.project()["project_uuid"]
    mapping = served.sandbox.features("resnet18").items()
    return [
        "train",
        f"model_uuid={model_uuid}",
        "batch_size=8",
        "epochs=1",
        *(f"features_mapping.{project}.{each}={name}" for name, each in mapping),
        *(f"labels_uuids={item['label_uuid']}" for item in served.sandbox.items()[:8]),
    ]


def test_a_wait_prints_the_result_alone_and_tells_on_stderr_what_happens(served: Served) -> None:
    said = served.console.run("submit", "--wait", "list_models", "order_by=title")
    assert said.code == 0
    assert list(orjson.loads(said.out)) == ["models"]
    told = [line.split()[1] for line in said.err.splitlines()]
    assert told == ["list_models.accepted", "list_models.succeeded"]


def test_a_failed_command_ends_the_wait_with_1_and_its_error(served: Served) -> None:
    said = served.console.run("submit", "--wait", "get_model", f"model_uuid={NOBODY}")
    assert (said.code, said.out) == (1, "")
    assert "get_model.failed  not_found (HTTP 404)" in said.err


def test_a_training_is_told_from_its_start_to_its_end(served: Served) -> None:
    served.sandbox.faults(SIMULATED)
    said = served.console.run("submit", "--wait", *train_arguments(served, create_model(served)))
    assert said.code == 0, said.err
    told = [line.split()[1] for line in said.err.splitlines()]
    assert told == ["train.accepted", "train.started", "train.succeeded"]
    result = orjson.loads(said.out)
    assert f"training {result['training_uuid']}" in said.err
    assert result["iteration"]["training_uuid"] == result["training_uuid"]


def test_a_retry_is_told_with_its_error_and_its_time(served: Served) -> None:
    served.sandbox.faults({
        "operation": "list_models",
        "effect": "status",
        "status": 503,
        "count": 1,
    })
    said = served.console.run("submit", "--wait", "list_models")
    assert said.code == 0, said.err
    assert "list_models.retrying  attempt 1 failed, next at " in said.err
    assert "server_error (HTTP 503)" in said.err
    assert "2 attempts" in said.err


def test_a_doubt_is_told_with_what_to_check(served: Served) -> None:
    served.sandbox.faults({
        "operation": "create_model",
        "effect": "commit_then_fail",
        "status": 502,
        "count": 1,
    })
    title = f"doubted {uuid.uuid4()}"
    said = served.console.run(
        "submit", "--wait", "create_model", "model=resnet18", "features=a", f"title={title}"
    )
    assert said.code == 0, said.err
    assert "create_model.in_doubt" in said.err
    assert title in said.err
    created = served.sandbox.truth()["created"]["models"]
    assert sum(title in str(model) for model in created) == 1


def test_several_commands_are_waited_for_and_one_failure_is_failure(
    served: Served, tmp_path: Path
) -> None:
    file = tmp_path / "commands.jsonl"
    ids = [str(uuid.uuid4()) for _ in range(3)]
    commands: list[dict[str, Any]] = [
        {"id": ids[0], "type": "list_models", "data": {}},
        {"id": ids[1], "type": "get_model", "data": {"model_uuid": NOBODY}},
        {"id": ids[2], "type": "list_models", "data": {"query": "none of this name"}},
    ]
    file.write_bytes(b"\n".join(map(orjson.dumps, commands)))
    said = served.console.run("submit", "--wait", "--json", str(file))
    assert said.code == 1
    ends = {
        event["subject"]: event["type"]
        for event in said.lines
        if not event["type"].endswith("accepted")
    }
    assert ends == {
        ids[0]: "list_models.succeeded",
        ids[1]: "get_model.failed",
        ids[2]: "list_models.succeeded",
    }
    again = served.console.run("submit", "--wait", str(file))
    assert again.code == 1
    assert all(command_id in again.out + again.err for command_id in ids)


def test_an_id_sent_again_ends_with_the_first_ones_result_and_calls_nothing(
    served: Served,
) -> None:
    command = ("submit", "--wait", "--json", "list_models", "--id", str(uuid.uuid4()))
    first, second = served.console.run(*command), served.console.run(*command)
    assert (first.code, second.code) == (0, 0)
    assert second.lines == first.lines[-1:]


def test_an_id_sent_again_with_other_data_is_rejected_and_ends_with_1(served: Served) -> None:
    command_id = str(uuid.uuid4())
    assert served.console.run("submit", "--wait", "list_models", "--id", command_id).code == 0
    said = served.console.run("submit", "--wait", "list_models", "query=x", "--id", command_id)
    assert (said.code, said.out) == (1, "")
    assert "idempotency_conflict" in said.err


def test_a_wait_goes_on_though_another_command_under_its_id_is_rejected(served: Served) -> None:
    command_id = str(uuid.uuid4())
    process = served.console.start(
        "submit", "--wait", "list_models", "--id", command_id, "--notbefore", "1h"
    )
    wait_until(lambda: served.console.run("status", command_id).code == 0, "it is accepted")
    other = served.console.run("submit", "--wait", "list_models", "query=x", "--id", command_id)
    assert "idempotency_conflict" in other.err
    assert served.console.run("cancel", command_id).code == 0
    said = finish(process)
    assert "idempotency_conflict" not in said.out + said.err
    assert "cancelled" in said.out + said.err


@pytest.mark.parametrize("how", ["interrupt", "timeout"])
def test_a_wait_that_is_left_says_that_the_command_goes_on_and_how_to_look(
    served: Served, how: str
) -> None:
    served.sandbox.faults({
        "operation": "create_training_job",
        "effect": "training",
        "training": "stalled",
    })
    command_id = str(uuid.uuid4())
    options = ["--timeout", "4s"] if how == "timeout" else []
    process = served.console.start(
        "submit",
        "--wait",
        *options,
        "--id",
        command_id,
        *train_arguments(served, create_model(served)),
    )
    assert process.stderr is not None
    told = ""
    while "train.started" not in told:
        line = process.stderr.readline()
        assert line, told
        told += line
    said = finish(process, signal.SIGINT if how == "interrupt" else None)
    assert said.code == 1
    assert f"the command goes on; see: trainmaster status {command_id}" in said.err

    standing = served.console.run("status", command_id)
    assert standing.code == 0
    assert "state polling" in " ".join(standing.out.split())
    (row,) = served.console.run("status", command_id, "--json").lines
    assert row["progress"]["uuid"] in standing.out
    listed = served.console.run("list", "--state", "polling", "--json").lines
    assert command_id in {each["id"] for each in listed}

    cancelled = served.console.run("cancel", command_id)
    assert cancelled.code == 0
    assert f"its training {row['progress']['uuid']} goes on at the API" in cancelled.out
    assert served.console.run("cancel", command_id, "--json").lines[0]["state"] == "cancelled"
    assert "cancelled" in served.console.run("status", command_id).out


def test_on_a_terminal_the_time_that_passes_is_shown(console: Console) -> None:
    said = run_on_terminal(console, "submit", "--wait", "--timeout", "4", "list_models")
    assert said.code == 1
    assert re.search(r"waiting for 1 command, [1-4]\.\ds", said.out)


def test_without_a_terminal_the_time_that_passes_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """For whoever reads a log, and not at each look."""
    with LineProgress(1, str, line_seconds=0) as progress:
        progress.on_tick(1)
    assert capsys.readouterr().err.startswith("waiting for 1 command, ")
    with LineProgress(1, str) as progress:
        progress.on_tick(1)
    assert capsys.readouterr().err == ""
    assert LINE_SECONDS == 60


def test_without_a_worker_the_wait_says_so(console: Console) -> None:
    said = console.run("submit", "--wait", "--timeout", "4", "list_models")
    assert said.code == 1
    assert "no worker has taken 1 command yet" in said.err


async def test_a_wait_outlives_a_crash_of_redis(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        console = Console(server.url, "crash")
        keys = Keys("crash")
        process = console.start("submit", "--wait", "list_models", "--id", "one")
        assert process.stderr is not None
        # That it stands in the stream says nothing of the reply, without which the send has failed.
        assert "no worker has taken" in process.stderr.readline()
        server.kill()
        assert "still waiting" in process.stderr.readline()
        server.start()

        async with connect(server.url) as redis:
            (entry,) = await entries_between(redis, keys.commands, "-", "+")
            ledger = Ledger(
                redis, keys, lease_seconds=30, retention_seconds=60, reply_retention_seconds=60
            )
            acceptance = validate(Entry(*entry), keys)
            assert isinstance(acceptance, NewCommand)
            await ledger.accept([acceptance])
        assert console.run("cancel", "one").code == 0
        said = finish(process)
    assert said.code == 1
    assert "list_models.cancelled" in said.err


def test_what_a_worker_logs_is_json_without_secrets(served: Served) -> None:
    served.console.run("submit", "--wait", "get_model", f"model_uuid={NOBODY}")
    password = served.console.environment["TRAINMASTER_REDIS_URL"].split(":")[2].split("@")[0]
    wait_until(lambda: "command.failed" in served.worker_log.read_text(), "a line of a failure")
    logged = served.worker_log.read_text()
    lines = [orjson.loads(line) for line in logged.splitlines()]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert password not in logged
    loggers = {line["logger"] for line in lines}
    assert "worker.queue.log_listener" in loggers
    assert any(logger.startswith("celery.") for logger in loggers), "Celery's lines are JSON too"
