"""Rule: what the queues of Node do for a command is, byte for byte, what the others do."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.contenders.node_queues import FOLDER, LOCK
from benchmarks.stub import prediction
from benchmarks.work import IMAGE_CHARACTERS, PATH, messages, request_body, result_event
from worker.encord.api.signing import RequestSigner
from worker.encord.api.transport import BASE_PATH

PROGRAM = """
const { Signer, message, requestBody, resultEvent } = await import(process.argv[1]);
const { order, number, pem, target, frames } = JSON.parse(process.argv[2]);
const made = message(order, number);
const body = requestBody(made);
const headers = new Signer(pem).headers("POST", target, body);
console.log(JSON.stringify({ made, body, headers, event: resultEvent(made.id, frames) }));
"""


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    """What both sign with."""
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def done(key: Ed25519PrivateKey) -> dict[str, Any]:
    """What the work of Node makes of the seventh message of a run."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not on PATH")
    (like,) = messages("run", 7, 1)
    asked = {
        "order": {"run": "run", "size": IMAGE_CHARACTERS, "data": like["data"]},
        "number": 7,
        "pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "target": BASE_PATH + PATH,
        "frames": prediction()["result"],
    }
    said = subprocess.run(
        [node, "--input-type=module", "-e", PROGRAM, FOLDER / "work.js", orjson.dumps(asked)],
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = orjson.loads(said.stdout)
    return found


def test_a_message_and_its_request_are_those_of_the_others(done: dict[str, Any]) -> None:
    (message,) = messages("run", 7, 1)
    assert done["made"] == message
    assert done["body"].encode() == request_body(message)


def test_a_request_is_signed_as_the_worker_signs_it(
    done: dict[str, Any], key: Ed25519PrivateKey
) -> None:
    created = re.search(r"created=(\d+)", done["headers"]["Signature-Input"])
    assert created
    signer = RequestSigner(key, clock=lambda: float(created[1]))
    body = done["body"].encode()
    # One key signs the same bytes always alike.
    assert done["headers"] == signer.headers("POST", BASE_PATH + PATH, body)


def test_an_event_is_that_of_the_others_but_for_its_time(done: dict[str, Any]) -> None:
    (message,) = messages("run", 7, 1)
    ours = result_event(message, prediction()["result"])
    # JavaScript writes 0.0 as 0.
    assert len(done["event"]) == pytest.approx(len(ours), abs=10)
    assert orjson.loads(done["event"]) | {"time": ""} == orjson.loads(ours) | {"time": ""}


def test_the_lock_has_a_hash_of_every_package_and_names_no_place() -> None:
    lock = orjson.loads(LOCK.read_bytes())
    wanted = orjson.loads((FOLDER / "package.json").read_bytes())
    own, packages = lock["packages"].pop(""), lock["packages"]
    assert own["dependencies"] == wanted["dependencies"]
    assert {
        name: packages[f"node_modules/{name}"]["version"] for name in wanted["dependencies"]
    } == (wanted["dependencies"])
    assert len(packages) > 20
    assert [name for name, each in packages.items() if "sha512-" not in each["integrity"]] == []
    assert [name for name, each in packages.items() if "resolved" in each] == []
