"""A worker's memory, with a real worker: what producers send is held by bytes, not by count."""

from __future__ import annotations

import base64
import json
import random
import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from redis import Redis

from tests.console import Console, running_worker, wait_until
from tests.faults.audit import entries
from tests.security.stubbed import TOKEN
from tests.stub_api import Answer, StubApi
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from worker.embedded import EmbeddedRedis

ANY = "00000000-0000-4000-8000-000000000000"
MIB = 1024 * 1024
COMMANDS = 256
# 64 of them took 4 GB; these are enough to tell, and Redis has to hold them twice.
BAD_MESSAGES = 24
BAD_BYTES = 12 * MIB
# All of a worker; it was 1.1 GB for these commands.
MOST_MIB = 320
BODY = b'{"result": {"0": []}}'
SLOW = Answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY, "keep", 0.3)


def peak_mib(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def patient_client(url: str) -> Redis:
    """A client that waits as long as Redis takes for hundreds of MiB."""
    return Redis.from_url(url, socket_timeout=60)


def events_of(client: Redis, keys: Keys) -> list[dict[str, Any]]:
    return [orjson.loads(fields[b"event"]) for _, fields in entries(client, keys.events)]


def ended(client: Redis, keys: Keys) -> list[str]:
    types = [event["type"] for event in events_of(client, keys)]
    return [each for each in types if each.endswith((".succeeded", ".failed"))]


def large_command(number: int, picture: str) -> bytes:
    text = orjson.dumps({
        "id": f"large-{number}",
        "type": "predict",
        "data": {
            "task": "object_detection",
            "project_uuid": ANY,
            "project_model_uuid": ANY,
            "training_uuid": ANY,
            "data_base64": picture,
        },
    })
    assert MIB * 0.98 < len(text) <= MIB
    return text


def test_a_worker_bounds_the_memory_of_256_commands_of_1_mib_by_bytes(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    picture = base64.b64encode(random.Random(7).randbytes(780_000)).decode()
    keys = Keys("heavy")
    with StubApi(default=SLOW) as api, closing(patient_client(redis_server.url)) as client:
        console = Console(
            redis_server.url,
            keys.namespace,
            ENCORD_DOMAIN=api.url,
            TRAINMASTER_BEARER_TOKEN=TOKEN,
            TRAINMASTER_RESULT_STORE=str(tmp_path / "results"),
        )
        for number in range(COMMANDS):
            client.xadd(keys.commands, {"command": large_command(number, picture)})
        with running_worker(console, tmp_path / "worker.log") as worker:
            wait_until(
                lambda: len(ended(client, keys)) >= COMMANDS,
                "all commands have ended",
            )
            peak = peak_mib(worker.pid)
        states = ended(client, keys)
        client.unlink(*client.keys(f"{keys.prefix}*"))
    assert states.count("predict.succeeded") == COMMANDS
    carried = [each for each in api.recorded if picture.encode() in each.body]
    assert len(carried) >= COMMANDS
    assert peak < MOST_MIB, f"{peak:.0f} MiB"


def bad_message(kind: str) -> tuple[str, bytes]:
    """Returns the field and the text of a message that is far too large."""
    if kind == "celery":
        body = base64.b64encode(b"[" * (BAD_BYTES * 3 // 4)).decode()
        return "celery", json.dumps({
            "body": body,
            "content-type": "application/json",
            "headers": {"task": "trainmaster.submit", "id": ANY},
            "properties": {"body_encoding": "base64"},
        }).encode()
    return "command", b"[" * BAD_BYTES


@pytest.mark.parametrize("kind", ["json", "celery"])
def test_a_worker_bounds_the_memory_of_bad_messages_of_12_mib_by_bytes(
    redis_server: EmbeddedRedis, tmp_path: Path, kind: str
) -> None:
    keys = Keys(f"bad-{kind}")
    field, text = bad_message(kind)
    with StubApi() as api, closing(patient_client(redis_server.url)) as client:
        console = Console(
            redis_server.url,
            keys.namespace,
            ENCORD_DOMAIN=api.url,
            TRAINMASTER_BEARER_TOKEN=TOKEN,
            TRAINMASTER_RESULT_STORE=str(tmp_path / "results"),
        )
        for _ in range(BAD_MESSAGES):
            client.xadd(keys.commands, {field: text})
        with running_worker(console, tmp_path / "worker.log") as worker:
            wait_until(
                lambda: client.xlen(keys.events) >= BAD_MESSAGES, "all messages are rejected"
            )
            peak = peak_mib(worker.pid)
        assert client.xlen(keys.dead_letters) == BAD_MESSAGES
        codes = {event["data"]["error"]["code"] for event in events_of(client, keys)}
        client.unlink(*client.keys(f"{keys.prefix}*"))
    assert codes == {"too_large"}
    assert peak < MOST_MIB, f"{peak:.0f} MiB"
