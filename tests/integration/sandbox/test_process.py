"""The sandbox as a process: how it starts, what it tells, what outlives it and what does not."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.processes import command_lines
from tests.sandbox_process import FEATURE_TYPES, SIMULATED, SandboxProcess, running_sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODELS = "/v2/public/ml-models"
TRAINMASTER = str(Path(sys.executable).with_name("trainmaster"))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with its data, for all tests of this module."""
    return tmp_path_factory.mktemp("process") / "state"


def test_the_console_script_starts_it_at_the_asked_port_on_loopback(state: Path) -> None:
    port = _free_port()
    sandbox = SandboxProcess(state, "--host", "127.0.0.1", "--port", str(port))
    sandbox.command = [TRAINMASTER, "sandbox"]
    sandbox.start()
    assert sandbox.told["domain"] == f"http://127.0.0.1:{port}"
    assert sandbox.http.get(MODELS).status_code == 200
    code, seconds = sandbox.stop()
    assert code == 0
    assert seconds < 30
    assert not (state / "sandbox.json").exists()


def test_its_file_tells_domain_key_and_projects_and_nothing_else(sandbox: SandboxProcess) -> None:
    told = sandbox.told
    mode = Path(told["key_file"]).stat().st_mode & 0o777
    key = Path(told["key_file"]).read_text(encoding="ascii")
    assert set(told) == {"domain", "key_file", "projects"}
    assert told["domain"].startswith("http://127.0.0.1:")
    assert (mode, key.splitlines()[0]) == (0o600, "-----BEGIN OPENSSH PRIVATE KEY-----")
    first, second = told["projects"]
    names = [{one["name"] for one in project["ontology"]} for project in (first, second)]
    assert not names[0] & names[1]
    for project in (first, second):
        assert set(project) == {"project_uuid", "title", "ontology", "data"}
        for feature in project["ontology"]:
            assert set(feature) == {"feature_hash", "name", "type", "color"}
        assert {one["type"] for one in project["ontology"]} == set(FEATURE_TYPES.values())
        for item in project["data"]:
            assert set(item) == {"data_uuid", "label_uuid", "file", "frames", "split", "truth"}
            assert Path(item["file"]).is_absolute()
            assert Path(item["file"]).exists()
            assert len(item["truth"]["frames"]) == item["frames"]


@pytest.mark.parametrize("kind", FEATURE_TYPES.values())
def test_every_feature_type_is_held_out_also_in_items_of_several_frames(
    sandbox: SandboxProcess, kind: str
) -> None:
    for number in range(2):
        ontology = sandbox.project(number)["ontology"]
        hashes = {one["feature_hash"] for one in ontology if one["type"] == kind}
        longer = [
            item
            for item in sandbox.items("heldout", number)
            if item["frames"] > 2 and _shown(item) & hashes
        ]
        # As a clip and as a group.
        assert {Path(item["file"]).is_dir() for item in longer} == {True, False}


def test_a_restart_keeps_everything(state: Path) -> None:
    with running_sandbox(state) as sandbox:
        model = sandbox.create_model("resnet18", "kept")
        real = sandbox.create_training(model, "resnet18")
        assert sandbox.ended(model, real)["status"] == "done"
        attachment = sandbox.attach(model, "resnet18")
        before = _kept(sandbox, model, real, attachment)
        files = [sandbox.told["projects"], (state / "key").read_bytes()]
        created = sandbox.truth()["created"]
    with running_sandbox(state) as sandbox:
        assert [sandbox.told["projects"], (state / "key").read_bytes()] == files
        assert _kept(sandbox, model, real, attachment) == before
        again = sandbox.truth()["created"]
    for kind, rows in created.items():
        # How a call was answered is known to the process that answered it alone.
        assert [{**row, "answered": None} for row in rows] == again[kind]


def test_after_a_kill_trainings_begin_anew_and_timers_go_on(state: Path) -> None:
    with running_sandbox(state) as sandbox:
        model = sandbox.create_model("resnet18")
        sandbox.faults({**SIMULATED, "seconds": 4})
        timed = sandbox.create_training(model, "resnet18")
        sandbox.faults({**SIMULATED, "training": "stalled"})
        stalled = sandbox.create_training(model, "resnet18")
        sandbox.faults()
        real = sandbox.create_training(model, "resnet18", epochs=2)
        broken = sandbox.create_training(model, "resnet18")
        child = _wait_for(lambda: _training_processes(real))
        code, _ = sandbox.stop(signal.SIGKILL)
        assert code == -signal.SIGKILL
        _wait_for(lambda: not _training_processes(real) + _training_processes(broken))
        assert len(child) == 1
    (state / "sandbox.json").unlink()
    # It had come to its first epoch, and can't begin anew.
    (state / "trainings" / broken / "progress.json").write_text('{"1": 0.5}')
    (state / "trainings" / broken / "warm_start.safetensors").write_text("no weights")
    with running_sandbox(state) as sandbox:
        assert sandbox.ended(model, real)["status"] == "done"
        assert sandbox.ended(model, broken)["status"] == "error"
        losses = _losses(sandbox, model)
        assert len(losses[real]) == 2
        assert losses[broken] == {}, "those of the run that was cut off are gone"
        result = sandbox.status(model, timed, 30)["result"]
        assert (result["trainingUuid"], result["duration"]) == (timed, 4)
        assert sandbox.status(model, stalled)["status"] == "pending"


def test_a_long_poll_ends_with_the_training(sandbox: SandboxProcess) -> None:
    model = sandbox.create_model()
    sandbox.faults({**SIMULATED, "seconds": 1})
    training = sandbox.create_training(model)
    sandbox.faults()
    begun = time.monotonic()
    assert sandbox.status(model, training, 60)["status"] == "done"
    assert 0.5 < time.monotonic() - begun < 30


def test_a_long_poll_ends_with_the_model(sandbox: SandboxProcess) -> None:
    model = sandbox.create_model()
    sandbox.faults({**SIMULATED, "training": "stalled"})
    training = sandbox.create_training(model)
    sandbox.faults()
    path = f"{MODELS}/{model}/iterations/{training}/training"
    token = sandbox.http.headers["Authorization"]
    with _sent(sandbox, f"GET {path}?timeoutSeconds=60", token) as connection:
        _wait_for(lambda: sandbox.truth()["concurrent"]["now"] == 1)
        assert sandbox.http.delete(f"{MODELS}/{model}").status_code == 204
        # Sooner than the poll would end by itself.
        connection.settimeout(45)
        assert b"404 Not Found" in connection.recv(4096)


def test_a_stop_lets_those_go_who_wait(state: Path) -> None:
    with running_sandbox(state) as sandbox:
        model = sandbox.create_model()
        sandbox.faults({**SIMULATED, "training": "stalled"})
        training = sandbox.create_training(model)
        path = f"{MODELS}/{model}/iterations/{training}/training"
        token = sandbox.http.headers["Authorization"]
        with _sent(sandbox, f"GET {path}?timeoutSeconds=60", token) as connection:
            _wait_for(lambda: sandbox.truth()["concurrent"]["now"] == 1)
            code, seconds = sandbox.stop()
            assert b'"pending"' in connection.recv(4096)
    assert code == 0
    assert seconds < 30


def test_weights_come_by_a_link_until_it_expires(state: Path) -> None:
    with running_sandbox(state, "--link-seconds", "1") as sandbox:
        model = sandbox.create_model("resnet18")
        training = sandbox.create_training(model, "resnet18")
        assert sandbox.ended(model, training)["status"] == "done"
        path = f"{MODELS}/{model}/iterations/{training}/weights-link"
        link = str(sandbox.http.get(path).json())
        reply = httpx.get(link)
        assert reply.status_code == 200
        assert b"trainmaster-sandbox/1" in reply.content[:1000]
        assert httpx.get(link.replace("signature=", "signature=0")).status_code == 403
        _wait_for(lambda: httpx.get(link).status_code == 403)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--import", "{folder}"], "can't import"),
        (["--faults", "{folder}/wrong.json"], "can't use the fault rules"),
        (["--port", "{port}"], "can't listen on 127.0.0.1 port"),
        (["--port", "x"], "is not a valid integer"),
        (["--port", "65536"], "is not in the range 0<=x<=65535"),
        (["--seed", "-1"], "is not in the range x>=0"),
        (["--link-seconds", "nan"], "must be a number of seconds"),
    ],
)
def test_what_can_not_be_used_ends_it_with_one_line_and_2(
    tmp_path: Path, options: list[str], text: str
) -> None:
    (tmp_path / "wrong.json").write_text('[{"effect": "none"}]')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        names = {"folder": str(tmp_path / "."), "port": str(taken.getsockname()[1])}
        filled = [option.format(**names) for option in options]
        ended = _run("--state", str(tmp_path / "state"), *filled)
    assert ended.returncode == 2
    assert text in ended.stderr.splitlines()[-1]


def test_a_state_folder_has_one_sandbox(sandbox: SandboxProcess) -> None:
    ended = _run("--state", str(sandbox.state))
    assert ended.returncode == 2
    assert "another sandbox serves" in ended.stderr
    assert "name another by --state" in ended.stderr


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sandbox", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def _kept(sandbox: SandboxProcess, model: str, training: str, attachment: str) -> list[Any]:
    item = sandbox.items("heldout")[0]["data_uuid"]
    place = f"{sandbox.attachments_path()}/{attachment}/iterations/{training}"
    body = {"confThresh": 0.0, "dataUuid": item}
    predicted = sandbox.http.post(f"{place}/classification/predict", json=body).json()
    del predicted["result"]["0"]["createdAt"]
    return [
        sandbox.http.get(f"{MODELS}/{model}").json(),
        sandbox.http.get(f"{MODELS}/{model}/iterations/{training}/training-data").json(),
        sandbox.http.get(sandbox.attachments_path()).json(),
        predicted,
    ]


def _shown(item: dict[str, Any]) -> set[str]:
    frames = item["truth"]["frames"]
    things = {one["featureHash"] for frame in frames for one in frame["objects"]}
    return things | {frame["classification"] for frame in frames}


def _training_processes(training_uuid: str) -> list[str]:
    return [
        line
        for line in command_lines()
        if "sandbox.child_process" in line and training_uuid in line
    ]


def _losses(sandbox: SandboxProcess, model: str) -> dict[str, dict[str, float]]:
    """Returns the losses of a model's trainings, also of those that are not done."""
    sandbox.faults({"operation": "get_model", "effect": "running_trainings", "shown": "listed"})
    told = sandbox.http.get(f"{MODELS}/{model}").json()["modelIterations"]
    return {each["trainingUuid"]: each["lossLog"] for each in told}


@contextmanager
def _sent(sandbox: SandboxProcess, line: str, authorization: str) -> Iterator[socket.socket]:
    host, _, port = sandbox.told["domain"].removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n"
        connection.sendall(head.encode())
        yield connection


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return found
