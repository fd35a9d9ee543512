"""Rule: what docs/events.md shows runs as it stands there, and does what the page says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.console import TIMEOUT_SECONDS, wait_until
from tests.integration.client.told import Told
from tests.pages import install, snippet
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[3] / "docs" / "events.md").read_text("utf-8")
SERVICE = snippet(PAGE, "python", "sqlite3")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A server of its own: the page names the default namespace, which other tests use too."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def told(server: EmbeddedRedis) -> Iterator[Told]:
    """Writes events of the default namespace, which has none yet."""
    told = Told(server.url, "trainmaster")
    told.redis.flushdb()
    yield told
    told.close()


@pytest.fixture
def environment(server: EmbeddedRedis) -> dict[str, str]:
    """What the page's programs need."""
    # Old versions of redis-cli take a password only after a user.
    return {**os.environ, "TRAINMASTER_REDIS_URL": server.url.replace("//:", "//default:")}


def run(command: list[str], folder: Path, environment: dict[str, str]) -> list[str]:
    """Runs a program to its end; returns the lines that it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@contextmanager
def running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Runs a program until the block's end, and stops it as a service is stopped."""
    output = folder / "output"
    with output.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield output
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(TIMEOUT_SECONDS)
    assert code == 0, output.read_text()


def ends(folder: Path) -> list[tuple[str, str]]:
    """What the service's table holds."""
    with closing(sqlite3.connect(folder / "ends.db")) as database:
        return sorted(database.execute("SELECT command, state FROM ends"))


def acknowledged(told: Told, group: str) -> bool:
    """Whether a group has read all that there is and holds none of it."""
    groups: list[Any] = told.redis.xinfo_groups(told.names.events())
    last = told.redis.xinfo_stream(told.names.events())["last-generated-id"]
    return any(
        each["name"].decode() == group and not each["pending"] and each["last-delivered-id"] == last
        for each in groups
    )


def test_the_service_keeps_each_end_once_and_stops_when_asked(
    told: Told, environment: dict[str, str], tmp_path: Path
) -> None:
    told.tell("train.accepted", "one")
    told.tell("train.succeeded", "one")
    told.tell("train.succeeded", "one")
    told.tell("train.failed", "two")
    told.tell("predict.failed", "three")
    (tmp_path / "service.py").write_text(SERVICE)
    with running([sys.executable, "service.py"], tmp_path, environment):
        wait_until(lambda: acknowledged(told, "ends"), "all events to be handled")
    assert ends(tmp_path) == [("one", "succeeded"), ("two", "failed")]
    assert told.consumers("ends") == []


def test_what_the_service_could_not_handle_is_parked_and_handled_later(
    told: Told, environment: dict[str, str], tmp_path: Path
) -> None:
    told.tell("train.succeeded", "one")
    once = SERVICE.replace("from_start=True", "from_start=True, tries=1")
    assert once != SERVICE
    (tmp_path / "service.py").write_text(once)
    (tmp_path / "again.py").write_text(snippet(PAGE, "python", "PARKED"))
    # No table can be made where a folder stands.
    (tmp_path / "ends.db").mkdir()
    with running([sys.executable, "service.py"], tmp_path, environment):
        wait_until(lambda: len(told.parked("ends")) == 1, "the event to be parked")
    (tmp_path / "ends.db").rmdir()
    (line,) = run([sys.executable, "again.py"], tmp_path, environment)
    assert line.startswith("train.succeeded one OperationalError: ")
    assert ends(tmp_path) == [("one", "succeeded")]
    assert told.parked("ends") == []


def test_who_looks_through_events_sees_those_that_are_kept_and_ends(
    told: Told, environment: dict[str, str], tmp_path: Path
) -> None:
    told.tell("train.accepted", "one")
    told.tell("train.failed", "one", error={"code": "training_failed", "message": "no luck"})
    (tmp_path / "look.py").write_text(snippet(PAGE, "python", "client.events("))
    (line,) = run([sys.executable, "look.py"], tmp_path, environment)
    assert line.endswith("train.failed one no luck")


@pytest.mark.skipif(not shutil.which("redis-cli"), reason="redis-cli is not on PATH")
def test_the_snippet_for_redis_cli_takes_one_event_each_time_and_acknowledges_it(
    told: Told, environment: dict[str, str], tmp_path: Path
) -> None:
    for subject in ("one", "two"):
        told.tell("train.succeeded", subject, message="of two  words")
    script = snippet(PAGE, "sh", "XREADGROUP")
    seen = []
    for _ in range(2):
        # The first line is what XGROUP says, which for a group that is there is an error.
        _, *lines, count = filter(None, run(["sh", "-c", script], tmp_path, environment))
        seen.append(orjson.loads("".join(lines)))
        assert count == "1"
    assert [event["subject"] for event in seen] == ["one", "two"]
    assert seen[0]["data"] == {"message": "of two  words"}
    assert acknowledged(told, "mail")


def test_the_service_in_node_takes_over_what_another_one_held_and_reads_on(
    told: Told, environment: dict[str, str], tmp_path: Path
) -> None:
    (package,) = re.findall(r"`npm install (redis@\d+)`", PAGE)
    install(tmp_path, package)
    stream = told.names.events()
    held = told.tell("train.succeeded", "held")
    told.redis.xgroup_create(stream, "mail", "0")
    told.redis.xreadgroup("mail", "dead", {stream: ">"})
    told.redis.xclaim(stream, "mail", "dead", 0, [held], idle=61_000)
    told.tell("train.failed", "new")
    (tmp_path / "service.mjs").write_text(snippet(PAGE, "js", "xReadGroup"))
    with running(["node", "service.mjs"], tmp_path, environment) as output:
        wait_until(lambda: acknowledged(told, "mail"), "both events to be acknowledged")
    assert [line.split()[:2] for line in output.read_text().splitlines()] == [
        ["train.succeeded", "held"],
        ["train.failed", "new"],
    ]
