"""The witness in the result store: a Redis that was emptied while no worker ran is noticed."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING

import orjson
import pytest
from redis import Redis

from tests.console import SCRIPT, Console, running_worker, wait_until
from worker.embedded import EmbeddedRedis
from worker.queue.ledger.keys import Keys
from worker.queue.pool.results import ResultStore
from worker.queue.pool.witness import Witness
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server that no other test uses, for it is emptied."""
    with EmbeddedRedis(tmp_path / "redis") as running:
        yield running


def console_of(server: EmbeddedRedis, store: str) -> Console:
    return Console(
        server.url,
        "watched",
        TRAINMASTER_BEARER_TOKEN="of-nobody",
        ENCORD_DOMAIN="http://127.0.0.1:9",
        TRAINMASTER_LOG_FORMAT="json",
        TRAINMASTER_RESULT_STORE=store,
    )


def witnesses(store: Path) -> list[Path]:
    return sorted(store.glob("ledgers/*.json"))


def work_once(console: Console, log: Path, store: Path) -> None:
    with running_worker(console, log):
        wait_until(lambda: bool(witnesses(store)), "the worker leaves its witness")


def test_a_redis_that_was_emptied_while_no_worker_ran_stops_who_starts_until_that_is_accepted(
    server: EmbeddedRedis, tmp_path: Path
) -> None:
    store = tmp_path / "results"
    console = console_of(server, str(store))
    keys = Keys(console.namespace)
    with Redis.from_url(server.url) as client:
        work_once(console, tmp_path / "first.log", store)
        (witness,) = witnesses(store)
        first = orjson.loads(witness.read_bytes())
        assert first["epoch"].encode() == client.get(keys.epoch)
        client.flushall()
        said = {each["check"]: each for each in console.run("doctor", "--json").lines}
        assert said["ledger.epoch"]["level"] == "fail"
        assert client.get(keys.epoch) is None, "doctor only looks"
        refused = subprocess.run(
            [SCRIPT, "worker"],
            env=console.environment,
            capture_output=True,
            timeout=180,
            check=False,
        )
        assert refused.returncode == 1, refused.stderr
        assert b"doctor --accept-loss" in refused.stderr
        said = {
            each["check"]: each for each in console.run("doctor", "--accept-loss", "--json").lines
        }
        assert said["ledger.loss"]["message"] == "the loss is accepted; workers start again"
        assert said["ledger.epoch"]["level"] == "ok"
        renewed = orjson.loads(witness.read_bytes())["epoch"]
        assert renewed.encode() == client.get(keys.epoch) != first["epoch"].encode()
        work_once(console, tmp_path / "second.log", store)


def test_a_loss_that_no_worker_has_seen_is_accepted_too(
    server: EmbeddedRedis, tmp_path: Path
) -> None:
    store = tmp_path / "results"
    console = console_of(server, str(store))
    work_once(console, tmp_path / "first.log", store)
    with Redis.from_url(server.url) as client:
        client.flushall()
    console.run("doctor", "--accept-loss", "--json")
    work_once(console, tmp_path / "second.log", store)


def test_a_store_that_can_not_be_reached_keeps_no_worker_from_starting(
    server: EmbeddedRedis, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    log = tmp_path / "worker.log"
    with running_worker(console_of(server, f"{tmp_path}/file/results"), log):
        wait_until(
            lambda: b"ledger.witness_unreachable" in log.read_bytes(), "the worker warns of it"
        )


async def test_another_redis_or_namespace_has_a_witness_of_its_own(tmp_path: Path) -> None:
    store = ResultStore(str(tmp_path / "results"), 1024)

    def witness(url: str, namespace: str = "one") -> Witness:
        return Witness(store, RedisAddress.parse(url), namespace)

    first = witness("redis://user:secret@db.example:6379/0")
    await first.remember("of-the-first")
    assert await witness("redis://:changed@DB.example:6379/0").recall() == "of-the-first"
    for other in (
        witness("redis://db.example:6379/0", "two"),
        witness("redis://db.example:6380/0"),
        witness("redis://db.example:6379/1"),
        witness("redis://other.example:6379/0"),
        witness("sentinel://db.example:6379/0"),
    ):
        assert await other.recall() is None
    assert witness("redis://localhost:1/0").name == witness("redis://127.0.0.1:1/0").name
    assert "secret" not in str([path.read_text() for path in witnesses(tmp_path / "results")])


def test_the_same_loopback_address_on_another_machine_is_another_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines with a Redis each may share a store; a server with a name is the same for all."""
    store = ResultStore(str(tmp_path), 1024)
    names: dict[str, set[str]] = {}
    for machine in ("one", "two"):
        monkeypatch.setattr(socket, "gethostname", lambda named=machine: named)
        for url in ("redis://localhost", "redis://127.0.0.2", "redis://[::1]", "redis://db.one"):
            witness = Witness(store, RedisAddress.parse(url), "shared")
            names.setdefault(url, set()).add(witness.name)
    assert {url: len(found) for url, found in names.items()} == {
        "redis://localhost": 2,
        "redis://127.0.0.2": 2,
        "redis://[::1]": 2,
        "redis://db.one": 1,
    }


def test_the_same_sentinels_in_another_order_are_the_same_redis(tmp_path: Path) -> None:
    store = ResultStore(str(tmp_path), 1024)
    urls = ("sentinel://one:1,two:2/0", "sentinel://two:2,one:1/0")
    names = {Witness(store, RedisAddress.parse(url), "shared").name for url in urls}
    assert len(names) == 1


async def test_what_is_no_witness_is_none(tmp_path: Path) -> None:
    witness = Witness(
        ResultStore(str(tmp_path), 1024), RedisAddress.parse("redis://db.example"), "one"
    )
    await witness.remember("x")
    (path,) = witnesses(tmp_path)
    for text in (b"", b"[]", b"{}", b'{"epoch":1}', b"\xff"):
        path.write_bytes(text)
        assert await witness.recall() is None
