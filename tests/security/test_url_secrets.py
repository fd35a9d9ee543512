"""Secrets in URLs: in nothing that a real doctor, worker or tool of Celery prints."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.console import SCRIPT, TIMEOUT_SECONDS, Console, running_worker
from tests.sentinel import watched

if TYPE_CHECKING:
    from worker.embedded import EmbeddedRedis

TOKEN = "t0ken-of-nobody"
# Three characters of any of these are in nothing that is printed.
SECRETS = (
    "QXZ[JKW]XQJ",
    "[QXZJKW",
    "QXZ]JKW@XQJ",
    "QXZ/JKW#XQJ",
    "QXZ?JKW=XQJ",
    "QXZ%JKW%zz",
    "QXZ\u2100JKW",
    "QXZ\uff0fJKW",
    "QXZ JKW",
)
PIECES = re.compile("QXZ|XZJ|ZJK|JKW|XQJ")
URLS = (
    ("TRAINMASTER_REDIS_URL", "redis://:{}@127.0.0.1:1/0"),
    ("TRAINMASTER_REDIS_URL", "sentinel://127.0.0.1:1/0?sentinel_password={}"),
    ("ENCORD_DOMAIN", "https://user:{}@127.0.0.1:1"),
    ("HTTPS_PROXY", "http://user:{}@127.0.0.1:1"),
    ("TRAINMASTER_RESULT_STORE", "ftp://user:{}@127.0.0.1:1/results"),
    ("TRAINMASTER_RESULT_STORE", "https://127.0.0.1:1/results?sig={}"),
    ("TRAINMASTER_SOURCE_URLS", "https://user:{}@127.0.0.1:1/"),
)


def doctor(redis: EmbeddedRedis, name: str, form: str, secret: str) -> str:
    console = Console(
        redis.url,
        "url-secrets",
        TRAINMASTER_BEARER_TOKEN=TOKEN,
        # Nothing answers there, and a proxy is asked only for what is no loopback.
        ENCORD_DOMAIN="https://192.0.2.1:1",
        TRAINMASTER_CONNECT_TIMEOUT_SECONDS="0.5",
        TRAINMASTER_LOG_LEVEL="DEBUG",
    )
    said = console.run("doctor", environment={name: form.format(secret)})
    return said.out + said.err


@pytest.mark.parametrize(("name", "form"), URLS)
def test_doctor_shows_no_piece_of_a_secret_in_any_url(
    redis_server: EmbeddedRedis, name: str, form: str
) -> None:
    with ThreadPoolExecutor(2) as doctors:
        told = list(
            doctors.map(lambda secret: doctor(redis_server, name, form, secret), SECRETS),
        )
    for secret, said in zip(SECRETS, told, strict=True):
        assert "settings" in said, said
        assert "Traceback" not in said, said
        assert PIECES.search(said) is None, (secret, said)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_worker_that_can_not_start_shows_no_piece_of_its_redis_password(secret: str) -> None:
    """Where the URL can be read, nobody listens there: the worker is ended while it waits."""
    console = Console("", "url-secrets", TRAINMASTER_BEARER_TOKEN=TOKEN)
    url = f"redis://:{secret}@127.0.0.1:1/0"
    worker = subprocess.Popen(
        [SCRIPT, "worker"],
        env={**console.environment, "TRAINMASTER_REDIS_URL": url},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stderr is not None
    first = worker.stderr.readline()
    worker.kill()
    told = first + worker.communicate()[1]
    assert told
    assert PIECES.search(told) is None, told


def test_celerys_tools_show_no_password_of_sentinel_or_server(tmp_path: Path) -> None:
    with watched(tmp_path) as servers:
        console = Console(
            servers.url,
            "trainmaster",
            TRAINMASTER_BEARER_TOKEN=TOKEN,
            ENCORD_DOMAIN="http://127.0.0.1:9",
            TRAINMASTER_LOG_LEVEL="DEBUG",
        )
        celery = [str(Path(sys.executable).parent / "celery"), "-A", "worker.app"]
        log = tmp_path / "worker.log"
        with running_worker(console, log):
            told = {
                what: subprocess.run(
                    [*celery, *what.split()],
                    env=console.environment,
                    cwd=Path(__file__).parents[2],
                    capture_output=True,
                    timeout=TIMEOUT_SECONDS,
                    check=True,
                ).stdout.decode()
                for what in (
                    "inspect stats --timeout 10",
                    "inspect conf --timeout 10",
                    "inspect report --timeout 10",
                    "report",
                )
            }
        secrets = (servers.password, servers.sentinel_password)
        seen = "".join([*told.values(), log.read_text()])
    assert '"broker"' in told["inspect stats --timeout 10"]
    assert "broker_transport_options" in told["inspect conf --timeout 10"]
    for secret in secrets:
        assert secret not in seen
