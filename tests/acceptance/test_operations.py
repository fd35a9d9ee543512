"""The rights of the user `operator` of `deploy/redis-users.acl`: enough, and no more."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from tests.console import Console, running_worker, wait_until
from tests.sandbox_process import running_sandbox
from worker.embedded import EmbeddedRedis
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator

ACL = (Path(__file__).parents[2] / "deploy" / "redis-users.acl").read_text("utf-8")
KEYS = Keys("trainmaster")
PASSWORD = "made-up"


def rights(user: str) -> list[str]:
    """The command by which an administrator makes a user of the file, with a password."""
    (told,) = re.findall(rf"^user {user} (.*)$", ACL, re.MULTILINE)
    return ["ACL", "SETUSER", user, f">{PASSWORD}", *told.split()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("acl")) as running:
        with Redis.from_url(running.url) as admin:
            admin.execute_command(*rights("operator"))
        yield running


def operator_url(server: EmbeddedRedis) -> str:
    return f"redis://operator:{PASSWORD}@127.0.0.1:{server.port}/0"


def test_the_command_line_and_a_worker_need_no_more_rights_than_the_file_gives(
    server: EmbeddedRedis, tmp_path: Path
) -> None:
    with running_sandbox(tmp_path / "sandbox") as sandbox, Redis.from_url(server.url) as admin:
        console = Console(
            operator_url(server),
            KEYS.namespace,
            ENCORD_DOMAIN=sandbox.told["domain"],
            ENCORD_SSH_KEY_FILE=sandbox.told["key_file"],
            TRAINMASTER_REQUESTS_PER_SECOND="100",
            TRAINMASTER_CONCURRENT_REQUESTS="10",
            TRAINMASTER_CONSUMER_IDLE_SECONDS="1",
        )
        admin.execute_command("ACL", "LOG", "RESET")
        with running_worker(console, tmp_path / "worker.log"):
            features = 'features=["round"]'
            for command, code in (
                (("submit", "--wait", "create_model", "title=x", "model=resnet18", features), 0),
                (("submit", "--wait", "list_models", "--replyto", "x", "--priority", "bulk"), 0),
                (("submit", "list_models", "--notbefore", "1h", "--id", "later"), 0),
                (("status", "later"), 0),
                (("cancel", "later"), 0),
                (("events", "--replyto", "x"), 0),
                (("list",), 0),
                (("lanes", "resume", "bulk"), 0),
                (("doctor",), 0),
            ):
                assert console.run(*command).code == code, command
            # A bad message: its dead letter, and what is done with dead letters.
            admin.rpush(KEYS.inbox, "nonsense")
            wait_until(lambda: admin.xlen(KEYS.dead_letters) == 1, "a dead letter")
            assert console.run("dead-letters", "list").code == 0
            assert console.run("dead-letters", "purge", "--reason", "not_json", "--yes").code == 0
            inspected = subprocess.run(
                [sys.executable, "-m", "celery", "-A", "worker.app", "inspect", "ping"],
                env=console.environment,
                capture_output=True,
                timeout=180,
                check=False,
            )
            assert b"OK" in inspected.stdout, inspected.stderr
        refused = [entry["object"] for entry in admin.acl_log()]
        assert refused == []


def test_the_operator_can_neither_empty_redis_nor_see_other_keys(server: EmbeddedRedis) -> None:
    with Redis.from_url(operator_url(server)) as redis:
        for command in (
            ("FLUSHALL",),
            ("FLUSHDB",),
            ("CONFIG", "SET", "maxmemory", "1"),
            ("KEYS", "*"),
            ("GET", "elsewhere"),
            ("GET", "{other}:epoch"),
            ("ACL", "LIST"),
            ("SHUTDOWN",),
        ):
            with pytest.raises(NoPermissionError):
                redis.execute_command(*command)
