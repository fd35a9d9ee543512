"""Fault rules do what they say, and the truth tells what really happened."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.sandbox_process import SIMULATED, SandboxProcess, running_sandbox

if TYPE_CHECKING:
    from pathlib import Path

MODELS = "/v2/public/ml-models"
BODY = {"features": ["a"], "model": "resnet18", "title": "t"}


@pytest.fixture
def sandbox(sandbox: SandboxProcess) -> SandboxProcess:
    """The sandbox without rules and with counters at 0."""
    sandbox.http.delete("/sandbox/faults").raise_for_status()
    sandbox.http.delete("/sandbox/truth").raise_for_status()
    return sandbox


def test_a_rule_fires_at_its_operation_so_many_times_after_so_many_calls(
    sandbox: SandboxProcess,
) -> None:
    sandbox.faults({
        "operation": "list_models",
        "effect": "status",
        "status": 503,
        "after": 1,
        "count": 2,
    })
    statuses = [sandbox.http.get(MODELS).status_code for _ in range(5)]
    assert statuses == [200, 503, 503, 200, 200]
    assert sandbox.http.post(MODELS, json=BODY).status_code == 200
    (rule,) = sandbox.http.get("/sandbox/faults").json()["rules"]
    assert (rule["matched"], rule["fired"]) == (5, 2)


def test_the_same_seed_fires_at_the_same_calls(sandbox: SandboxProcess) -> None:
    rule = {"operation": "*", "effect": "status", "status": 500, "probability": 0.3, "seed": 4}

    def statuses() -> list[int]:
        sandbox.faults(rule)
        return [sandbox.http.get(MODELS).status_code for _ in range(60)]

    first = statuses()
    assert first == statuses()
    assert 5 < first.count(500) < 30


def test_a_status_comes_with_its_headers_and_body_and_nothing_is_carried_out(
    sandbox: SandboxProcess,
) -> None:
    sandbox.faults({
        "operation": ["create_model", "get_model"],
        "effect": "status",
        "status": 429,
        "headers": {"Retry-After": "7"},
        "body": {"detail": "slow down"},
    })
    before = len(sandbox.truth()["created"]["models"])
    reply = sandbox.http.post(MODELS, json=BODY)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "7")
    assert reply.json() == {"detail": "slow down"}
    assert len(sandbox.truth()["created"]["models"]) == before


def test_a_string_is_sent_as_it_stands(sandbox: SandboxProcess) -> None:
    sandbox.faults({"operation": "*", "effect": "status", "status": 200, "body": '{"half'})
    assert sandbox.http.get(MODELS).text == '{"half'


def test_latency_delays_the_answer(sandbox: SandboxProcess) -> None:
    sandbox.faults(
        {"operation": "list_models", "effect": "latency", "seconds": 0.2},
        {"operation": "*", "effect": "latency", "seconds": 0.2, "carried_out": "before"},
    )
    begun = time.monotonic()
    assert sandbox.http.get(MODELS).status_code == 200
    assert time.monotonic() - begun >= 0.4


def test_a_call_is_carried_out_after_its_client_has_given_up(sandbox: SandboxProcess) -> None:
    sandbox.faults({"operation": "create_model", "effect": "latency", "seconds": 0.5})
    before = _created(sandbox)
    with pytest.raises(httpx.ReadTimeout):
        sandbox.http.post(MODELS, json=BODY, timeout=0.1)
    _wait_for(lambda: _created(sandbox) == before + 1)


@pytest.mark.parametrize(("status", "answered"), [(502, "502"), (None, "reset")])
def test_commit_then_fail_carries_out_and_says_otherwise(
    sandbox: SandboxProcess, status: int | None, answered: str
) -> None:
    before = _created(sandbox)
    sandbox.faults({"operation": "create_model", "effect": "commit_then_fail", "status": status})
    if status is None:
        with pytest.raises(httpx.ReadError):
            sandbox.http.post(MODELS, json=BODY)
    else:
        assert sandbox.http.post(MODELS, json=BODY).status_code == status
    truth = sandbox.truth()
    assert len(truth["created"]["models"]) == before + 1
    assert truth["created"]["models"][-1]["answered"] == answered
    assert truth["calls"]["create_model"] == {
        "total": 1,
        "by_status": {answered: 1},
        "carried_out": 1,
    }


@pytest.mark.parametrize("carried_out", [False, True])
def test_a_reset_is_a_reset(sandbox: SandboxProcess, carried_out: bool) -> None:
    before = _created(sandbox)
    sandbox.faults({"operation": "*", "effect": "reset", "carried_out": carried_out})
    host, _, port = sandbox.told["domain"].removeprefix("http://").partition(":")
    token = sandbox.http.headers["Authorization"]
    body = b'{"features": ["a"], "model": "resnet18", "title": "t"}'
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"POST {MODELS} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert _created(sandbox) == before + carried_out


def test_a_truncated_body_is_cut_in_half(sandbox: SandboxProcess) -> None:
    before = _created(sandbox)
    sandbox.faults({"operation": "create_model", "effect": "truncated"})
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        sandbox.http.post(MODELS, json=BODY)
    assert _created(sandbox) == before + 1
    assert sandbox.truth()["calls"]["create_model"]["by_status"] == {"truncated": 1}


def test_the_first_rule_that_decides_the_answer_wins(sandbox: SandboxProcess) -> None:
    sandbox.faults(
        {"operation": "*", "effect": "status", "status": 500, "count": 1},
        {"operation": "*", "effect": "status", "status": 404},
    )
    assert [sandbox.http.get(MODELS).status_code for _ in range(2)] == [500, 404]


def test_a_stalled_training_never_ends(sandbox: SandboxProcess) -> None:
    sandbox.faults({**SIMULATED, "training": "stalled"})
    model = sandbox.create_model()
    training = sandbox.create_training(model)
    assert sandbox.status(model, training, 1) == {"status": "pending", "result": None}


def test_a_failing_training_ends_in_an_error_at_its_time(sandbox: SandboxProcess) -> None:
    sandbox.faults({**SIMULATED, "training": "failing", "seconds": 1})
    model = sandbox.create_model()
    training = sandbox.create_training(model)
    assert sandbox.status(model, training)["status"] == "pending"
    assert sandbox.status(model, training, 10) == {"status": "error", "result": None}


@pytest.mark.parametrize("shown", ["listed", "hidden"])
def test_running_trainings_are_listed_or_hidden(sandbox: SandboxProcess, shown: str) -> None:
    model = sandbox.create_model()
    sandbox.faults({**SIMULATED, "training": "stalled"})
    training = sandbox.create_training(model, epochs=5)
    sandbox.faults({"operation": "*", "effect": "running_trainings", "shown": shown})
    iterations = sandbox.http.get(f"{MODELS}/{model}").json()["modelIterations"]
    assert [one["trainingUuid"] for one in iterations] == [training] * (shown == "listed")
    for one in iterations:
        assert (one["epochs"], one["lossLog"]) == (5, {})
        assert one["duration"] >= 0


def test_a_thousand_simulated_trainings_end_at_their_time(sandbox: SandboxProcess) -> None:
    sandbox.faults({**SIMULATED, "seconds": 3})
    model = sandbox.create_model()
    with ThreadPoolExecutor(4) as threads:
        trainings = list(threads.map(lambda _: sandbox.create_training(model), range(1000)))
    assert len(set(trainings)) == 1000
    # Four at a time create them, so that none of them is known to be the last.
    told = [sandbox.status(model, training, 20) for training in trainings[-8:]]
    assert {each["status"] for each in told} == {"done"}
    assert told[-1]["result"]["lossLog"] == {}
    iterations = sandbox.http.get(f"{MODELS}/{model}").json()["modelIterations"]
    assert {one["trainingUuid"] for one in iterations} == set(trainings)


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ({"effect": "status", "status": 500}, "operation"),
        ({"operation": "nothing", "effect": "truncated"}, "nothing"),
        ({"operation": "*", "effect": "explode"}, "explode"),
        ({"operation": "*", "effect": "status"}, "status"),
        ({"operation": "*", "effect": "status", "status": 99}, "greater than"),
        ({"operation": "*", "effect": "truncated", "probability": 2}, "probability"),
        ({"operation": "*", "effect": "truncated", "extra": 1}, "extra"),
        (
            {"operation": "*", "effect": "status", "status": 500, "headers": {"a": "b\r\nc: d"}},
            "pattern",
        ),
    ],
)
def test_a_wrong_rule_is_refused_and_the_old_ones_stay(
    sandbox: SandboxProcess, rule: dict[str, object], part: str
) -> None:
    sandbox.faults({"operation": "*", "effect": "latency", "seconds": 0})
    reply = sandbox.http.put("/sandbox/faults", json=[rule])
    assert reply.status_code == 422
    assert part in reply.text
    assert len(sandbox.http.get("/sandbox/faults").json()["rules"]) == 1


@pytest.mark.parametrize("text", ["[]", '{"rules": []}', ""])
def test_an_empty_list_clears_the_rules(sandbox: SandboxProcess, text: str) -> None:
    sandbox.faults({"operation": "*", "effect": "status", "status": 500})
    sandbox.http.put("/sandbox/faults", content=text).raise_for_status()
    assert sandbox.http.get(MODELS).status_code == 200


def test_rules_can_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text('{"rules": [{"operation": "*", "effect": "status", "status": 418}]}')
    with running_sandbox(tmp_path / "state", "--faults", str(file)) as sandbox:
        assert sandbox.http.get(MODELS).status_code == 418


def test_calls_are_counted_by_operation_and_status(sandbox: SandboxProcess) -> None:
    sandbox.http.get(MODELS)
    sandbox.http.get(MODELS, headers={"Authorization": "Bearer wrong"})
    sandbox.http.post(MODELS, json={})
    truth = sandbox.truth()
    assert truth["total"] == 3
    assert truth["calls"] == {
        "list_models": {"total": 2, "by_status": {"200": 1, "401": 1}},
        "create_model": {"total": 1, "by_status": {"422": 1}},
    }


def test_the_rate_is_told(sandbox: SandboxProcess) -> None:
    for _ in range(30):
        sandbox.http.get(MODELS, headers={"Authorization": "Bearer wrong"})
    rate = sandbox.truth(seconds="5", created="false")["rate"]
    assert 1 < rate["maximum_in_one_second"] <= 30
    assert rate["mean_per_second"] > 1
    assert rate["last_seconds"] == 5


def test_the_most_concurrent_calls_are_counted(sandbox: SandboxProcess) -> None:
    sandbox.faults({"operation": "*", "effect": "latency", "seconds": 0.5})
    ready = threading.Barrier(6)

    def ask(_: int) -> int:
        ready.wait()
        return sandbox.http.get(MODELS).status_code

    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(ask, range(6))) == {200}
    assert sandbox.truth(created="false")["concurrent"] == {"now": 0, "maximum": 6}


def test_everything_created_is_told_also_once_deleted(sandbox: SandboxProcess) -> None:
    sandbox.faults(SIMULATED)
    model = sandbox.create_model(title="told")
    training = sandbox.create_training(model, epochs=2)
    attachment = sandbox.attach(model)
    sandbox.http.delete(f"{sandbox.attachments_path()}/{attachment}")
    created = sandbox.truth()["created"]
    told_model = _one(created["models"], "model_uuid", model)
    assert (told_model["title"], told_model["deleted_at"]) == ("told", None)
    told_training = _one(created["trainings"], "training_uuid", training)
    assert told_training["model_uuid"] == model
    assert (told_training["batch_size"], told_training["epochs"]) == (8, 2)
    assert told_training["labels_uuids"] == sandbox.training_body()["labelsUuids"]
    assert told_training["state"] in {"queued", "done"}
    assert _one(created["attachments"], "project_model_uuid", attachment)["deleted_at"]


def _created(sandbox: SandboxProcess) -> int:
    return len(sandbox.truth()["created"]["models"])


def _one(rows: list[dict[str, Any]], key: str, value: str) -> dict[str, Any]:
    (found,) = [row for row in rows if row[key] == value]
    return found


def _wait_for(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
