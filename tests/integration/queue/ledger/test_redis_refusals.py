"""Redis answers, and refuses: writes, rights, types. Workers live through it, doctor tells why."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any, cast

import pytest
from redis import Redis

from tests.console import SCRIPT, Console, running_worker, wait_until
from tests.stub_api import Answer, StubApi
from worker.embedded import EmbeddedRedis
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Act = Callable[[Redis, Keys], object]

ITEMS = 200
NOBODY = "00000000-0000-4000-8000-000000000000"
# It fails at once and without a call of the API, but not before it is claimed and run: nobody may
# read such a file. One whose deadline has passed would end without a wake-up or a place.
COMMAND = (
    '{"type":"predict","id":"%s","data":{"task":"classification","data_path":"/nowhere",'
    f'"project_uuid":"{NOBODY}","project_model_uuid":"{NOBODY}","training_uuid":"{NOBODY}"}}}}'
)


def _block_wake_ups(client: Redis, keys: Keys) -> None:
    pipe = client.pipeline(transaction=True)
    pipe.delete(keys.wake_ups)
    pipe.set(keys.wake_ups, "no list")
    pipe.execute()


TROUBLES: dict[str, tuple[Act, Act]] = {
    "too few replicas": (
        lambda client, _: client.config_set("min-replicas-to-write", 1),
        lambda client, _: client.config_set("min-replicas-to-write", 0),
    ),
    "a demoted primary": (
        lambda client, _: client.replicaof("127.0.0.1", 9),
        lambda client, _: client.replicaof("NO", "ONE"),
    ),
    "a full server": (
        lambda client, _: client.config_set("maxmemory", 1),
        lambda client, _: client.config_set("maxmemory", 0),
    ),
    "no right to read lists": (
        lambda client, _: client.acl_setuser("default", enabled=True, commands=["-brpop"]),
        lambda client, _: client.acl_setuser("default", enabled=True, commands=["+brpop"]),
    ),
    "wake-ups in a key of the wrong type": (_block_wake_ups, lambda *_: None),
    "a wake-up that is no message": (
        lambda client, keys: client.lpush(keys.wake_ups, "no JSON", "[]", "{}", "null"),
        lambda *_: None,
    ),
}


# The ledger takes writes all the time; only Celery can send no wake-up, or take none. Nobody waits
# for one: a worker drains by itself what it has accepted.
WITHOUT_WAKE_UPS = {"no right to read lists", "wake-ups in a key of the wrong type"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A server that no other test uses, for its configuration is changed."""
    with EmbeddedRedis(tmp_path_factory.mktemp("refusing")) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[Redis]:
    with Redis.from_url(server.url) as opened:
        yield opened


@pytest.fixture
def stranger(server: EmbeddedRedis) -> Console:
    """The console on a namespace of its own, with an API that is never asked."""
    return Console(
        server.url,
        f"refused-{uuid.uuid4().hex[:8]}",
        TRAINMASTER_BEARER_TOKEN="of-nobody",
        ENCORD_DOMAIN="http://127.0.0.1:9",
        TRAINMASTER_LOG_FORMAT="json",
        TRAINMASTER_SWEEP_SECONDS="0.25",
        TRAINMASTER_SLICE_SECONDS="1",
    )


def ended(client: Redis, keys: Keys, command_id: str) -> bool:
    found = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(keys.events))
    wanted = f'"subject":"{command_id}"'.encode()
    return any(wanted in event[b"event"] and b".failed" in event[b"event"] for _, event in found)


# A full server refuses nothing that Celery's consumer asks; `redis-full` is a scenario of faults.
@pytest.mark.parametrize("trouble", sorted(TROUBLES.keys() - {"a full server"}))
def test_a_worker_outlives(client: Redis, stranger: Console, tmp_path: Path, trouble: str) -> None:
    begin, end = TROUBLES[trouble]
    keys, log = Keys(stranger.namespace), tmp_path / "worker.log"
    if trouble in WITHOUT_WAKE_UPS:
        # No sweep is waited for, either.
        stranger.environment["TRAINMASTER_SWEEP_SECONDS"] = "60"
    with running_worker(stranger, log) as worker:
        client.xadd(keys.commands, {"command": COMMAND % "before"})
        wait_until(lambda: ended(client, keys, "before"), "a command before the trouble")
        begin(client, keys)
        try:
            wait_until(
                lambda: worker.poll() is not None or b"wake_ups.failed" in log.read_bytes(),
                "Celery's consumer has met the trouble",
            )
            if trouble in WITHOUT_WAKE_UPS:
                # Behind the end of the last drain.
                time.sleep(1.5)
                client.xadd(keys.commands, {"command": COMMAND % "meanwhile"})
                wait_until(lambda: ended(client, keys, "meanwhile"), "a drain of its own")
        finally:
            end(client, keys)
        assert worker.poll() is None, log.read_text()
        client.xadd(keys.commands, {"command": COMMAND % "after"})
        wait_until(lambda: ended(client, keys, "after"), "a command after the trouble")


@pytest.mark.parametrize("trouble", ["too few replicas", "a demoted primary", "a full server"])
def test_a_backfill_of_standard_input_that_the_console_leads_outlives(
    server: EmbeddedRedis, client: Redis, tmp_path: Path, trouble: str
) -> None:
    """What was read and not fed yet can't be read again, so the leader has to keep it."""
    begin, end = TROUBLES[trouble]
    body = b'{"result": {"0": []}}'
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    with StubApi(default=Answer(head + body, delay_seconds=0.05)) as api:
        console = Console(
            server.url,
            f"led-{uuid.uuid4().hex[:8]}",
            TRAINMASTER_BEARER_TOKEN="of-nobody",
            ENCORD_DOMAIN=api.url,
            TRAINMASTER_CONCURRENCY="4",
            TRAINMASTER_SWEEP_SECONDS="0.25",
            TRAINMASTER_RETRY_MAX_SECONDS="1",
            TRAINMASTER_RESULT_STORE=str(tmp_path / "results"),
        )
        keys = Keys(console.namespace)
        items = [str(uuid.UUID(int=number)) for number in range(ITEMS)]
        source = tmp_path / "items.jsonl"
        source.write_text("".join(f'{{"data_uuid": "{item}"}}\n' for item in items))
        told = tmp_path / "told"
        with running_worker(console, tmp_path / "worker.log"):
            with source.open() as rows, told.open("w") as out:
                leader = subprocess.Popen(
                    [
                        *(SCRIPT, "backfill", "run", "-", "--format", "jsonl", "--id", "b"),
                        *("--output", str(tmp_path / "out"), "--window", "16"),
                        *("--part-items", "20", "--task", "object_detection"),
                        *("--project", items[1], "--attachment", items[1], "--training", items[1]),
                    ],
                    stdin=rows,
                    stdout=out,
                    stderr=out,
                    env=console.environment,
                )
            try:
                wait_until(
                    lambda: int(client.hget(keys.group("b"), "succeeded") or 0) > ITEMS / 10,
                    "some items have ended",
                )
                begin(client, keys)
                try:
                    wait_until(
                        lambda: leader.poll() is not None or "Redis:" in told.read_text(),
                        "the leader has met the trouble",
                    )
                finally:
                    end(client, keys)
                assert leader.wait(60) == 0, told.read_text()
            finally:
                leader.kill()
                leader.wait()
        assert client.hget(keys.group("b"), "succeeded") == b"%d" % ITEMS
    records = [
        json.loads(line)
        for part in (tmp_path / "out" / "parts").iterdir()
        for line in part.read_text().splitlines()
    ]
    assert sorted(record["data_uuid"] for record in records) == items


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("too few replicas", "min-replicas-to-write is not met"),
        ("a demoted primary", "this server is a replica"),
        ("a full server", "maxmemory is reached"),
    ],
)
def test_doctor_tries_a_write_and_names_the_cause(
    client: Redis, stranger: Console, trouble: str, said: str
) -> None:
    begin, end = TROUBLES[trouble]
    keys = Keys(stranger.namespace)
    begin(client, keys)
    try:
        found = doctor(stranger)
    finally:
        end(client, keys)
    assert found["redis.write"]["level"] == "fail"
    assert said in found["redis.write"]["message"]
    assert found["redis.write"]["advice"]
    assert doctor(stranger)["redis.write"]["level"] == "ok"
    assert 0 < client.pttl(keys.trial) <= 5_000


def test_doctor_names_a_key_that_holds_something_else(client: Redis, stranger: Console) -> None:
    keys = Keys(stranger.namespace)
    assert doctor(stranger)["redis.types"]["level"] == "ok"
    client.set(keys.wake_ups, "no list")
    found = doctor(stranger)["redis.types"]
    assert found["level"] == "fail"
    assert f"{keys.wake_ups} is a string and should be a list" in found["message"]


def test_doctor_and_list_name_lists_of_celery_that_nobody_reads(
    client: Redis, stranger: Console
) -> None:
    keys = Keys(stranger.namespace)
    client.lpush(keys.celery_queue, "{}")
    client.lpush(f"{keys.celery_queue}\x06\x163", "{}")
    client.lpush(keys.celery_processing, "{}")
    assert "celery.lists" not in doctor(stranger)
    assert stranger.run("list").err == ""
    client.lpush(f"{keys.celery_queue}:1", "{}", "{}")
    found = doctor(stranger)["celery.lists"]
    assert f"{keys.celery_queue}:1' holds 2 messages" in found["message"]
    assert "priority_steps" in found["advice"]
    for options in ([], ["--json"]):
        listed = stranger.run("list", *options)
        (line,) = listed.err.splitlines()
        assert f"{keys.celery_queue}:1' holds 2 messages, and no worker reads it" in line
        assert "priority_steps" in line
        assert (listed.code, keys.celery_queue in listed.out) == (0, False)
    # An app may choose any separator.
    client.lpush(f"{keys.celery_queue}|7", "{}")
    told = stranger.run("list").err.splitlines()
    assert [f"{keys.celery_queue}|7' holds 1 message," in line for line in told] == [False, True]


def test_a_user_who_may_not_look_for_keys_can_list_commands(
    server: EmbeddedRedis, client: Redis, stranger: Console
) -> None:
    client.acl_setuser(
        "reader",
        enabled=True,
        passwords=["+made-up"],
        keys=["*"],
        commands=["+@all", "-scan"],
        reset=True,
    )
    url = f"redis://reader:made-up@127.0.0.1:{server.port}/0"
    client.lpush(f"{Keys(stranger.namespace).celery_queue}:1", "{}")
    listed = stranger.run("list", "--redis-url", url, "--state", "accepted")
    assert (listed.code, listed.err) == (0, "")


def doctor(console: Console) -> dict[str, dict[str, Any]]:
    return {line["check"]: line for line in console.run("doctor", "--json").lines}
