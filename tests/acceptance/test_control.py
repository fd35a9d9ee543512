"""Cancel, deadlines, notbefore and replays, by the console, against a worker that may restart."""

from __future__ import annotations

import signal
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from tests.console import Console, Said
from tests.faults.audit import EVENTS, entries
from tests.faults.fleet import PATIENT, Fleet, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 120
NEVER_ENDING = {
    "operation": "create_training_job",
    "effect": "training",
    "training": "simulated",
    "seconds": 3600,
}
MISSING = "00000000-0000-4000-8000-000000000000"
ENDS = {"succeeded", "failed", "cancelled"}


class Control:
    """A worker, and the console as its operator uses it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        environment = fleet.environment()
        self.console = Console(environment.pop("TRAINMASTER_REDIS_URL"), "trainmaster")

    def submit(self, command_type: str, *arguments: str) -> str:
        """Submits a command with an id of its own; returns the id."""
        command_id = f"{command_type}-{uuid.uuid4().hex[:8]}"
        said = self.console.run("submit", f"--id={command_id}", command_type, *arguments)
        assert said.code == 0, said.err
        return command_id

    def state(self, command_id: str) -> str:
        """Returns the state in the row; the console's own view is looked at once, below."""
        found = cast(
            "bytes | None", self.fleet.client.hget(f"{{trainmaster}}:command:{command_id}", "s")
        )
        return "" if found is None else found.decode()

    def wait_for(self, command_id: str, *states: str) -> None:
        wait_until(
            lambda: self.state(command_id) in states, PATIENCE_SECONDS, f"{command_id} is {states}"
        )

    def events(self, command_id: str) -> list[dict[str, Any]]:
        """Returns the events of a command, oldest first."""
        return [event for event in self.all_events() if event["subject"] == command_id]

    def all_events(self) -> list[dict[str, Any]]:
        """Returns every event."""
        return [orjson.loads(fields[b"event"]) for _, fields in entries(self.fleet.client, EVENTS)]

    def states(self, command_id: str) -> list[str]:
        return [event["type"].rpartition(".")[2] for event in self.events(command_id)]

    def cancel(self, command_id: str) -> Said:
        return self.console.run("cancel", command_id)

    def training(self) -> list[str]:
        """Returns the arguments of a training, on a model of its own."""
        sandbox = self.fleet.sandbox
        project = sandbox.project()["project_uuid"]
        labels = [item["label_uuid"] for item in sandbox.items()[:4]]
        return [
            f"model_uuid={sandbox.create_model('resnet18')}",
            "batch_size=4",
            "epochs=1",
            *(
                f"features_mapping.{project}.{each}={name}"
                for name, each in sandbox.features("resnet18").items()
            ),
            *(f"labels_uuids={label}" for label in labels),
        ]

    def restart_worker(self) -> None:
        (worker,) = self.fleet.workers
        assert worker.terminate()[0] == 0
        worker.start()
        wait_until(lambda: worker.ready, PATIENCE_SECONDS, "the worker is ready")


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    with Fleet(tmp_path_factory.mktemp("control"), 1, PATIENT) as fleet:
        fleet.sandbox.faults(NEVER_ENDING)
        fleet.wait_ready()
        yield Control(fleet)
        assert fleet.leaks() == []


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_training_that_runs_is_cancelled_and_said_to_go_on(control: Control) -> None:
    command_id = control.submit("train", *control.training())
    control.wait_for(command_id, "polling")
    (started,) = (event for event in control.events(command_id) if event["type"] == "train.started")
    training_uuid = started["data"]["training_uuid"]
    said = control.cancel(command_id)
    assert said.code == 0
    assert f"its training {training_uuid} goes on at the API, which can't stop it" in said.out
    end = control.events(command_id)[-1]
    assert end["type"] == "train.cancelled"
    assert end["data"]["training_uuid"] == training_uuid
    assert "goes on at the API" in end["data"]["note"]
    (made,) = (
        each
        for each in control.fleet.sandbox.truth()["created"]["trainings"]
        if each["training_uuid"] == training_uuid
    )
    assert made["deleted_at"] is None
    assert made["state"] not in {"done", "error"}
    # Nobody asks the API about it any more.
    before = polls(control)
    other = control.submit("list_models")
    control.wait_for(other, "succeeded")
    assert polls(control) == before
    assert control.states(command_id) == ["accepted", "started", "cancelled"]


def polls(control: Control) -> int:
    calls = control.fleet.sandbox.truth()["calls"]
    return int(calls.get("get_training_status", {}).get("total", 0))


def test_what_has_not_started_is_cancelled_and_never_starts(control: Control) -> None:
    command_id = control.submit("train", "--notbefore", soon(15), *control.training())
    control.wait_for(command_id, "accepted")
    said = control.cancel(command_id)
    assert (said.code, "nothing had been started" in said.out) == (0, True)
    # One that is due later has run: the time of the cancelled one has passed.
    later = control.submit("list_models", "--notbefore", soon(15.5))
    control.wait_for(later, "succeeded")
    assert control.states(command_id) == ["accepted", "cancelled"]


def test_what_has_ended_is_not_cancelled_and_keeps_its_end(control: Control) -> None:
    command_id = control.submit("list_models")
    control.wait_for(command_id, "succeeded")
    said = control.cancel(command_id)
    assert (said.code, said.out) == (1, f"{command_id}: it had already ended: succeeded\n")
    assert control.states(command_id) == ["accepted", "succeeded"]


def test_to_cancel_twice_is_to_cancel_once(control: Control) -> None:
    command_id = control.submit("train", *control.training())
    control.wait_for(command_id, "polling")
    assert control.cancel(command_id).code == 0
    assert control.cancel(command_id).code == 0
    assert control.states(command_id).count("cancelled") == 1


def test_an_unknown_id_can_not_be_cancelled(control: Control) -> None:
    said = control.cancel("nobody")
    assert said.code == 1
    assert said.out.startswith("nobody: no command has this id: it is not accepted yet, or ended")


@pytest.mark.parametrize("which", ["the worker", "the worker by kill -9", "Redis"])
def test_a_cancellation_survives_a_restart(control: Control, which: str) -> None:
    cancelled = control.submit("train", *control.training())
    waiting = control.submit("train", *control.training())
    for command_id in (cancelled, waiting):
        control.wait_for(command_id, "polling")
    assert control.cancel(cancelled).code == 0
    (worker,) = control.fleet.workers
    if which == "the worker by kill -9":
        worker.kill()
        worker.start()
        wait_until(lambda: worker.ready, PATIENCE_SECONDS, "the worker is ready")
    if which == "Redis":
        control.fleet.redis.end(signal.SIGKILL)
        control.fleet.redis.start()
    if which == "the worker":
        control.restart_worker()
    control.wait_for(control.submit("list_models"), "succeeded")
    assert control.state(cancelled) == "cancelled"
    shown = control.console.run("status", "--json", cancelled).lines[0]
    assert shown["state"] == "cancelled"
    assert control.states(cancelled) == ["accepted", "started", "cancelled"]
    # What was not cancelled is still waited for, and still can be.
    assert control.state(waiting) == "polling"
    assert control.cancel(waiting).code == 0
    assert control.states(waiting) == ["accepted", "started", "cancelled"]


def test_a_command_waits_for_its_time(control: Control) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=15)
    command_id = control.submit("list_models", "--notbefore", moment.isoformat())
    control.wait_for(command_id, "succeeded")
    accepted, succeeded = control.events(command_id)
    assert datetime.fromisoformat(accepted["time"]) < moment
    assert datetime.fromisoformat(succeeded["time"]) >= moment


def test_past_its_deadline_nothing_is_started(control: Control) -> None:
    titles = [f"late {uuid.uuid4()}" for _ in range(2)]
    data = [f"features={name}" for name in control.fleet.sandbox.features("resnet18")]
    late = control.submit(
        "create_model",
        f"--deadline={soon(-1)}",
        "model=resnet18",
        f"title={titles[0]}",
        *data,
    )
    # Its time comes only after its deadline.
    never = control.submit(
        "create_model",
        f"--deadline={soon(2)}",
        f"--notbefore={soon(60)}",
        "model=resnet18",
        f"title={titles[1]}",
        *data,
    )
    for command_id in (late, never):
        control.wait_for(command_id, "failed")
        end = control.events(command_id)[-1]
        assert end["data"]["error"]["code"] == "deadline_exceeded"
    made = {model["title"] for model in control.fleet.sandbox.truth()["created"]["models"]}
    assert not made & set(titles)


def test_a_dead_letter_is_replayed_mended_and_names_its_cause(control: Control) -> None:
    model_uuid = control.fleet.sandbox.create_model("resnet18")
    failed = control.submit("get_model", f"model_uuid={MISSING}")
    control.wait_for(failed, "failed")
    letter = control.console.run("dead-letters", "show", "--json", failed).lines[0]
    assert letter["error"]["status"] == 404
    assert MISSING in letter["text"]

    dry = control.console.run(
        "dead-letters", "replay", "--dry-run", failed, "--set", f"model_uuid={model_uuid}"
    )
    assert dry.code == 0
    assert control.console.run("dead-letters", "show", failed).code == 0

    again = control.console.run("dead-letters", "replay", failed)
    assert again.code == 0
    first = replayed(control, failed, 1)
    control.wait_for(first, "failed")
    mended = control.console.run(
        "dead-letters", "replay", first, "--set", f"model_uuid={model_uuid}"
    )
    assert mended.code == 0
    second = replayed(control, first, 1)
    control.wait_for(second, "succeeded")
    # From the last to the first: each names the one before.
    assert {event["causationid"] for event in control.events(second)} == {first}
    assert {event["causationid"] for event in control.events(first)} == {failed}
    assert control.console.run("dead-letters", "show", failed).code == 1
    assert control.console.run("dead-letters", "show", first).code == 1
    assert control.states(failed).count("failed") == 1


def replayed(control: Control, cause: str, count: int) -> str:
    """Returns the id of the command that a replay of another one made."""

    def found() -> set[str]:
        told = control.all_events()
        return {event["subject"] for event in told if event.get("causationid") == cause}

    wait_until(lambda: len(found()) == count, PATIENCE_SECONDS, "the replay is accepted")
    return found().pop()


def test_all_of_a_reason_are_replayed_and_what_is_left_is_purged(control: Control) -> None:
    failed = [control.submit("get_model", f"model_uuid={MISSING}") for _ in range(3)]
    for command_id in failed:
        control.wait_for(command_id, "failed")
    reason = control.console.run("dead-letters", "show", "--json", failed[0]).lines[0]["reason"]
    done = control.console.run("dead-letters", "replay", "--all", "--reason", reason)
    assert done.code == 0
    for command_id in failed:
        control.wait_for(replayed(control, command_id, 1), "failed")
    control.wait_for(control.submit("get_model", f"model_uuid={MISSING}"), "failed")
    purged = control.console.run("dead-letters", "purge", "--older-than", "0s", "--yes")
    assert purged.code == 0, purged.err
    assert control.console.run("dead-letters", "list", "--json").out == ""
