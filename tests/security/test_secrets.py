"""Password, token, key and passphrase: in nothing that a worker, or a command, ever writes."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from cryptography.hazmat.primitives import serialization

from tests.console import SCRIPT, Console, running_worker, wait_until
from tests.processes import command_lines
from tests.sandbox_process import running_sandbox
from tests.security.stubbed import TOKEN, Stubbed, stubbed_worker
from tests.stub_api import Answer, reply
from worker.bootstrap.encord import create_credentials, create_transport
from worker.embedded import EmbeddedRedis
from worker.environment import load_settings
from worker.errors import SettingError
from worker.queue.ledger.keys import Keys
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from collections.abc import Iterable

ANY = "00000000-0000-4000-8000-000000000000"
PASSPHRASE = "passphrase-that-nobody-may-see"


def password_of(redis_url: str) -> str:
    return redis_url.rpartition("@")[0].rpartition(":")[2]


def told_by(stubbed: Stubbed) -> str:
    """Returns all that the worker wrote, and all that the console shows of it."""
    entries = [
        str(stubbed.client.xrange(key))
        for key in (stubbed.keys.events, stubbed.keys.dead_letters, stubbed.keys.commands)
    ]
    shown = []
    for command in (
        ("list", "--json"),
        ("doctor", "--json"),
        ("status", "read"),
        ("dead-letters", "show", "read"),
    ):
        said = stubbed.console.run(*command)
        shown += [said.out, said.err]
    lines = command_lines()
    assert any("trainmaster worker" in line for line in lines), "the worker hides its command line"
    return "\n".join([stubbed.log.read_text(), *entries, *shown, *lines])


def assert_hidden(text: str, secrets: Iterable[str]) -> None:
    for secret in secrets:
        assert len(secret) > 10
        found = text.find(secret)
        assert found < 0, text[max(0, found - 200) : found].encode()


ECHO = f'{{"message": "Bearer {TOKEN} is not known here", "token": "{TOKEN}"}}'.encode()
BROKEN = f"<html>{TOKEN}</html>".encode()


@pytest.mark.parametrize(
    ("answer", "settings"),
    [
        (reply(401, ECHO), {}),
        (reply(403, ECHO), {}),
        (reply(422, ECHO), {}),
        (reply(500, ECHO), {"TRAINMASTER_MAX_ATTEMPTS": "2"}),
        (reply(200, BROKEN), {"TRAINMASTER_MAX_ATTEMPTS": "2"}),
        (Answer(b"HTTP/1.1 " + TOKEN.encode() + b"\r\n\r\n"), {"TRAINMASTER_MAX_ATTEMPTS": "2"}),
    ],
    ids=["401", "403", "422", "500", "not JSON", "not HTTP"],
)
def test_an_api_that_echoes_the_token_does_not_get_it_written(
    redis_url: str, namespace: str, tmp_path: Path, answer: Answer, settings: dict[str, str]
) -> None:
    with stubbed_worker(redis_url, namespace, tmp_path, **settings) as stubbed:
        stubbed.api.default = answer
        ids = ["read", "change", "create"]
        commands = [
            {"type": "get_model", "data": {"model_uuid": ANY}},
            {"type": "delete_model", "data": {"model_uuid": ANY}},
            {
                "type": "create_model",
                "data": {"model": "resnet18", "features": ["a"], "title": "t"},
            },
        ]
        for command_id, command in zip(ids, commands, strict=True):
            text = orjson.dumps({"id": command_id, **command})
            stubbed.client.xadd(stubbed.keys.commands, {"command": text})

        def were_tried() -> bool:
            tried = sum("retrying" in e["type"] or "failed" in e["type"] for e in stubbed.events())
            # A worker whose credentials are refused holds itself, and no command fails for it.
            return tried >= len(ids) or "api.credentials_refused" in stubbed.log.read_text()

        wait_until(were_tried, "each was tried")
        told = told_by(stubbed)
        assert stubbed.api.recorded
        assert all(TOKEN in each.headers["authorization"] for each in stubbed.api.recorded)
        assert_hidden(told, [TOKEN, password_of(redis_url)])


def test_key_and_passphrase_stand_nowhere_though_everything_fails(tmp_path: Path) -> None:
    """An encrypted key in the environment, a store that can't be written, a Redis that dies."""
    store = tmp_path / "a file where a folder should be"
    store.touch()
    with (
        running_sandbox(tmp_path / "sandbox") as sandbox,
        EmbeddedRedis(tmp_path / "redis") as redis,
    ):
        private = serialization.load_ssh_private_key(
            Path(sandbox.told["key_file"]).read_bytes(), None
        )
        encrypted = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.BestAvailableEncryption(PASSPHRASE.encode()),
        ).decode()
        console = Console(
            redis.url,
            "secrets",
            ENCORD_DOMAIN=sandbox.told["domain"],
            ENCORD_SSH_KEY=encrypted,
            ENCORD_SSH_KEY_PASSPHRASE=PASSPHRASE,
            TRAINMASTER_LOG_LEVEL="DEBUG",
            TRAINMASTER_LOG_FORMAT="text",
            TRAINMASTER_RESULT_STORE=str(store),
            TRAINMASTER_RESULT_LIMIT_BYTES="1024",
            TRAINMASTER_MAX_ATTEMPTS="2",
            TRAINMASTER_RETRY_MIN_SECONDS="0.1",
        )
        log = tmp_path / "worker.log"
        for number in range(8):
            sandbox.create_model(title=f"a model with a long title {number}")
        with running_worker(console, log) as worker:
            said = console.run("submit", "--wait", "list_models")
            assert said.code == 1
            assert "could not be stored" in said.err + said.out
            assert "Traceback" in log.read_text()
            redis.end(signal.SIGKILL)
            wait_until(lambda: "redis.lost" in log.read_text(), "the worker misses Redis")
            redis.start()
            again = console.run("submit", "--wait", "get_model", f"model_uuid={ANY}")
            assert again.code == 1
            # Celery shows the stack of every thread on this signal.
            worker.send_signal(signal.SIGUSR1)
            doctor = console.run("doctor")
        seen = "\n".join([
            log.read_text(),
            *(each for run in (said, again, doctor) for each in (run.out, run.err)),
            *command_lines(),
            (tmp_path / "sandbox-errors.txt").read_text(),
        ])
        plain = Path(sandbox.told["key_file"]).read_text().splitlines()[-3]
        body = encrypted.splitlines()[2:-2]
        assert_hidden(seen, [PASSPHRASE, password_of(redis.url), plain, *body])


def test_a_link_to_weights_stands_in_its_event_and_in_no_log(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    link = "https://storage.example.com/weights?X-Signature=a-signature-that-opens-the-file"
    with stubbed_worker(redis_url, namespace, tmp_path) as stubbed:
        stubbed.api.default = reply(200, orjson.dumps(link))
        command = {
            "type": "get_weights_download_link",
            "id": "link",
            "data": {"model_uuid": ANY, "training_uuid": ANY},
        }
        (end,) = stubbed.carry_out([command]).values()
        assert end["data"]["result"] == {"url": link}
        assert_hidden(stubbed.log.read_text(), ["a-signature-that-opens-the-file"])


def test_the_url_of_a_stored_result_has_no_credentials(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """The store's options come from the environment of fsspec; the URL is a plain place."""
    limit = {"TRAINMASTER_RESULT_LIMIT_BYTES": "1024"}
    with stubbed_worker(redis_url, namespace, tmp_path, **limit) as stubbed:
        long = "https://storage.example.com/" + "w" * 2000
        stubbed.api.default = reply(200, orjson.dumps(long))
        command = {
            "type": "get_weights_download_link",
            "id": "stored",
            "data": {"model_uuid": ANY, "training_uuid": ANY},
        }
        (end,) = stubbed.carry_out([command]).values()
        assert end["data"]["result"] is None
        assert re.fullmatch(
            rf"file://{re.escape(str(tmp_path))}/results/[0-9]+-[0-9]+-[0-9a-f]{{16}}\.json",
            end["dataref"],
        )
        stored = Path(end["dataref"].removeprefix("file://"))
        assert orjson.loads(stored.read_bytes()) == {"url": long}
        assert_hidden(end["dataref"], [TOKEN, password_of(redis_url)])


def test_no_representation_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "redis://user:redis-passw0rd-of-mine@127.0.0.1:1/0"
    monkeypatch.setenv("TRAINMASTER_REDIS_URL", url)
    monkeypatch.setenv("TRAINMASTER_BEARER_TOKEN", TOKEN)
    monkeypatch.setenv("ENCORD_SSH_KEY", "private-key-of-mine")
    monkeypatch.setenv("ENCORD_SSH_KEY_PASSPHRASE", PASSPHRASE)
    settings = load_settings()
    address = RedisAddress.parse(url)
    shown = [
        settings,
        settings.model_dump(),
        settings.model_dump_json(),
        address,
        address.broker(),
        create_credentials(settings),
        create_transport(settings),
        Keys("n"),
    ]
    text = "\n".join(f"{each!r} {each!s}" for each in shown)
    monkeypatch.delenv("TRAINMASTER_BEARER_TOKEN")
    with pytest.raises(SettingError) as told:
        create_credentials(load_settings())
    text += f"{told.value!r} {told.value} {told.value.body()!r}"
    assert_hidden(text, [TOKEN, PASSPHRASE, "private-key-of-mine", "redis-passw0rd-of-mine"])


def test_a_wrong_password_is_refused_without_being_shown(
    redis_server: EmbeddedRedis,
) -> None:
    wrong = f"redis://:wrong-passw0rd@127.0.0.1:{redis_server.port}/0"
    console = Console(
        wrong, "secrets", TRAINMASTER_BEARER_TOKEN=TOKEN, TRAINMASTER_LOG_LEVEL="DEBUG"
    )
    done = subprocess.run(
        [SCRIPT, "worker"], env=console.environment, capture_output=True, timeout=180, check=False
    )
    assert done.returncode == 2
    said = (done.stdout + done.stderr).decode()
    assert "the server refuses us" in said
    assert_hidden(said, [TOKEN, "wrong-passw0rd"])
